# SPDX-License-Identifier: Apache-2.0
"""Integer arithmetic, logic, shifts, comparison and selection."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from raddle.codegen.emitter import bit_range, is_wide
from raddle.codegen.fields import FieldKind
from raddle.ir.builder import Instruction, Location
from raddle.ir.opcodes import Op
from raddle.ir.types import Condition, FlagCondition, Hole, Type
from raddle_host_aarch64 import conditions as cc
from raddle_host_aarch64.emit.state import guest_flags, take_nz
from raddle_host_aarch64.emitter import FUSED, IN_CARRY, SCRATCH, SCRATCH2, SCRATCH3, Emitter, emits
from raddle_host_aarch64.encoding import is_arithmetic, is_logical
from raddle_host_aarch64.fields import AMOUNT, BIT12, HIGH12, LITERAL12, LOW12, MIDDLE16, SHIFT
from raddle_host_aarch64.registers import GENERAL, ZR

_E = Emitter
_Method = Callable[..., None]


def number_of(value: Instruction) -> int | None:
    """The number, unsigned, of a constant."""
    if value.op is not Op.CONST:
        return None
    assert isinstance(value.aux, int)
    return value.aux


# -- addition and subtraction ------------------------------------------------------------------------------------------

_SUMS: Final = {
    (Op.ADD, False, False): (_E.ADD_www, _E.ADD_wwi), (Op.ADD, False, True): (_E.ADDS_www, _E.ADDS_wwi),
    (Op.ADD, True, False): (_E.ADD_xxx, _E.ADD_xxi), (Op.ADD, True, True): (_E.ADDS_xxx, _E.ADDS_xxi),
    (Op.SUB, False, False): (_E.SUB_www, _E.SUB_wwi), (Op.SUB, False, True): (_E.SUBS_www, _E.SUBS_wwi),
    (Op.SUB, True, False): (_E.SUB_xxx, _E.SUB_xxi), (Op.SUB, True, True): (_E.SUBS_xxx, _E.SUBS_xxi),
}  # fmt: skip
"""By operation, whether 64 bits wide and whether flags are set: with a register and with an immediate."""
_OPPOSITE: Final = {Op.ADD: Op.SUB, Op.SUB: Op.ADD}
_SHIFTED_SUMS: Final = {
    (Op.ADD, False, False): _E.ADD_www_lsl, (Op.ADD, False, True): _E.ADDS_www_lsl,
    (Op.ADD, True, False): _E.ADD_xxx_lsl, (Op.ADD, True, True): _E.ADDS_xxx_lsl,
    (Op.SUB, False, False): _E.SUB_www_lsl, (Op.SUB, False, True): _E.SUBS_www_lsl,
    (Op.SUB, True, False): _E.SUB_xxx_lsl, (Op.SUB, True, True): _E.SUBS_xxx_lsl,
}  # fmt: skip
"""The same with a register that is shifted left."""


class Sum(NamedTuple):
    """An addition or subtraction whose operands are in place: one or two instructions are left."""

    method: _Method
    a: int
    """A register."""
    b: int
    """A register or an immediate, as the method wants it."""
    literal: Instruction | None = None
    """What is filled in as the immediate."""
    field: FieldKind = LITERAL12
    """Which part of the literal goes into the instruction."""
    correction: _Method | None = None
    """The opposite instruction: it corrects the result by 1 << 12 if the literal is negative, since the immediate has
    only the literal's low twelve bits."""


def prepare_sum(e: Emitter, op: Op, wide: bool, flags: bool, a: Instruction, b: Instruction) -> Sum:
    """Bring the operands of a + b or a - b into place. The result's register is not needed yet: it may be an
    operand's."""
    with_register, with_immediate = _SUMS[op, wide, flags]
    number = number_of(b)
    if number is not None:
        if is_arithmetic(number):
            return Sum(with_immediate, e.use(a, SCRATCH), number)
        opposite = -number & ((1 << 64 if wide else 1 << 32) - 1)
        if is_arithmetic(opposite):
            # a - b is a + (not b) + 1, so unless b is 0 its flags are those of a + -b.
            return Sum(_SUMS[_OPPOSITE[op], wide, flags][1], e.use(a, SCRATCH), opposite)
    elif b.op is Op.HOLE:
        assert isinstance(b.aux, Hole)
        (low, high), step = b.aux.range, b.aux.step
        if low >= 0 and high < 1 << 12:
            return Sum(with_immediate, e.use(a, SCRATCH), 0, b)
        if low >= 0 and high < 1 << 24 and step >= 1 << 12:
            return Sum(with_immediate, e.use(a, SCRATCH), 1 << 12, b, HIGH12)
        if low >= 0 and 1 << 16 <= high < 1 << 24 and step >= 1 << 8:
            left = e.use_or_zero(a, SCRATCH)
            e.MOVZ_wi(SCRATCH2, 0)
            e.last_field(MIDDLE16, 0, b)
            return Sum(partial(_shifted_by_8, _SHIFTED_SUMS[op, wide, flags]), left, SCRATCH2)
        # In a sum of 64 bits, a literal of 32 bits is zero-extended: if it is negative, it is large.
        if low >= -1 << 12 and high < 1 << 12 and not flags and (not wide or is_wide(b)):
            return Sum(with_immediate, e.use(a, SCRATCH), 0, b, LOW12, _SUMS[_OPPOSITE[op], wide, False][1])
    return Sum(with_register, e.use_or_zero(a, SCRATCH), e.use_or_zero(b, SCRATCH2))


def _shifted_by_8(method: _Method, e: Emitter, target: int, a: int, b: int) -> None:
    method(e, target, a, b, 8)


def finish_sum(e: Emitter, prepared: Sum, target: int) -> None:
    method, a, b, literal, field, correction = prepared
    method(e, target, a, b)
    if literal is not None:
        e.last_field(field, 0, literal)
    if correction is not None:
        correction(e, target, target, 1 << 12)
        e.last_field(BIT12, 0, literal)


@emits(Op.ADD, Op.SUB)
def add_sub(e: Emitter, ins: Instruction) -> None:
    if not _combine(e, ins):
        _sum(e, ins, ins.op, ins in e.flag_readers)


def _sum(e: Emitter, ins: Instruction, op: Op, flags: bool) -> None:
    wide = is_wide(ins)
    prepared = prepare_sum(e, op, wide, flags, ins.args[0], ins.args[1])
    if not flags:
        finish_sum(e, prepared, e.define(ins, ins.args))
        return
    e.begin_flags(ins)
    if ins.last_use >= 0 and ins.uses == len(e.flag_readers[ins]):
        # Only the flags are needed: a comparison.
        ins.location = GENERAL[SCRATCH]
        target = ZR
    else:
        target = e.define(ins, ins.args)
    finish_sum(e, prepared, target)
    e.capture_flags(ins, op is Op.SUB)


@emits(Op.ADC, Op.SBC)
def adc_sbc(e: Emitter, ins: Instruction) -> None:
    a, b, carry = ins.args
    wide = is_wide(ins)
    subtract = ins.op is Op.SBC
    flags = ins in e.flag_readers
    if number_of(carry) == int(subtract):
        _sum(e, ins, Op.SUB if subtract else Op.ADD, flags)
    elif flags or carry.location is IN_CARRY:
        _with_carry(e, ins, wide, subtract, flags)
    elif not subtract:
        left, right = e.use_or_zero(a, SCRATCH), e.use_or_zero(b, SCRATCH2)
        (e.ADD_xxx if wide else e.ADD_www)(SCRATCH, left, right)
        one = e.use(carry, SCRATCH2)
        (e.ADD_xxx if wide else e.ADD_www)(e.define(ins, ins.args), SCRATCH, one)
    else:
        # a - b - 1 + carry
        left, right = e.use_or_zero(a, SCRATCH), e.use_or_zero(b, SCRATCH2)
        (e.SUB_xxx if wide else e.SUB_www)(SCRATCH, left, right)
        one = e.use(carry, SCRATCH2)
        (e.ADD_xxx if wide else e.ADD_www)(SCRATCH, SCRATCH, one)
        (e.SUB_xxi if wide else e.SUB_wwi)(e.define(ins, ins.args), SCRATCH, 1)


_WITH_CARRY: Final = {
    (False, False, False): _E.ADC_www, (False, False, True): _E.ADCS_www,
    (False, True, False): _E.ADC_xxx, (False, True, True): _E.ADCS_xxx,
    (True, False, False): _E.SBC_www, (True, False, True): _E.SBCS_www,
    (True, True, False): _E.SBC_xxx, (True, True, True): _E.SBCS_xxx,
}  # fmt: skip
"""By whether it subtracts, whether 64 bits wide and whether flags are set."""


def _with_carry(e: Emitter, ins: Instruction, wide: bool, subtract: bool, flags: bool) -> None:
    a, b, carry = ins.args
    if carry.location is IN_CARRY:
        guest_flags(e)
    elif number_of(carry) is not None:
        e.begin_flags(ins)
        (e.SUBS_www if carry.aux else e.ADDS_www)(ZR, ZR, ZR)
    else:
        register = e.use(carry, SCRATCH)
        e.begin_flags(ins)
        e.SUBS_wwi(ZR, register, 1)
    left, right = e.use_or_zero(a, SCRATCH), e.use_or_zero(b, SCRATCH2)
    if flags and carry.location is IN_CARRY:
        e.begin_flags(ins)
    target = e.define(ins, ins.args)
    _WITH_CARRY[subtract, wide, flags](e, target, left, right)
    if flags:
        e.capture_flags(ins, subtract)


@emits(Op.NEG)
def neg(e: Emitter, ins: Instruction) -> None:
    source = e.use_or_zero(ins.args[0], SCRATCH)
    (e.NEG_xx if is_wide(ins) else e.NEG_ww)(e.define(ins, ins.args), source)


# -- logic -------------------------------------------------------------------------------------------------------------

_LOGIC: Final = {
    (Op.AND, False): (_E.AND_www, _E.AND_wwi), (Op.AND, True): (_E.AND_xxx, _E.AND_xxi),
    (Op.OR, False): (_E.ORR_www, _E.ORR_wwi), (Op.OR, True): (_E.ORR_xxx, _E.ORR_xxi),
    (Op.XOR, False): (_E.EOR_www, _E.EOR_wwi), (Op.XOR, True): (_E.EOR_xxx, _E.EOR_xxi),
}  # fmt: skip
"""By operation and whether 64 bits wide: with a register and with an immediate."""


@emits(Op.AND, Op.OR, Op.XOR)
def logic(e: Emitter, ins: Instruction) -> None:
    if _combine(e, ins):
        return
    wide = is_wide(ins)
    with_register, with_immediate = _LOGIC[ins.op, wide]
    taken = _flags_taken(e, ins) if ins.op is Op.AND else None
    if taken is not None:
        with_register, with_immediate = _TESTS64 if wide else _TESTS32
    a, b = ins.args
    number = number_of(b)
    if number is not None and ins.type is not Type.I1 and is_logical(number, 64 if wide else 32):
        left = e.use_or_zero(a, SCRATCH)
        method, right = with_immediate, number
    else:
        left, right = e.use_or_zero(a, SCRATCH), e.use_or_zero(b, SCRATCH2)
        method = with_register
    if taken is None:
        method(e, e.define(ins, ins.args), left, right)
        return
    if e.pins_flags:
        e.keep_flag_word()
    if ins.uses == 1:
        ins.location = GENERAL[SCRATCH]
        method(e, ZR, left, right)
    else:
        method(e, e.define(ins, ins.args), left, right)
        e.settle(ins)
    take_nz(e)
    e.done.add(taken.position)


_TESTS32: Final = (_E.ANDS_www, _E.ANDS_wwi)
_TESTS64: Final = (_E.ANDS_xxx, _E.ANDS_xxi)


def _flags_taken(e: Emitter, ins: Instruction) -> Instruction | None:
    """The operation that sets N and Z by `ins`, if nothing prevents it from being done right now."""
    for following in e.function[ins.position + 1 : ins.position + 4]:
        if following.op is Op.SET_NZ and following.args[0] is ins:
            return following
        if following.op is not Op.SET or following.aux in e.flag_places:
            return None
    return None


@emits(Op.NOT)
def not_(e: Emitter, ins: Instruction) -> None:
    if ins.type is not Type.I1 and _defer(e, ins):
        return
    source = e.use_or_zero(ins.args[0], SCRATCH)
    if ins.type is Type.I1:
        if source == ZR:
            e.MOVZ_wi(e.define(ins, ins.args), 1)
        else:
            e.EOR_wwi(e.define(ins, ins.args), source, 1)
    else:
        (e.MVN_xx if is_wide(ins) else e.MVN_ww)(e.define(ins, ins.args), source)


# -- multiplication and division ---------------------------------------------------------------------------------------

_PRODUCTS: Final = {
    (Op.MUL, False): _E.MUL_www, (Op.MUL, True): _E.MUL_xxx,
    (Op.UMULH, True): _E.UMULH_xxx, (Op.SMULH, True): _E.SMULH_xxx,
    (Op.UDIV, False): _E.UDIV_www, (Op.UDIV, True): _E.UDIV_xxx,
    (Op.SDIV, False): _E.SDIV_www, (Op.SDIV, True): _E.SDIV_xxx,
}  # fmt: skip
"""Division by 0, and of the minimum by -1, has the IR's result on this host."""


@emits(Op.MUL, Op.UDIV, Op.SDIV)
def multiply_divide(e: Emitter, ins: Instruction) -> None:
    if ins.op is Op.MUL and _defer(e, ins):
        return
    a, b = e.use_or_zero(ins.args[0], SCRATCH), e.use_or_zero(ins.args[1], SCRATCH2)
    _PRODUCTS[ins.op, is_wide(ins)](e, e.define(ins, ins.args), a, b)


@emits(Op.UMULH, Op.SMULH)
def mulh(e: Emitter, ins: Instruction) -> None:
    a, b = e.use_or_zero(ins.args[0], SCRATCH), e.use_or_zero(ins.args[1], SCRATCH2)
    if is_wide(ins):
        _PRODUCTS[ins.op, True](e, e.define(ins, ins.args), a, b)
        return
    (e.UMULL_xww if ins.op is Op.UMULH else e.SMULL_xww)(SCRATCH, a, b)
    e.LSR_xxi(e.define(ins, ins.args), SCRATCH, 32)


# -- shifts ------------------------------------------------------------------------------------------------------------

_SHIFTS: Final = {
    (Op.SHL, False): (_E.LSL_wwi, _E.LSLV_www), (Op.SHL, True): (_E.LSL_xxi, _E.LSLV_xxx),
    (Op.SHR, False): (_E.LSR_wwi, _E.LSRV_www), (Op.SHR, True): (_E.LSR_xxi, _E.LSRV_xxx),
    (Op.SAR, False): (_E.ASR_wwi, _E.ASRV_www), (Op.SAR, True): (_E.ASR_xxi, _E.ASRV_xxx),
    (Op.ROR, False): (_E.ROR_wwi, _E.RORV_www), (Op.ROR, True): (_E.ROR_xxi, _E.RORV_xxx),
}  # fmt: skip
_COMBINED: Final = {
    (Op.ADD, Op.SHL, False): _E.ADD_www_lsl, (Op.ADD, Op.SHL, True): _E.ADD_xxx_lsl,
    (Op.ADD, Op.SHR, False): _E.ADD_www_lsr, (Op.ADD, Op.SHR, True): _E.ADD_xxx_lsr,
    (Op.ADD, Op.SAR, False): _E.ADD_www_asr, (Op.ADD, Op.SAR, True): _E.ADD_xxx_asr,
    (Op.SUB, Op.SHL, False): _E.SUB_www_lsl, (Op.SUB, Op.SHL, True): _E.SUB_xxx_lsl,
    (Op.SUB, Op.SHR, False): _E.SUB_www_lsr, (Op.SUB, Op.SHR, True): _E.SUB_xxx_lsr,
    (Op.SUB, Op.SAR, False): _E.SUB_www_asr, (Op.SUB, Op.SAR, True): _E.SUB_xxx_asr,
    (Op.AND, Op.SHL, False): _E.AND_www_lsl, (Op.AND, Op.SHL, True): _E.AND_xxx_lsl,
    (Op.AND, Op.SHR, False): _E.AND_www_lsr, (Op.AND, Op.SHR, True): _E.AND_xxx_lsr,
    (Op.OR, Op.SHL, False): _E.ORR_www_lsl, (Op.OR, Op.SHL, True): _E.ORR_xxx_lsl,
    (Op.OR, Op.SHR, False): _E.ORR_www_lsr, (Op.OR, Op.SHR, True): _E.ORR_xxx_lsr,
    (Op.XOR, Op.SHL, False): _E.EOR_www_lsl, (Op.XOR, Op.SHL, True): _E.EOR_xxx_lsl,
    (Op.XOR, Op.SHR, False): _E.EOR_www_lsr, (Op.XOR, Op.SHR, True): _E.EOR_xxx_lsr,
    (Op.AND, Op.SAR, False): _E.AND_www_asr, (Op.AND, Op.SAR, True): _E.AND_xxx_asr,
    (Op.OR, Op.SAR, False): _E.ORR_www_asr, (Op.OR, Op.SAR, True): _E.ORR_xxx_asr,
    (Op.XOR, Op.SAR, False): _E.EOR_www_asr, (Op.XOR, Op.SAR, True): _E.EOR_xxx_asr,
    (Op.AND, Op.ROR, False): _E.AND_www_ror, (Op.AND, Op.ROR, True): _E.AND_xxx_ror,
    (Op.OR, Op.ROR, False): _E.ORR_www_ror, (Op.OR, Op.ROR, True): _E.ORR_xxx_ror,
    (Op.XOR, Op.ROR, False): _E.EOR_www_ror, (Op.XOR, Op.ROR, True): _E.EOR_xxx_ror,
    (Op.AND, Op.NOT, False): _E.BIC_www, (Op.AND, Op.NOT, True): _E.BIC_xxx,
    (Op.OR, Op.NOT, False): _E.ORN_www, (Op.OR, Op.NOT, True): _E.ORN_xxx,
    (Op.XOR, Op.NOT, False): _E.EON_www, (Op.XOR, Op.NOT, True): _E.EON_xxx,
    (Op.ADD, Op.MUL, False): _E.MADD_wwww, (Op.ADD, Op.MUL, True): _E.MADD_xxxx,
    (Op.SUB, Op.MUL, False): _E.MSUB_wwww, (Op.SUB, Op.MUL, True): _E.MSUB_xxxx,
}  # fmt: skip
"""Instructions that do two operations: by the last one, by the one that yields its second operand, and by whether they
are 64 bits wide."""


class Deferred(Location):
    """The location of a shift, complement or product that its one use does, too, in one host instruction: nowhere."""

    __slots__ = ("ins",)

    def __init__(self, ins: Instruction) -> None:
        self.ins = ins


_COPIES: Final = frozenset({Op.GET, Op.ZEXT})
"""Operations that may stand between a deferred one and its use: they change none of its operands."""


def _defer(e: Emitter, ins: Instruction) -> bool:
    """Leave `ins` to its one use, if a host instruction does both. Returns whether it did."""
    if ins.uses != 1 or ins.args[0].op <= Op.HOLE:
        return False
    user = e.function[ins.last_use]
    if (user.op, ins.op, is_wide(ins)) not in _COMBINED or user in e.flag_readers or user.args[0] is user.args[1]:
        return False
    if user.args[1] is not ins and user.op is Op.SUB:
        return False
    if user.op is Op.AND and _flags_taken(e, user) is not None:
        return False
    between = e.function[ins.position + 1 : ins.last_use]
    if any(other.op not in _COPIES or other in e.hints for other in between):
        return False
    ins.location = Deferred(ins)
    # The use reads its operands.
    for source in ins.args:
        source.last_use = max(source.last_use, ins.last_use)
    return True


def _combine(e: Emitter, ins: Instruction) -> bool:
    """Emit `ins` together with an operand that was left to it. Returns whether there is one."""
    for operand, other in (ins.args, ins.args[::-1]):
        if isinstance(operand.location, Deferred):
            deferred = operand.location.ins
            wide = is_wide(ins)
            method = _COMBINED[ins.op, deferred.op, wide]
            a, b = e.use_or_zero(other, SCRATCH), e.use(deferred.args[0], SCRATCH2)
            if deferred.op is Op.NOT:
                method(e, e.define(ins, ins.args), a, b)
            elif deferred.op is Op.MUL:
                c = e.use_or_zero(deferred.args[1], SCRATCH3)
                method(e, e.define(ins, ins.args), b, c, a)
            else:
                amount = deferred.args[1]
                number = number_of(amount)
                method(e, e.define(ins, ins.args), a, b, (number or 0) & (63 if wide else 31))
                if number is None:
                    e.last_field(AMOUNT[wide], 0, amount)
            e.release(deferred, ins.position)
            return True
    return False


@emits(Op.SHL, Op.SHR, Op.SAR, Op.ROR)
def shift(e: Emitter, ins: Instruction) -> None:
    wide = is_wide(ins)
    by_immediate, by_register = _SHIFTS[ins.op, wide]
    a, n = ins.args
    amount = number_of(n)
    if (amount is not None or n.op is Op.HOLE) and _defer(e, ins):
        return
    source = e.use_or_zero(a, SCRATCH)
    if amount is not None:
        by_immediate(e, e.define(ins, ins.args), source, amount & (63 if wide else 31))
    elif n.op is not Op.HOLE:
        count = e.use(n, SCRATCH2)
        by_register(e, e.define(ins, ins.args), source, count)
    elif ins.op is Op.SHL:
        # No field of LSL is the amount itself.
        (e.ORR_xxx_lsl if wide else e.ORR_www_lsl)(e.define(ins, ins.args), ZR, source, 0)
        e.last_field(AMOUNT[wide], 0, n)
    else:
        by_immediate(e, e.define(ins, ins.args), source, 0)
        e.last_field((AMOUNT if ins.op is Op.ROR else SHIFT)[wide], 0, n)


# -- bits and fields ---------------------------------------------------------------------------------------------------


@emits(Op.CLZ)
def clz(e: Emitter, ins: Instruction) -> None:
    source = e.use_or_zero(ins.args[0], SCRATCH)
    (e.CLZ_xx if is_wide(ins) else e.CLZ_ww)(e.define(ins, ins.args), source)


@emits(Op.CTZ)
def ctz(e: Emitter, ins: Instruction) -> None:
    source = e.use_or_zero(ins.args[0], SCRATCH)
    if is_wide(ins):
        e.RBIT_xx(SCRATCH, source)
        e.CLZ_xx(e.define(ins, ins.args), SCRATCH)
    else:
        e.RBIT_ww(SCRATCH, source)
        e.CLZ_ww(e.define(ins, ins.args), SCRATCH)


@emits(Op.POPCNT)
def popcnt(e: Emitter, ins: Instruction) -> None:
    """Advanced SIMD counts the bits of bytes, and adds bytes; a value of 32 bits is zero-extended."""
    e.FMOV_dx(0, e.use_or_zero(ins.args[0], SCRATCH))
    e.CNT_vv(0, 0)
    e.ADDV_bv(0, 0)
    e.FMOV_ws(e.define(ins, ins.args), 0)


@emits(Op.BSWAP)
def bswap(e: Emitter, ins: Instruction) -> None:
    source = e.use_or_zero(ins.args[0], SCRATCH)
    (e.REV_xx if is_wide(ins) else e.REV_ww)(e.define(ins, ins.args), source)


@emits(Op.BITREV)
def bitrev(e: Emitter, ins: Instruction) -> None:
    source = e.use_or_zero(ins.args[0], SCRATCH)
    (e.RBIT_xx if is_wide(ins) else e.RBIT_ww)(e.define(ins, ins.args), source)


_EXTENSIONS: Final = {
    (Op.SEXT8, False): _E.SXTB_ww, (Op.SEXT8, True): _E.SXTB_xw,
    (Op.SEXT16, False): _E.SXTH_ww, (Op.SEXT16, True): _E.SXTH_xw,
    (Op.ZEXT8, False): _E.UXTB_ww, (Op.ZEXT8, True): _E.UXTB_ww,
    (Op.ZEXT16, False): _E.UXTH_ww, (Op.ZEXT16, True): _E.UXTH_ww,
    (Op.SEXT, True): _E.SXTW_xw,
}  # fmt: skip


@emits(Op.SEXT8, Op.SEXT16, Op.ZEXT8, Op.ZEXT16, Op.SEXT)
def extend(e: Emitter, ins: Instruction) -> None:
    source = e.use_or_zero(ins.args[0], SCRATCH)
    _EXTENSIONS[ins.op, is_wide(ins)](e, e.define(ins, ins.args), source)


@emits(Op.ZEXT)
def zext(e: Emitter, ins: Instruction) -> None:
    if not e.stays_pinned(ins):
        e.move(e.define(ins, ins.args), ins.args[0])


@emits(Op.TRUNC)
def trunc(e: Emitter, ins: Instruction) -> None:
    source = e.use_or_zero(ins.args[0], SCRATCH)
    if ins.type is Type.I1:
        e.UBFX_wwii(e.define(ins, ins.args), source, 0, 1)
    else:
        e.MOV_ww(e.define(ins, ins.args), source)


@emits(Op.EXTRACT)
def extract(e: Emitter, ins: Instruction) -> None:
    source = e.use_or_zero(ins.args[0], SCRATCH)
    (e.UBFX_xxii if is_wide(ins) else e.UBFX_wwii)(e.define(ins, ins.args), source, *bit_range(ins))


@emits(Op.SEXTRACT)
def sextract(e: Emitter, ins: Instruction) -> None:
    source = e.use_or_zero(ins.args[0], SCRATCH)
    (e.SBFX_xxii if is_wide(ins) else e.SBFX_wwii)(e.define(ins, ins.args), source, *bit_range(ins))


@emits(Op.DEPOSIT)
def deposit(e: Emitter, ins: Instruction) -> None:
    wide = is_wide(ins)
    field = e.use_or_zero(ins.args[1], SCRATCH2)
    # BFI changes its target, which may not be an operand's register.
    e.move(SCRATCH, ins.args[0])
    (e.BFI_xxii if wide else e.BFI_wwii)(SCRATCH, field, *bit_range(ins))
    e.copy(e.define(ins, ins.args), SCRATCH)


@emits(Op.BIT)
def bit(e: Emitter, ins: Instruction) -> None:
    value, n = ins.args
    wide = is_wide(value)
    number = number_of(n)
    if number is not None:
        if e.fuses(ins) and e.function[ins.last_use].op is Op.BRCOND:
            ins.location = FUSED
            return
        source = e.use_or_zero(value, SCRATCH)
        (e.UBFX_xxii if wide else e.UBFX_wwii)(e.define(ins, ins.args), source, number & (63 if wide else 31), 1)
        return
    source, count = e.use_or_zero(value, SCRATCH), e.use(n, SCRATCH2)
    (e.LSRV_xxx if wide else e.LSRV_www)(SCRATCH, source, count)
    e.AND_wwi(e.define(ins, ins.args), SCRATCH, 1)


# -- comparison --------------------------------------------------------------------------------------------------------

CONDITIONS: Final = {
    Condition.EQ: cc.EQ, Condition.NE: cc.NE, Condition.ULT: cc.CC, Condition.UGE: cc.CS, Condition.ULE: cc.LS,
    Condition.UGT: cc.HI, Condition.SLT: cc.LT, Condition.SGE: cc.GE, Condition.SLE: cc.LE, Condition.SGT: cc.GT,
}  # fmt: skip
_SWAPPED: Final = {
    Condition.ULE: Condition.UGE, Condition.UGT: Condition.ULT, Condition.SLE: Condition.SGE,
    Condition.SGT: Condition.SLT,
}  # fmt: skip


def compare(e: Emitter, a: Instruction, b: Instruction) -> None:
    """Set the host's flags as a - b does."""
    prepared = prepare_sum(e, Op.SUB, is_wide(a), True, a, b)
    e.clobber_flags()
    finish_sum(e, prepared, ZR)


@emits(Op.ICMP)
def icmp(e: Emitter, ins: Instruction) -> None:
    a, b = ins.args
    condition = ins.aux
    assert isinstance(condition, Condition)
    if e.fuses(ins):
        ins.location = FUSED
        return
    if e.pins_flags and e.flag_word < 0 and _truth_without_flags(e, ins, condition, a, b):
        return
    compare(e, a, b)
    e.CSET_wc(e.define(ins, ins.args), CONDITIONS[condition])


def difference(e: Emitter, condition: Condition, a: Instruction, b: Instruction) -> bool:
    """Let the sign of `SCRATCH`, as 64 bits, tell the result of a 32-bit comparison of order. Returns whether it holds
    if the sign is negative. Leaves the host's flags alone.
    """
    if condition in _SWAPPED:
        condition, a, b = _SWAPPED[condition], b, a
    if condition >= Condition.SLT:
        e.SXTW_xw(SCRATCH, e.use_or_zero(a, SCRATCH))
        number = number_of(b)
        if number is not None and number < 1 << 12:
            e.SUB_xxi(SCRATCH, SCRATCH, number)
        else:
            e.SUB_xxw_sxtw(SCRATCH, SCRATCH, e.use_or_zero(b, SCRATCH2))
    else:
        finish_sum(e, prepare_sum(e, Op.SUB, True, False, a, b), SCRATCH)
    return condition in (Condition.ULT, Condition.SLT)


def is_order32(condition: Condition, a: Instruction) -> bool:
    """Whether the comparison is one of order, of numbers of 32 bits."""
    return condition not in (Condition.EQ, Condition.NE) and a.type is Type.I32


def _truth_without_flags(e: Emitter, ins: Instruction, condition: Condition, a: Instruction, b: Instruction) -> bool:
    if not is_order32(condition, a):
        return False
    if difference(e, condition, a, b):
        e.LSR_xxi(e.define(ins, ins.args), SCRATCH, 63)
    else:
        e.MVN_xx(SCRATCH, SCRATCH)
        e.LSR_xxi(e.define(ins, ins.args), SCRATCH, 63)
    return True


def unequal(e: Emitter, a: Instruction, b: Instruction) -> tuple[int, bool]:
    """(a register that is 0 exactly if a == b, whether it has 64 bits). Leaves the host's flags alone."""
    wide = is_wide(a)
    number = number_of(b)
    if number == 0:
        return e.use(a, SCRATCH), wide
    if number is not None and is_logical(number, 64 if wide else 32) and not is_arithmetic(number):
        (e.EOR_xxi if wide else e.EOR_wwi)(SCRATCH, e.use_or_zero(a, SCRATCH), number)
    else:
        finish_sum(e, prepare_sum(e, Op.SUB, wide, False, a, b), SCRATCH)
    return SCRATCH, wide


def truth_to_flags(e: Emitter, value: Instruction) -> int:
    """Bring the truth value into the host's flags; returns the host condition that means true."""
    if value.location is FUSED and value.op is Op.COND:
        assert isinstance(value.aux, FlagCondition)
        guest_flags(e)
        return int(value.aux)
    if value.location is FUSED:
        assert value.op is Op.ICMP
        assert isinstance(value.aux, Condition)
        compare(e, *value.args)
        return CONDITIONS[value.aux]
    register = e.use_or_zero(value, SCRATCH)
    e.clobber_flags()
    e.ANDS_www(ZR, register, register)
    return cc.NE


@emits(Op.SELECT)
def select(e: Emitter, ins: Instruction) -> None:
    condition, a, b = ins.args
    code = truth_to_flags(e, condition)
    wide = is_wide(ins)
    yes, no = e.use_or_zero(a, SCRATCH), e.use_or_zero(b, SCRATCH2)
    (e.CSEL_xxxc if wide else e.CSEL_wwwc)(e.define(ins, ins.args), yes, no, code)
