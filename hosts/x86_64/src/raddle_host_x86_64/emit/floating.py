# SPDX-License-Identifier: Apache-2.0
"""Floating point: the host's arithmetic where it is sure to be exact, else the runtime's. Values are bit patterns in
general registers.

`raddle.ir.floats` says what the guest's results and flags are. The host's instruction has the same if all of this
holds:

- The guest rounds to nearest and does not flush to zero. One 64-bit comparison tests the two neighbouring fields.
- The guest has raised inexact before. Flags are sticky, so in most programs this is soon so. A finite result that is
  not tiny raises no other flag; so the host's own flags need not be read.
- The result is no NaN and no infinity. After multiplication, division and narrowing it is not close to the denormals,
  either. Sums and square roots cannot underflow: a denormal sum is exact.

Otherwise the cold part calls the runtime's soft float, which repeats the operation. Both ways leave the result in rdx.
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
from raddle.ir.types import Type
from raddle_host_x86_64 import conditions as cc
from raddle_host_x86_64.emit.control import call_native
from raddle_host_x86_64.emitter import Emitter, emits, memory_of
from raddle_host_x86_64.fields import COLD
from raddle_host_x86_64.registers import RAX, RBP, RCX, RDX, XMM0, XMM1, XMM2

_INEXACT: Final = 16

if OFFSET["fp_flush"] != OFFSET["fp_rounding"] + 4:
    raise AssertionError("fp_rounding and fp_flush are compared with 0 as one field")


@emits(Op.BITCAST)
def bitcast(e: Emitter, op: Instruction) -> None:
    e.move(e.define(op, op.args), op.args[0])


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


class _Fast:
    """The fast path of one operation, and its cold part."""

    def __init__(self, e: Emitter, op: Instruction) -> None:
        self.e = e
        self.op = op
        self.misses: list[int] = []

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

    def load(self, register: int, value: Instruction) -> None:
        """Load the float or integer `value` into an xmm register."""
        e, place = self.e, memory_of(value)
        if place is not None:
            (e.MOVQ_vm if is_wide(value) else e.MOVD_vm)(register, *place)
        else:
            (e.MOVQ_vr if is_wide(value) else e.MOVD_vr)(register, e.use(value, RCX))

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

    def finish(self) -> None:
        """Emit the cold part, which calls the native helper, and move the result to its register."""
        e, op = self.e, self.op
        if self.misses:
            callee, args = float_call(op)
            hot = e.code
            e.code = e.cold
            for miss in self.misses:
                e.hot_relocs.append((COLD, miss, len(e.cold)))
            for index, arg in enumerate(args):
                e.MOVQ_mr(RBP, OFFSET[f"arg{index}"], e.use(arg, RCX))
            e.MOV_ri(RAX, e.config.callee_number(callee))
            e.CALL_m(RBP, OFFSET["thunk_call"])
            (e.MOVQ_rm if is_wide(op) else e.MOV_rm)(RDX, RBP, OFFSET["result"])
            e.return_to_hot()
            e.code = hot
        if op.last_use >= 0:
            target = e.define(op, op.args)
            if target != RDX:
                (e.MOVQ_rr if is_wide(op) else e.MOV_rr)(target, RDX)
        e.clobber()


# -- arithmetic --------------------------------------------------------------------------------------------------------

_Pair = tuple[Callable[..., None], Callable[..., None]]
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
    fast.load(XMM0, op.args[0])
    if op.op is Op.FMA:
        fast.load(XMM1, op.args[1])
        fast.load(XMM2, op.args[2])
        (e.VFMADD213SD_vvv if double else e.VFMADD213SS_vvv)(XMM0, XMM1, XMM2)
    elif op.op is Op.FSQRT:
        _INSTRUCTIONS[op.op, double][0](e, XMM0, XMM0)
    else:
        from_register, from_memory = _INSTRUCTIONS[op.op, double]
        place = memory_of(op.args[1])
        if place is not None:
            from_memory(e, XMM0, *place)
        else:
            fast.load(XMM1, op.args[1])
            from_register(e, XMM0, XMM1)
    fast.take(double)
    fast.needs_finite(double, op.op in _NEVER_TINY)
    fast.finish()


# -- comparison --------------------------------------------------------------------------------------------------------


@emits(Op.FCMP)
def fcmp(e: Emitter, op: Instruction) -> None:
    """The cold part compares NaNs. Only they raise flags."""
    if _calls(e):
        call_native(e, op, *float_call(op))
        return
    fast = _Fast(e, op)
    fast.needs_no_flush()
    fast.load(XMM0, op.args[0])
    fast.load(XMM1, op.args[1])
    (e.UCOMISD_vv if is_wide(op.args[0]) else e.UCOMISS_vv)(XMM0, XMM1)
    fast.miss_if(cc.P)
    # 1 for greater or equal, and 1 more for greater.
    e.SETcc_r(cc.AE, RDX)
    e.SETcc_r(cc.A, RCX)
    e.MOVZXB_rr(RDX, RDX)
    e.MOVZXB_rr(RCX, RCX)
    e.ADD_rr(RDX, RCX)
    fast.finish()


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
    fast.load(XMM0, op.args[0])
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
    fast = _Fast(e, op)
    fast.needs_inexact()
    if how.rounding is Rounding.CURRENT:
        fast.needs_nearest()
    else:
        fast.needs_no_flush()
    fast.load(XMM0, op.args[0])
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
    fast.take(double)
    fast.finish()
