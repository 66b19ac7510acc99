# SPDX-License-Identifier: Apache-2.0
"""Floating point: the host's arithmetic where it is sure to be exact, else the runtime's. Values are bit patterns in
general registers, but for fields that are pinned to xmm registers.

`raddle.ir.floats` says what the guest's results and flags are. The host's instruction has the same if all of this
holds:

- The guest rounds to nearest and does not flush to zero. One 64-bit comparison tests the two neighbouring fields.
- The guest has raised inexact before. Flags are sticky, so in most programs this is soon so. A finite result that is
  not tiny raises no other flag; so the host's own flags need not be read.
- The result is no NaN and no infinity. After multiplication, division and narrowing it is not close to the denormals,
  either. Sums and square roots cannot underflow: a denormal sum is exact.

Otherwise the cold part calls the runtime's soft float, which repeats the operation; but a product or quotient that is
zero because an operand is zero is exact. Both ways leave the result in rdx, or in xmm0 if it goes straight to a pinned
field.
The host's MXCSR is at its default: round to nearest, no flushing, exceptions masked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raddle.codegen.emitter import is_wide
from raddle.codegen.runtime_calls import float_call
from raddle.ir.builder import FloatToInt, Instruction, IntToFloat, Rounding
from raddle.ir.header import OFFSET
from raddle.ir.opcodes import Op
from raddle.ir.types import Condition, Field, Type
from raddle_host_x86_64 import conditions as cc
from raddle_host_x86_64.code_buffer import Label
from raddle_host_x86_64.emit.control import call_native
from raddle_host_x86_64.emitter import Emitter, emits, float_register_of, memory_of
from raddle_host_x86_64.fields import COLD, HOT
from raddle_host_x86_64.registers import RAX, RBP, RCX, RDX, XMM0, XMM1, XMM2

_INEXACT: Final = 16

if OFFSET["fp_flush"] != OFFSET["fp_rounding"] + 4:
    raise AssertionError("fp_rounding and fp_flush are compared with 0 as one field")


@emits(Op.BITCAST)
def bitcast(e: Emitter, op: Instruction) -> None:
    value = op.args[0]
    if op.uses == 1 and e.function[op.last_use].op is Op.STORE and float_register_of(value) >= 0:
        field = value.aux
        assert isinstance(field, Field)
        if not e.written(field, value.position, op.last_use):
            op.location = value.location
            return
    e.move(e.define(op, op.args), value)


@emits(Op.FNEG, Op.FABS)
def sign(e: Emitter, op: Instruction) -> None:
    target = e.define(op, op.args)
    e.move(target, op.args[0])
    if op.type is Type.F64:
        (e.BTCQ_ri if op.op is Op.FNEG else e.BTRQ_ri)(target, 63)
    else:
        (e.BTC_ri if op.op is Op.FNEG else e.BTR_ri)(target, 31)
    e.clobber()


def _calls(e: Emitter) -> bool:
    """Whether all is left to the runtime: rare code has no fast paths, since they have cold parts."""
    return e.routine or e.in_cold


# -- the fast paths' parts ---------------------------------------------------------------------------------------------


_Pair = tuple[Callable[..., None], Callable[..., None]]
"""An instruction on two xmm registers, and on one and memory."""


class _Fast:
    """The fast path of one operation, and its cold part. The result is in rdx or in xmm0, as `in_xmm` says."""

    def __init__(self, e: Emitter, op: Instruction, gives_float: bool = True) -> None:
        self.e = e
        self.op = op
        self.misses: list[int] = []
        self.zero_miss = -1
        """The one of them that is taken for results that are zero, too."""
        self.zero_if: tuple[Instruction, ...] = ()
        """A zero is exact if one of these operands is a zero."""
        self.store = _store_of(e, op) if gives_float else None
        self.in_xmm = self.store is not None

    def miss_if(self, condition: int) -> None:
        """Leave for the cold part if the host's condition holds."""
        self.e.Jcc_rel32(condition, 0)
        self.misses.append(len(self.e.code) - 4)

    def needs_no_flush(self) -> None:
        self.e.CMP_mi(RBP, OFFSET["fp_flush"], 0)
        self.miss_if(cc.NE)

    def needs_nearest(self) -> None:
        """Miss unless the guest rounds to nearest and does not flush."""
        self.e.CMPQ_mi(RBP, OFFSET["fp_rounding"], 0)
        self.miss_if(cc.NE)

    def needs_inexact(self) -> None:
        """Miss unless the inexact flag is raised."""
        self.e.TESTB_mi(RBP, OFFSET["fp_flags"], _INEXACT)
        self.miss_if(cc.E)

    def apply(self, instruction: _Pair, value: Instruction) -> None:
        """Apply a two-operand instruction to xmm0 and the float `value`."""
        from_register, from_memory = instruction
        place, register = memory_of(value), float_register_of(value)
        if place is not None:
            from_memory(self.e, XMM0, *place)
        elif register >= 0:
            from_register(self.e, XMM0, register)
        else:
            self.e.move_float(XMM1, value)
            from_register(self.e, XMM0, XMM1)

    def take(self, double: bool) -> None:
        """Move the result from xmm0 to rdx."""
        (self.e.MOVQ_rv if double else self.e.MOVD_rv)(RDX, XMM0)

    def needs_finite(self, double: bool, may_be_tiny: bool) -> None:
        """Miss if the float in rdx is a NaN or an infinity; if it may not be tiny, miss close to the denormals, too."""
        e = self.e
        if double:
            e.LEAQ_rx(RCX, RDX, RDX, 1, 0)
            e.SHRQ_ri(RCX, 53)
        else:
            e.LEA_rx(RCX, RDX, RDX, 1, 0)
            e.SHR_ri(RCX, 24)
        special = 0x7FF if double else 0xFF
        if may_be_tiny:
            e.CMP_ri(RCX, special)
            self.miss_if(cc.E)
        else:
            e.SUB_ri(RCX, 2)
            e.CMP_ri(RCX, special - 3)
            self.miss_if(cc.A)

    def may_be_zero(self, *operands: Instruction) -> None:
        """A result in rdx that `needs_finite` has just missed is right if it is zero and one of the operands is."""
        self.zero_miss, self.zero_if = self.misses.pop(), operands

    def _check_zero(self, call: Label) -> None:
        """In the cold part: jump to `call` if the result is not right, else back."""
        e, wide = self.e, is_wide(self.op)
        e.hot_relocs.append((COLD, self.zero_miss, len(e.cold)))
        add, move = (e.ADDQ_rr, e.MOVQ_rr) if wide else (e.ADD_rr, e.MOV_rr)
        move(RCX, RDX)
        add(RCX, RCX)
        e.Jcc_near(cc.NE, call)
        for operand in self.zero_if:
            e.move(RCX, operand)
            add(RCX, RCX)
            e.Jcc_rel32(cc.E, 0)
            e.last_field(HOT, len(e.hot))

    def miss(self) -> None:
        """Emit the cold part, which calls the native helper. The hot part goes on with either result."""
        e, op = self.e, self.op
        callee, args = float_call(op)
        e.code = e.cold
        call = e.label()
        if self.zero_if:
            self._check_zero(call)
        e.bind(call)
        for miss in self.misses:
            e.hot_relocs.append((COLD, miss, len(e.cold)))
        for index, arg in enumerate(args):
            e.MOVQ_mr(RBP, OFFSET[f"arg{index}"], e.use(arg, RCX))
        e.MOV_ri(RAX, e.config.callee_number(callee))
        e.CALL_m(RBP, OFFSET["thunk_call"])
        if self.in_xmm:
            e.MOVQ_vm(XMM0, RBP, OFFSET["result"])
        else:
            (e.MOVQ_rm if is_wide(op) else e.MOV_rm)(RDX, RBP, OFFSET["result"])

    def finish(self) -> None:
        """Emit the cold part, and move the result to where it belongs."""
        e, op = self.e, self.op
        if self.misses:
            self.miss()
            e.return_to_hot()
            e.code = e.hot
        if self.store is not None:
            field = self.store.aux
            assert isinstance(field, Field)
            e.MOVAPS_vv(e.pinned[field.offset].number, XMM0)
            e.done.add(self.store.position)
        elif op.last_use >= 0:
            target = e.define(op, op.args)
            if target != RDX:
                (e.MOVQ_rr if is_wide(op) else e.MOV_rr)(target, RDX)
        e.clobber()


def _store_of(e: Emitter, op: Instruction) -> Instruction | None:
    """The `SET` of a pinned field that is the only use of the float, if it is next."""
    store = e.next_is(Op.SET)
    if store is None or store.args[0] is not op or op.uses != 1:
        return None
    assert isinstance(store.aux, Field)
    return store if store.aux.offset in e.pinned else None


# -- arithmetic --------------------------------------------------------------------------------------------------------

_INSTRUCTIONS: Final[dict[tuple[Op, bool], _Pair]] = {
    (Op.FADD, False): (Emitter.ADDSS_vv, Emitter.ADDSS_vm),
    (Op.FADD, True): (Emitter.ADDSD_vv, Emitter.ADDSD_vm),
    (Op.FSUB, False): (Emitter.SUBSS_vv, Emitter.SUBSS_vm),
    (Op.FSUB, True): (Emitter.SUBSD_vv, Emitter.SUBSD_vm),
    (Op.FMUL, False): (Emitter.MULSS_vv, Emitter.MULSS_vm),
    (Op.FMUL, True): (Emitter.MULSD_vv, Emitter.MULSD_vm),
    (Op.FDIV, False): (Emitter.DIVSS_vv, Emitter.DIVSS_vm),
    (Op.FDIV, True): (Emitter.DIVSD_vv, Emitter.DIVSD_vm),
    (Op.FSQRT, False): (Emitter.SQRTSS_vv, Emitter.SQRTSS_vm),
    (Op.FSQRT, True): (Emitter.SQRTSD_vv, Emitter.SQRTSD_vm),
}
_NEVER_TINY: Final = frozenset({Op.FADD, Op.FSUB, Op.FSQRT})
"""Operations whose tiny results are exact."""


@emits(Op.FADD, Op.FSUB, Op.FMUL, Op.FDIV, Op.FSQRT, Op.FMA)
def arithmetic(e: Emitter, op: Instruction) -> None:
    if _calls(e) or (op.op is Op.FMA and not e.features.fma):
        call_native(e, op, *float_call(op))
        return
    double = is_wide(op)
    fast = _Fast(e, op)
    fast.needs_nearest()
    fast.needs_inexact()
    e.move_float(XMM0, op.args[0])
    if op.op is Op.FMA:
        e.move_float(XMM1, op.args[1])
        e.move_float(XMM2, op.args[2])
        (e.VFMADD213SD_vvv if double else e.VFMADD213SS_vvv)(XMM0, XMM1, XMM2)
    elif op.op is Op.FSQRT:
        _INSTRUCTIONS[op.op, double][0](e, XMM0, XMM0)
    else:
        fast.apply(_INSTRUCTIONS[op.op, double], op.args[1])
    fast.take(double)
    fast.needs_finite(double, op.op in _NEVER_TINY)
    if op.op in (Op.FMUL, Op.FDIV):
        fast.may_be_zero(*op.args[: 2 if op.op is Op.FMUL else 1])
    fast.finish()


# -- comparison --------------------------------------------------------------------------------------------------------


_COMPARE: Final[dict[bool, _Pair]] = {
    False: (Emitter.UCOMISS_vv, Emitter.UCOMISS_vm),
    True: (Emitter.UCOMISD_vv, Emitter.UCOMISD_vm),
}
_TESTS: Final = {
    (Condition.EQ, 0): (cc.A, True),
    (Condition.ULE, 1): (cc.AE, True),
    (Condition.EQ, 1): (cc.E, False),
    (Condition.EQ, 2): (cc.A, False),
}
"""For an `ICMP` of the result with a constant: the host condition after a comparison without NaNs, and whether the
operands are exchanged for it. These conditions need no second jump for NaNs, for which above and equal do not hold."""


@emits(Op.FCMP)
def fcmp(e: Emitter, op: Instruction) -> None:
    """The cold part compares NaNs. Only they raise flags."""
    if _calls(e):
        call_native(e, op, *float_call(op))
        return
    fast = _Fast(e, op, gives_float=False)
    fast.needs_no_flush()
    test = _only_test(e, op)
    a, b = op.args
    if test is not None and _TESTS[_test_of(test)][1]:
        a, b = b, a
    e.move_float(XMM0, a)
    fast.apply(_COMPARE[is_wide(a)], b)
    fast.miss_if(cc.P)
    if test is not None:
        _finish_test(fast, test)
        return
    # 1 for greater or equal, and 1 more for greater.
    e.SETcc_r(cc.AE, RDX)
    e.SETcc_r(cc.A, RCX)
    e.MOVZXB_rr(RDX, RDX)
    e.MOVZXB_rr(RCX, RCX)
    e.ADD_rr(RDX, RCX)
    fast.finish()


def _test_of(test: Instruction) -> tuple[Condition, int]:
    condition, order = test.aux, test.args[1].aux
    assert isinstance(condition, Condition)
    assert isinstance(order, int)
    return condition, order


def _only_test(e: Emitter, op: Instruction) -> Instruction | None:
    """The `ICMP` that is the only use of the order, if it is next and the host has a condition for it."""
    test = e.next_is(Op.ICMP)
    if test is None or op.uses != 1 or test.args[0] is not op or test.args[1].op is not Op.CONST:
        return None
    return test if _test_of(test) in _TESTS else None


def _finish_test(fast: _Fast, test: Instruction) -> None:
    """Emit the `ICMP`, ahead of its turn, for either result."""
    e = fast.e
    condition, order = _test_of(test)
    fast.miss()
    e.CMP_ri(RDX, order)
    e.SETcc_r(cc.E if condition is Condition.EQ else cc.BE, RDX)
    e.code = e.hot
    e.SETcc_r(_TESTS[condition, order][0], RDX)
    e.code = e.cold
    e.return_to_hot()
    e.code = e.hot
    e.MOVZXB_rr(e.define(test), RDX)
    e.finish_ahead(test.position)
    e.clobber()


# -- conversions -------------------------------------------------------------------------------------------------------


@emits(Op.FCVT)
def fcvt(e: Emitter, op: Instruction) -> None:
    widens = is_wide(op)
    if _calls(e):
        call_native(e, op, *float_call(op))
        return
    fast = _Fast(e, op)
    if widens:
        fast.needs_no_flush()
    else:
        fast.needs_nearest()
        fast.needs_inexact()
    e.move_float(XMM0, op.args[0])
    (e.CVTSS2SD_vv if widens else e.CVTSD2SS_vv)(XMM0, XMM0)
    fast.take(widens)
    fast.needs_finite(widens, may_be_tiny=widens)
    fast.finish()


_TO_NEAREST: Final = {False: Emitter.CVTSS2SIQ_rv, True: Emitter.CVTSD2SIQ_rv}
_TO_ZERO: Final = {False: Emitter.CVTTSS2SIQ_rv, True: Emitter.CVTTSD2SIQ_rv}
"""By whether from 64 bits; to 64 bits."""


@emits(Op.FTOI)
def ftoi(e: Emitter, op: Instruction) -> None:
    how = op.aux
    assert isinstance(how, FloatToInt)
    wide = op.type is Type.I64
    if _calls(e) or how.fraction or (how.width or op.type.bits) != op.type.bits or (wide and not how.signed):
        call_native(e, op, *float_call(op))
        return
    double = is_wide(op.args[0])
    fast = _Fast(e, op, gives_float=False)
    fast.needs_inexact()
    if how.rounding is Rounding.CURRENT:
        fast.needs_nearest()
    else:
        fast.needs_no_flush()
    e.move_float(XMM0, op.args[0])
    # Convert to 64 bits. A NaN, or a number that does not fit, becomes -2**63, which does not fit 32 bits, either.
    to_nearest = how.rounding in (Rounding.NEAREST, Rounding.CURRENT)
    (_TO_NEAREST if to_nearest else _TO_ZERO)[double](e, RDX, XMM0)
    if wide:
        e.CMPQ_ri(RDX, 1)
        fast.miss_if(cc.O)
    if how.rounding in (Rounding.DOWN, Rounding.UP):
        _round_outwards(e, double, how.rounding is Rounding.UP)
    if not wide:
        (e.MOVSXD_rr if how.signed else e.MOV_rr)(RCX, RDX)
        e.CMPQ_rr(RCX, RDX)
        fast.miss_if(cc.NE)
        if how.signed:
            e.MOV_rr(RDX, RDX)
    fast.finish()


def _round_outwards(e: Emitter, double: bool, up: bool) -> None:
    """rdx has the float in xmm0 rounded towards zero; make it the next integer below or above where that is another."""
    e.PXOR_vv(XMM1, XMM1)
    (e.CVTSI2SDQ_vr if double else e.CVTSI2SSQ_vr)(XMM1, RDX)
    (e.UCOMISD_vv if double else e.UCOMISS_vv)(*((XMM0, XMM1) if up else (XMM1, XMM0)))
    e.SETcc_r(cc.A, RCX)
    e.MOVZXB_rr(RCX, RCX)
    (e.ADDQ_rr if up else e.SUBQ_rr)(RDX, RCX)


@emits(Op.ITOF)
def itof(e: Emitter, op: Instruction) -> None:
    how = op.aux
    assert isinstance(how, IntToFloat)
    source = op.args[0]
    wide, double = is_wide(source), is_wide(op)
    usual = how.rounding in (Rounding.NEAREST, Rounding.CURRENT) and not how.fraction
    if _calls(e) or not usual or (wide and not how.signed):
        call_native(e, op, *float_call(op))
        return
    fast = _Fast(e, op)
    if wide or not double:  # else it is exact
        fast.needs_nearest()
        fast.needs_inexact()
    # An unsigned number of 32 bits is kept zero-extended, so it is the same as a signed one of 64.
    register = e.use(source, RCX)
    e.PXOR_vv(XMM0, XMM0)
    if wide or not how.signed:
        (e.CVTSI2SDQ_vr if double else e.CVTSI2SSQ_vr)(XMM0, register)
    else:
        (e.CVTSI2SD_vr if double else e.CVTSI2SS_vr)(XMM0, register)
    if not fast.in_xmm:
        fast.take(double)
    fast.finish()
