# SPDX-License-Identifier: Apache-2.0
"""Integer arithmetic, logic, shifts, comparison and selection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raddle.codegen.emitter import bit_range
from raddle.codegen.locations import InState
from raddle.ir.builder import Instruction
from raddle.ir.opcodes import Op
from raddle.ir.types import Condition, Field, Type
from raddle_host_x86_64 import conditions as cc
from raddle_host_x86_64.emitter import ANY_LITERAL, SAVE_SLOT, Emitter, Sum, emits, memory_of, register_of
from raddle_host_x86_64.registers import GENERAL, RAX, RBP, RCX, RDX, RSP

_E = Emitter
# Forms of the two-operand instructions: (rr, ri, rI, rm), 32 and 64 bits wide.
_ALU: Final = {
    (Op.ADD, False): (_E.ADD_rr, _E.ADD_ri, _E.ADD_rI, _E.ADD_rm),
    (Op.ADD, True): (_E.ADDQ_rr, _E.ADDQ_ri, _E.ADDQ_rI, _E.ADDQ_rm),
    (Op.SUB, False): (_E.SUB_rr, _E.SUB_ri, _E.SUB_rI, _E.SUB_rm),
    (Op.SUB, True): (_E.SUBQ_rr, _E.SUBQ_ri, _E.SUBQ_rI, _E.SUBQ_rm),
    (Op.ADC, False): (_E.ADC_rr, _E.ADC_ri, _E.ADC_rI, _E.ADC_rm),
    (Op.ADC, True): (_E.ADCQ_rr, _E.ADCQ_ri, _E.ADCQ_rI, _E.ADCQ_rm),
    (Op.SBC, False): (_E.SBB_rr, _E.SBB_ri, _E.SBB_rI, _E.SBB_rm),
    (Op.SBC, True): (_E.SBBQ_rr, _E.SBBQ_ri, _E.SBBQ_rI, _E.SBBQ_rm),
    (Op.AND, False): (_E.AND_rr, _E.AND_ri, _E.AND_rI, _E.AND_rm),
    (Op.AND, True): (_E.ANDQ_rr, _E.ANDQ_ri, _E.ANDQ_rI, _E.ANDQ_rm),
    (Op.OR, False): (_E.OR_rr, _E.OR_ri, _E.OR_rI, _E.OR_rm),
    (Op.OR, True): (_E.ORQ_rr, _E.ORQ_ri, _E.ORQ_rI, _E.ORQ_rm),
    (Op.XOR, False): (_E.XOR_rr, _E.XOR_ri, _E.XOR_rI, _E.XOR_rm),
    (Op.XOR, True): (_E.XORQ_rr, _E.XORQ_ri, _E.XORQ_rI, _E.XORQ_rm),
    (Op.ICMP, False): (_E.CMP_rr, _E.CMP_ri, _E.CMP_rI, _E.CMP_rm),
    (Op.ICMP, True): (_E.CMPQ_rr, _E.CMPQ_ri, _E.CMPQ_rI, _E.CMPQ_rm),
}
_MIN32: Final = -(1 << 31)
_Moves = Callable[[Emitter, int, int], None]
_Loads = Callable[[Emitter, int, int, int], None]


def signed(number: int, wide: bool) -> int:
    """The constant as a signed number of 64 or 32 bits, as immediates are."""
    bits = 64 if wide else 32
    return number - (1 << bits) if number >> (bits - 1) else number


def copy(e: Emitter, target: int, source: int, wide: bool) -> None:
    if target != source:
        if wide:
            e.MOVQ_rr(target, source)
        else:
            e.MOV_rr(target, source)


def apply(e: Emitter, op: Op, wide: bool, target: int, b: Instruction, b_register: int = -1) -> None:
    """target = target op b. `b_register` is the register to which b was moved beforehand, or -1."""
    rr, ri, rI, rm = _ALU[op, wide]
    if b_register >= 0:
        rr(e, target, b_register)
    elif b.op is Op.CONST:
        assert isinstance(b.aux, int)
        number = signed(b.aux, wide)
        if _MIN32 <= number < 1 << 31:
            ri(e, target, number)
        else:
            e.constant(RCX, b)
            rr(e, target, RCX)
    elif b.op is Op.HOLE:
        rI(e, target, 0)
        e.hole(b)
    else:
        register, place = register_of(b), memory_of(b)
        if place is None:
            rr(e, target, register)
        elif b.type is Type.I1:
            e.move(RCX, b)
            rr(e, target, RCX)
        else:
            rm(e, target, *place)


def state_offset(value: Instruction) -> int | None:
    """The offset in the guest's state of a 32- or 64-bit value that is there; None for other values."""
    location = value.location
    return location.offset if isinstance(location, InState) and value.type is not Type.I1 else None


def compare(e: Emitter, wide: bool, a: Instruction, b: Instruction) -> None:
    """Set the host's flags as a - b does."""
    offset = state_offset(a)
    if offset is not None:
        mr, mi, mI = (_E.CMPQ_mr, _E.CMPQ_mi, _E.CMPQ_mI) if wide else (_E.CMP_mr, _E.CMP_mi, _E.CMP_mI)
        if b.op is Op.HOLE:
            mI(e, RBP, offset, 0)
            e.hole(b)
            return
        if b.op is Op.CONST:
            assert isinstance(b.aux, int)
            number = signed(b.aux, wide)
            if _MIN32 <= number < 1 << 31:
                mi(e, RBP, offset, number)
                return
        elif register_of(b) >= 0:
            mr(e, RBP, offset, register_of(b))
            return
    apply(e, Op.ICMP, wide, e.use(a, RDX), b)


def two_address(e: Emitter, ins: Instruction, op: Op, wide: bool, commutative: bool) -> int:
    """result = a op b with the host's two-operand instruction; returns the result's register."""
    a, b = ins.args[0], ins.args[1]
    target = e.define(ins, ins.args)
    b_register = -1
    if register_of(b) == target != register_of(a):
        if commutative and a.op > Op.HOLE:
            a, b = b, a
        else:
            copy(e, RCX, target, wide)
            b_register = RCX
    e.move(target, a)
    apply(e, op, wide, target, b, b_register)
    return target


@emits(Op.ADD, Op.SUB)
def add_sub(e: Emitter, ins: Instruction) -> None:
    wide = ins.type is Type.I64
    flags = ins in e.flag_readers
    if not flags and (_left_to_access(e, ins, wide) or as_lea(e, ins, wide) or _in_place(e, ins, ins.op is Op.ADD)):
        return
    a = ins.args[0]
    if flags and ins.op is Op.SUB and ins.last_use >= 0 and ins.uses == len(e.flag_readers[ins]) and a.op > Op.HOLE:
        # Only the flags are needed: a comparison.
        ins.location = GENERAL[RDX]
        compare(e, wide, a, ins.args[1])
    else:
        two_address(e, ins, ins.op, wide, ins.op is Op.ADD)
    e.clobber()
    e.flags_value = ins
    if flags:
        e.capture_flags(ins, ins.op is Op.SUB)


def _left_to_access(e: Emitter, ins: Instruction, wide: bool) -> bool:
    """Leave the sum to the access whose address it is, if an access can add it up by itself and only reads of fields
    are between. Returns whether it did. Addresses of 32 bits may wrap around, which an access does not.
    """
    user = e.function[ins.last_use]
    base, literal = ins.args
    if user.op not in (Op.LOAD, Op.STORE) or ins.uses != 1 or user.args[0] is not ins or not wide:
        return False
    if ins.op is Op.SUB or literal.op is not Op.HOLE or not e.is_pinned(base):
        return False
    field = base.aux
    assert isinstance(field, Field)
    between = e.function[ins.position + 1 : user.position]
    if base.location is not e.pinned[field.offset] or any(other.op is not Op.GET for other in between):
        return False
    ins.location = Sum(register_of(base), literal)
    return True


def as_lea(e: Emitter, ins: Instruction, wide: bool) -> bool:
    """Emit the addition as LEA, which changes neither the host's flags nor an operand. Returns whether it did."""
    a, b = ins.args
    lea_m, lea_x = (_E.LEAQ_rm, _E.LEAQ_rx) if wide else (_E.LEA_rm, _E.LEA_rx)
    base = register_of(a)
    if base < 0:
        return False
    if b.op is Op.CONST:
        assert isinstance(b.aux, int)
        number = signed(b.aux, wide)
        if ins.op is Op.SUB:
            number = -number
        if not _MIN32 <= number < 1 << 31:
            return False
        lea_m(e, e.define(ins, ins.args), base, number)
        return True
    if ins.op is Op.SUB:
        return False
    if b.op is Op.HOLE:
        lea_m(e, e.define(ins, ins.args), base, ANY_LITERAL)
        e.hole(b)
        return True
    index = register_of(b)
    if index >= 0:
        lea_x(e, e.define(ins, ins.args), base, index, 1, 0)
        return True
    return False


@emits(Op.ADC, Op.SBC)
def adc_sbc(e: Emitter, ins: Instruction) -> None:
    wide = ins.type is Type.I64
    a, b, carry = ins.args
    subtract = ins.op is Op.SBC
    carry_register = e.use(carry, RCX) if carry.op > Op.HOLE else -1
    target = e.define(ins, ins.args)
    b_register = -1
    if target == carry_register:
        copy(e, RCX, target, False)
        carry_register = RCX
    if register_of(b) == target != register_of(a):
        # The move of a to the target overwrites b: keep b in RDX.
        if not subtract and a.op > Op.HOLE:
            a, b = b, a
        else:
            copy(e, RDX, target, wide)
            b_register = RDX
    if carry_register < 0:
        e.move(target, a)
        if bool(carry.aux) != subtract:
            e.STC()
        else:
            e.CLC()
    else:
        e.move(target, a)
        if carry_register != RCX:
            e.MOV_rr(RCX, carry_register)
        if subtract:
            e.CMPB_ri(RCX, 1)
        else:
            e.ADDB_ri(RCX, -1)
    if b.op is Op.CONST and not _MIN32 <= signed(int(str(b.aux)), wide) < 1 << 31:
        e.constant(RCX, b)
        b_register = RCX
    apply(e, ins.op, wide, target, b, b_register)
    e.clobber()
    if ins in e.flag_readers:
        e.capture_flags(ins, subtract)


_IN_PLACE: Final = {
    Op.ADD: (_E.ADDQ_mr, _E.ADDQ_mi, _E.ADDQ_mI),
    Op.SUB: (_E.SUBQ_mr, _E.SUBQ_mi, _E.SUBQ_mI),
    Op.AND: (_E.ANDQ_mr, _E.ANDQ_mi, _E.ANDQ_mI),
    Op.OR: (_E.ORQ_mr, _E.ORQ_mi, _E.ORQ_mI),
    Op.XOR: (_E.XORQ_mr, _E.XORQ_mi, _E.XORQ_mI),
}  # fmt: skip


def _in_place(e: Emitter, ins: Instruction, commutative: bool) -> bool:
    """Emit an operation on a field in the state and the store of its result to that field as one instruction, if that
    is all. Returns whether it did.
    """
    store = e.next_is(Op.SET)
    if store is None or ins.type is not Type.I64 or ins.uses != 1 or store.args[0] is not ins:
        return False
    field = store.aux
    assert isinstance(field, Field)
    a, b = ins.args
    if commutative and state_offset(a) != field.offset:
        a, b = b, a
    # A value in the state is read once only, so that b is another one.
    if state_offset(a) != field.offset:
        return False
    mr, mi, mI = _IN_PLACE[ins.op]
    if b.op is Op.HOLE:
        mI(e, RBP, field.offset, 0)
        e.hole(b)
    elif b.op is Op.CONST and _MIN32 <= (number := signed(int(str(b.aux)), True)) < 1 << 31:
        mi(e, RBP, field.offset, number)
    else:
        mr(e, RBP, field.offset, e.use(b, RCX))
    e.clobber()
    e.done.add(store.position)
    return True


_ZERO_EXTENSIONS: Final = {
    0xFF: (_E.MOVZXB_rr, _E.MOVZXB_rm),
    0xFFFF: (_E.MOVZXW_rr, _E.MOVZXW_rm),
    0xFFFF_FFFF: (_E.MOV_rr, _E.MOV_rm),
}


def _zero_extended(e: Emitter, ins: Instruction) -> bool:
    """Emit the conjunction of 64 bits as a zero extension, which changes no flags, if it is one. Returns whether it
    did.
    """
    value, mask = ins.args
    found = _ZERO_EXTENSIONS.get(mask.aux) if mask.op is Op.CONST and isinstance(mask.aux, int) else None
    if found is None:
        return False
    _extended(e, ins, value, *found)
    return True


def _extended(e: Emitter, ins: Instruction, value: Instruction, rr: _Moves, rm: _Loads) -> None:
    """Emit the extension of the low bits of `value`, in a register or in memory."""
    place = memory_of(value)
    if place is not None:
        rm(e, e.define(ins, ins.args), *place)
    else:
        source = e.use(value, RCX)
        rr(e, e.define(ins, ins.args), source)


@emits(Op.AND, Op.OR, Op.XOR)
def logic(e: Emitter, ins: Instruction) -> None:
    if ins.type is Type.I64 and (
        (ins.op is Op.AND and _zero_extended(e, ins)) or _one_bit(e, ins) or _in_place(e, ins, True)
    ):
        return
    two_address(e, ins, ins.op, ins.type is Type.I64, True)
    e.clobber()
    if ins.type is not Type.I1:
        e.flags_value = ins


def _one_bit(e: Emitter, ins: Instruction) -> bool:
    """Clear, set or invert one bit if the constant for it is out of immediates' reach. Returns whether it did."""
    value, constant = ins.args
    if constant.op is not Op.CONST:
        return False
    assert isinstance(constant.aux, int)
    bit = constant.aux ^ ((1 << 64) - 1 if ins.op is Op.AND else 0)
    if bit & (bit - 1) or bit < 1 << 31:
        return False
    target = e.define(ins, ins.args)
    e.move(target, value)
    (e.BTRQ_ri if ins.op is Op.AND else e.BTSQ_ri if ins.op is Op.OR else e.BTCQ_ri)(target, bit.bit_length() - 1)
    e.clobber()
    return True


def _and_not(e: Emitter, ins: Instruction) -> bool:
    """Emit the complement `ins` and the next instruction as one ANDN, if that is a conjunction and the complement's
    only use. Returns whether it did.
    """
    conjunction = e.next_is(Op.AND)
    if not e.features.bmi1 or conjunction is None or ins.uses != 1 or ins.last_use != conjunction.position:
        return False
    a, b = conjunction.args
    other = b if a is ins else a
    if ins.type is Type.I1 or other.op <= Op.HOLE or ins.args[0].op <= Op.HOLE:
        return False
    complemented, kept = e.use(ins.args[0], RDX), e.use(other, RCX)
    e.position = conjunction.position
    target = e.define(conjunction, conjunction.args)
    (e.ANDNQ_rrr if ins.type is Type.I64 else e.ANDN_rrr)(target, complemented, kept)
    e.clobber()
    e.flags_value = conjunction
    e.finish_ahead(e.position)
    return True


@emits(Op.NOT)
def not_(e: Emitter, ins: Instruction) -> None:
    if _and_not(e, ins):
        return
    target = e.define(ins, ins.args)
    e.move(target, ins.args[0])
    if ins.type is Type.I64:
        e.NOTQ_r(target)
    elif ins.type is Type.I32:
        e.NOT_r(target)
    else:
        e.XOR_ri(target, 1)
        e.clobber()


@emits(Op.NEG)
def neg(e: Emitter, ins: Instruction) -> None:
    target = e.define(ins, ins.args)
    e.move(target, ins.args[0])
    if ins.type is Type.I64:
        e.NEGQ_r(target)
    else:
        e.NEG_r(target)
    e.clobber()


@emits(Op.MUL)
def mul(e: Emitter, ins: Instruction) -> None:
    wide = ins.type is Type.I64
    a, b = ins.args
    offset = state_offset(b)
    if offset is not None:
        target = e.define(ins, ins.args)
        e.move(target, a)
        (e.IMULQ_rm if wide else e.IMUL_rm)(target, RBP, offset)
        e.clobber()
        return
    if b.op <= Op.HOLE:
        e.move(RCX, b)
        b_register = RCX
    else:
        b_register = e.use(b, RCX)
    target = e.define(ins, ins.args)
    if target == b_register and register_of(a) != target:
        a_register = e.use(a, RCX)
        (e.IMULQ_rr if wide else e.IMUL_rr)(target, a_register)
    else:
        e.move(target, a)
        (e.IMULQ_rr if wide else e.IMUL_rr)(target, b_register)
    e.clobber()


def fixed_rax_rdx(e: Emitter, ins: Instruction, a: Instruction, b: Instruction) -> int:
    """Bring a into rax and b into rcx for an instruction that works in rdx:rax. The save slot keeps rax's value.

    Returns the result's register. Finish with `restore_rax`.
    """
    e.move(RCX, b)
    if not e.general.is_free(RAX):
        e.MOVQ_mr(RSP, 8 * SAVE_SLOT, RAX)
    e.move(RAX, a)
    return e.define(ins, ins.args)


def restore_rax(e: Emitter, target: int, result: int, busy: bool) -> None:
    """Move `result` (rax or rdx) to `target`. If rax was `busy`, restore its value."""
    copy(e, target, result, True)
    if busy and target != RAX:
        e.MOVQ_rm(RAX, RSP, 8 * SAVE_SLOT)


@emits(Op.UMULH, Op.SMULH)
def mulh(e: Emitter, ins: Instruction) -> None:
    wide = ins.type is Type.I64
    busy = not e.general.is_free(RAX)
    target = fixed_rax_rdx(e, ins, *ins.args)
    if ins.op is Op.UMULH:
        (e.MULQ_r if wide else e.MUL_r)(RCX)
    else:
        (e.IMULQ_r if wide else e.IMUL_r)(RCX)
    restore_rax(e, target, RDX, busy)
    e.clobber()


@emits(Op.UDIV, Op.SDIV)
def div(e: Emitter, ins: Instruction) -> None:
    """The host traps where the IR defines a result: division by zero, and the minimum by -1."""
    wide = ins.type is Type.I64
    busy = not e.general.is_free(RAX)
    target = fixed_rax_rdx(e, ins, *ins.args)
    zero, end = e.label(), e.label()
    (e.TESTQ_rr if wide else e.TEST_rr)(RCX, RCX)
    e.Jcc_near(cc.E, zero)
    if ins.op is Op.UDIV:
        e.XOR_rr(RDX, RDX)
        (e.DIVQ_r if wide else e.DIV_r)(RCX)
    else:
        divide = e.label()
        (e.CMPQ_ri if wide else e.CMP_ri)(RCX, -1)
        e.Jcc_near(cc.NE, divide)
        (e.NEGQ_r if wide else e.NEG_r)(RAX)
        e.JMP_near(end)
        e.bind(divide)
        if wide:
            e.CQO()
        else:
            e.CDQ()
        (e.IDIVQ_r if wide else e.IDIV_r)(RCX)
    e.JMP_near(end)
    e.bind(zero)
    e.XOR_rr(RAX, RAX)
    e.bind(end)
    restore_rax(e, target, RAX, busy)
    e.clobber()


_SHIFTS: Final = {
    (Op.SHL, False): (_E.SHL_ri, _E.SHL_rc), (Op.SHL, True): (_E.SHLQ_ri, _E.SHLQ_rc),
    (Op.SHR, False): (_E.SHR_ri, _E.SHR_rc), (Op.SHR, True): (_E.SHRQ_ri, _E.SHRQ_rc),
    (Op.SAR, False): (_E.SAR_ri, _E.SAR_rc), (Op.SAR, True): (_E.SARQ_ri, _E.SARQ_rc),
    (Op.ROR, False): (_E.ROR_ri, _E.ROR_rc), (Op.ROR, True): (_E.RORQ_ri, _E.RORQ_rc),
}  # fmt: skip
_SHIFTS_BY_REGISTER: Final = {
    (Op.SHL, False): _E.SHLX_rrr, (Op.SHL, True): _E.SHLXQ_rrr,
    (Op.SHR, False): _E.SHRX_rrr, (Op.SHR, True): _E.SHRXQ_rrr,
    (Op.SAR, False): _E.SARX_rrr, (Op.SAR, True): _E.SARXQ_rrr,
}  # fmt: skip
"""Of BMI2: with the count in any register, and without an effect on flags."""
_SHIFT_OPS: Final = frozenset({Op.SHL, Op.SHR, Op.SAR, Op.ROR})


def _scaled_sum(e: Emitter, ins: Instruction, wide: bool, scale: int) -> bool:
    """Emit the shift `ins` and the next instruction as one LEA, if that is an addition and the shift's only use.
    Returns whether it did.
    """
    add = e.next_is(Op.ADD)
    if add is None or ins.uses != 1 or ins.last_use != add.position or add in e.flag_readers:
        return False
    other = add.args[1] if add.args[0] is ins else add.args[0]
    if other.op is Op.CONST or ins.args[0].op <= Op.HOLE:
        return False
    index = e.use(ins.args[0], RCX)
    base = -1 if other.op is Op.HOLE else e.use(other, RDX)
    e.position = add.position
    target = e.define(add, add.args)
    if base < 0:
        (e.LEAQ_rs if wide else e.LEA_rs)(target, index, scale, ANY_LITERAL)
        e.hole(other)
    else:
        (e.LEAQ_rx if wide else e.LEA_rx)(target, base, index, scale, 0)
    e.finish_ahead(e.position)
    return True


@emits(Op.SHL, Op.SHR, Op.SAR, Op.ROR)
def shift(e: Emitter, ins: Instruction) -> None:
    wide = ins.type is Type.I64
    by_immediate, by_cl = _SHIFTS[ins.op, wide]
    a, n = ins.args
    if n.op is Op.CONST:
        assert isinstance(n.aux, int)
        count = n.aux & (63 if wide else 31)
        if ins.op is Op.SHL and 1 <= count <= 3 and _scaled_sum(e, ins, wide, 1 << count):
            return
        source = register_of(a)
        if ins.op is Op.SHL and 1 <= count <= 3 and source >= 0:
            target = e.define(ins, ins.args)
            if source != target:
                (e.LEAQ_rs if wide else e.LEA_rs)(target, source, 1 << count, 0)
                return
        else:
            target = e.define(ins, ins.args)
        e.move(target, a)
        if count:
            by_immediate(e, target, count)
            e.clobber()
        return
    if n.op is Op.HOLE:
        target = e.define(ins, ins.args)
        e.move(target, a)
        by_immediate(e, target, 8)  # any count but 1, which has an encoding of its own
        e.hole8(n)
        e.clobber()
        return
    by_register = _SHIFTS_BY_REGISTER.get((ins.op, wide))
    if e.features.bmi2 and by_register is not None:
        count, source = e.use(n, RCX), e.use(a, RDX)
        by_register(e, e.define(ins, ins.args), count, source)
        return
    e.move(RCX, n)
    target = e.define(ins, ins.args)
    e.move(target, a)
    by_cl(e, target)
    e.clobber()


@emits(Op.CLZ)
def clz(e: Emitter, ins: Instruction) -> None:
    wide = ins.type is Type.I64
    source = e.use(ins.args[0], RCX)
    if e.features.lzcnt:
        target = e.define(ins, ins.args)
        (e.LZCNTQ_rr if wide else e.LZCNT_rr)(target, source)
    else:
        # For 0, BSR leaves its target alone and sets ZF. XOR turns the number of a bit into a count.
        (e.BSRQ_rr if wide else e.BSR_rr)(RCX, source)
        target = e.define(ins, ins.args)
        e.MOV_ri(RDX, 127 if wide else 63)
        e.CMOVcc_rr(cc.E, RCX, RDX)
        e.XOR_ri(RCX, 63 if wide else 31)
        copy(e, target, RCX, False)
    e.clobber()


@emits(Op.CTZ)
def ctz(e: Emitter, ins: Instruction) -> None:
    wide = ins.type is Type.I64
    source = e.use(ins.args[0], RCX)
    (e.BSFQ_rr if wide else e.BSF_rr)(RCX, source)
    e.MOV_ri(RDX, 64 if wide else 32)
    e.CMOVcc_rr(cc.E, RCX, RDX)
    copy(e, e.define(ins, ins.args), RCX, False)
    e.clobber()


@emits(Op.POPCNT)
def popcnt(e: Emitter, ins: Instruction) -> None:
    wide = ins.type is Type.I64
    if e.features.popcnt:
        source = e.use(ins.args[0], RCX)
        target = e.define(ins, ins.args)
        (e.POPCNTQ_rr if wide else e.POPCNT_rr)(target, source)
        e.clobber()
        return
    # Add neighbouring bits, then pairs, then nibbles; a multiplication adds all bytes.
    e.move(RCX, ins.args[0])
    target = e.define(ins, ins.args)
    for width, mask in ((1, 0x5555555555555555), (2, 0x3333333333333333), (4, 0x0F0F0F0F0F0F0F0F)):
        e.MOVQ_rr(RDX, RCX)
        e.SHRQ_ri(RDX, width)
        _and_constant(e, RDX, mask)
        _and_constant(e, RCX, mask)
        e.ADDQ_rr(RCX, RDX)
    e.MOVABS_ri(RDX, 0x0101010101010101)
    e.IMULQ_rr(RCX, RDX)
    e.SHRQ_ri(RCX, 56)
    copy(e, target, RCX, False)
    e.clobber()


def _and_constant(e: Emitter, register: int, mask: int) -> None:
    """register &= a 64-bit mask, through the frame's save slot."""
    e.MOV_mi(RSP, 8 * SAVE_SLOT, mask & 0xFFFFFFFF)
    e.MOV_mi(RSP, 8 * SAVE_SLOT + 4, mask >> 32)
    e.ANDQ_rm(register, RSP, 8 * SAVE_SLOT)


@emits(Op.BSWAP)
def bswap(e: Emitter, ins: Instruction) -> None:
    target = e.define(ins, ins.args)
    e.move(target, ins.args[0])
    (e.BSWAPQ_r if ins.type is Type.I64 else e.BSWAP_r)(target)


@emits(Op.BITREV)
def bitrev(e: Emitter, ins: Instruction) -> None:
    """Reverse the bytes with BSWAP, then nibbles, pairs and bits within each byte."""
    wide = ins.type is Type.I64
    e.move(RCX, ins.args[0])
    target = e.define(ins, ins.args)
    (e.BSWAPQ_r if wide else e.BSWAP_r)(RCX)
    for width, mask in ((4, 0x0F0F0F0F0F0F0F0F), (2, 0x3333333333333333), (1, 0x5555555555555555)):
        e.MOVQ_rr(RDX, RCX)
        e.SHRQ_ri(RDX, width)
        _and_constant(e, RDX, mask)
        _and_constant(e, RCX, mask)
        e.SHLQ_ri(RCX, width)
        e.ORQ_rr(RCX, RDX)
    copy(e, target, RCX, wide)
    e.clobber()


_EXTENSIONS: Final = {
    (Op.SEXT8, False): _E.MOVSXB_rr, (Op.SEXT8, True): _E.MOVSXBQ_rr,
    (Op.SEXT16, False): _E.MOVSXW_rr, (Op.SEXT16, True): _E.MOVSXWQ_rr,
    (Op.ZEXT8, False): _E.MOVZXB_rr, (Op.ZEXT8, True): _E.MOVZXB_rr,
    (Op.ZEXT16, False): _E.MOVZXW_rr, (Op.ZEXT16, True): _E.MOVZXW_rr,
    (Op.SEXT, True): _E.MOVSXD_rr,
}  # fmt: skip


@emits(Op.SEXT8, Op.SEXT16, Op.ZEXT8, Op.ZEXT16, Op.SEXT)
def extend(e: Emitter, ins: Instruction) -> None:
    source = e.use(ins.args[0], RCX)
    _EXTENSIONS[ins.op, ins.type is Type.I64](e, e.define(ins, ins.args), source)


@emits(Op.ZEXT)
def zext(e: Emitter, ins: Instruction) -> None:
    if not e.stays_pinned(ins):
        e.move(e.define(ins, ins.args), ins.args[0])


def _only_counts(e: Emitter, ins: Instruction) -> bool:
    """Whether the value is used only as the count of a shift, which takes no notice of the bits above."""
    user = e.function[ins.last_use]
    return ins.uses == 1 and user.op in _SHIFT_OPS and user.args[1] is ins


@emits(Op.TRUNC)
def trunc(e: Emitter, ins: Instruction) -> None:
    counts = _only_counts(e, ins)
    if counts and e.stays_pinned(ins):
        return
    place = memory_of(ins.args[0])
    if place is not None:
        target = e.define(ins, ins.args)
        e.MOV_rm(target, *place)
    else:
        source = e.use(ins.args[0], RCX)
        target = e.define(ins, ins.args)
        if not counts or target != source:
            e.MOV_rr(target, source)
    if ins.type is Type.I1:
        e.AND_ri(target, 1)
        e.clobber()


@emits(Op.EXTRACT)
def extract(e: Emitter, ins: Instruction) -> None:
    wide = ins.type is Type.I64
    lsb, width = bit_range(ins)
    bits = 64 if wide else 32
    source = e.use(ins.args[0], RCX)
    target = e.define(ins, ins.args)
    if lsb == 0 and width in (8, 16):
        (e.MOVZXB_rr if width == 8 else e.MOVZXW_rr)(target, source)
        return
    if lsb == 0 and width == 32:
        e.MOV_rr(target, source)
        return
    copy(e, target, source, wide)
    if lsb + width == bits:
        if lsb:
            (e.SHRQ_ri if wide else e.SHR_ri)(target, lsb)
            e.clobber()
        return
    if width <= 31:
        if lsb:
            (e.SHRQ_ri if wide else e.SHR_ri)(target, lsb)
        e.AND_ri(target, (1 << width) - 1)
    else:
        e.SHLQ_ri(target, 64 - lsb - width)
        e.SHRQ_ri(target, 64 - width)
    e.clobber()


_SIGN_EXTENSIONS: Final = {
    8: ((_E.MOVSXB_rr, _E.MOVSXB_rm), (_E.MOVSXBQ_rr, _E.MOVSXBQ_rm)),
    16: ((_E.MOVSXW_rr, _E.MOVSXW_rm), (_E.MOVSXWQ_rr, _E.MOVSXWQ_rm)),
    32: ((_E.MOV_rr, _E.MOV_rm), (_E.MOVSXD_rr, _E.MOVSXD_rm)),
}
"""By width: the forms of 32 and of 64 bits."""


@emits(Op.SEXTRACT)
def sextract(e: Emitter, ins: Instruction) -> None:
    wide = ins.type is Type.I64
    lsb, width = bit_range(ins)
    bits = 64 if wide else 32
    if lsb == 0 and width in _SIGN_EXTENSIONS:
        _extended(e, ins, ins.args[0], *_SIGN_EXTENSIONS[width][wide])
        return
    source = e.use(ins.args[0], RCX)
    target = e.define(ins, ins.args)
    copy(e, target, source, wide)
    if bits - lsb - width:
        (e.SHLQ_ri if wide else e.SHL_ri)(target, bits - lsb - width)
    if bits - width:
        (e.SARQ_ri if wide else e.SAR_ri)(target, bits - width)
    e.clobber()


@emits(Op.DEPOSIT)
def deposit(e: Emitter, ins: Instruction) -> None:
    wide = ins.type is Type.I64
    lsb, width = bit_range(ins)
    bits = 64 if wide else 32
    e.move(RCX, ins.args[1])
    target = e.define(ins, ins.args)
    if width == bits:
        copy(e, target, RCX, wide)
        return
    # In rcx: the field without what is above it, shifted to its place.
    (e.SHLQ_ri if wide else e.SHL_ri)(RCX, bits - width)
    if bits - width - lsb:
        (e.SHRQ_ri if wide else e.SHR_ri)(RCX, bits - width - lsb)
    e.move(target, ins.args[0])
    keep = ~(((1 << width) - 1) << lsb) & ((1 << bits) - 1)
    immediate = signed(keep, wide)
    if _MIN32 <= immediate < 1 << 31:
        (e.ANDQ_ri if wide else e.AND_ri)(target, immediate)
    else:
        _and_constant(e, target, keep)
    (e.ORQ_rr if wide else e.OR_rr)(target, RCX)
    e.clobber()


@emits(Op.BIT)
def bit(e: Emitter, ins: Instruction) -> None:
    value, n = ins.args
    wide = value.type is Type.I64
    register = e.use(value, RCX)
    if n.op is Op.CONST:
        assert isinstance(n.aux, int)
        (e.BTQ_ri if wide else e.BT_ri)(register, n.aux & (63 if wide else 31))
    else:
        (e.BTQ_rr if wide else e.BT_rr)(register, e.use(n, RDX))
    e.clobber()
    e.result_flag(ins, cc.B)


_CONDITIONS: Final = {
    Condition.EQ: cc.E, Condition.NE: cc.NE, Condition.ULT: cc.B, Condition.UGE: cc.AE, Condition.ULE: cc.BE,
    Condition.UGT: cc.A, Condition.SLT: cc.L, Condition.SGE: cc.GE, Condition.SLE: cc.LE, Condition.SGT: cc.G,
}  # fmt: skip


@emits(Op.ICMP)
def icmp(e: Emitter, ins: Instruction) -> None:
    a, b = ins.args
    wide = a.type is Type.I64
    condition = ins.aux
    assert isinstance(condition, Condition)
    if b.op is Op.CONST and b.aux == 0 and condition in (Condition.EQ, Condition.NE) and state_offset(a) is None:
        register = e.use(a, RDX)
        (e.TESTQ_rr if wide else e.TEST_rr)(register, register)
    else:
        compare(e, wide, a, b)
    e.clobber()
    e.result_flag(ins, _CONDITIONS[condition])


@emits(Op.SELECT)
def select(e: Emitter, ins: Instruction) -> None:
    condition, a, b = ins.args
    code = e.condition(condition)
    wide = ins.type is Type.I64
    a_register = e.use(a, RDX)
    b_register = e.use(b, RCX)
    target = e.define(ins, ins.args)
    if target == b_register and register_of(a) != target:
        (e.CMOVccQ_rr if wide else e.CMOVcc_rr)(code, target, a_register)
    else:
        copy(e, target, a_register, wide)
        (e.CMOVccQ_rr if wide else e.CMOVcc_rr)(code ^ 1, target, b_register)
    e.clobber()
