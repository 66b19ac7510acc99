# SPDX-License-Identifier: Apache-2.0
"""Floating point, by the host's own instructions.

They are exact, flags included, for a guest with Arm's choices in IEEE 754 (`FloatRules`'s defaults). While templates
run, FPCR has the guest's rounding mode, flushing and default NaN, and FPSR collects the flags. The runtime's soft float
does the operations of other guests and of routines, and conversions that no instruction does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raddle.codegen.emitter import is_wide
from raddle.codegen.runtime_calls import float_call
from raddle.ir.builder import FloatCompare, FloatToInt, Instruction, IntToFloat, Rounding
from raddle.ir.header import OFFSET
from raddle.ir.opcodes import Op
from raddle_host_aarch64 import conditions as cc
from raddle_host_aarch64.emit.control import call_native
from raddle_host_aarch64.emitter import ENV, SCRATCH, SCRATCH2, SCRATCH3, Emitter, emits, is_float
from raddle_host_aarch64.fields import COLD19
from raddle_host_aarch64.registers import V0, V1, V2

_E = Emitter
_Method = Callable[..., None]


@emits(Op.BITCAST)
def bitcast(e: Emitter, op: Instruction) -> None:
    (e.move_float if is_float(op) else e.move)(e.define(op, op.args), op.args[0])


@emits(Op.FNEG, Op.FABS)
def sign(e: Emitter, op: Instruction) -> None:
    """They raise no flags, and NaNs keep their payloads."""
    source = e.use_float(op.args[0], V0)
    if op.op is Op.FNEG:
        (e.FNEG_dd if is_wide(op) else e.FNEG_ss)(e.define(op, op.args), source)
    else:
        (e.FABS_dd if is_wide(op) else e.FABS_ss)(e.define(op, op.args), source)


def _begin(e: Emitter, op: Instruction) -> bool:
    """Emit a call if the host's instructions will not do. Returns whether they will."""
    if not e.inline_floats:
        call_native(e, op, *float_call(op))
        return False
    if e.float_control_stale:
        e.load_float_control()
    return True


# -- arithmetic --------------------------------------------------------------------------------------------------------

_ARITHMETIC: Final[dict[Op, tuple[_Method, _Method]]] = {
    Op.FADD: (_E.FADD_sss, _E.FADD_ddd),
    Op.FSUB: (_E.FSUB_sss, _E.FSUB_ddd),
    Op.FMUL: (_E.FMUL_sss, _E.FMUL_ddd),
    Op.FDIV: (_E.FDIV_sss, _E.FDIV_ddd),
    Op.FSQRT: (_E.FSQRT_ss, _E.FSQRT_dd),
    Op.FMA: (_E.FMADD_ssss, _E.FMADD_dddd),
}
"""With 32 and 64 bits."""


@emits(*_ARITHMETIC)
def arithmetic(e: Emitter, op: Instruction) -> None:
    if _begin(e, op):
        operands = [e.use_float(value, scratch) for value, scratch in zip(op.args, (V0, V1, V2), strict=False)]
        _ARITHMETIC[op.op][is_wide(op)](e, e.define(op, op.args), *operands)


# -- comparison --------------------------------------------------------------------------------------------------------


@emits(Op.FCMP)
def fcmp(e: Emitter, op: Instruction) -> None:
    if not _begin(e, op):
        return
    double = is_wide(op.args[0])
    a, b = e.use_float(op.args[0], V0), e.use_float(op.args[1], V1)
    e.clobber_flags()
    if op.aux is FloatCompare.SIGNALLING:
        (e.FCMPE_dd if double else e.FCMPE_ss)(a, b)
    else:
        (e.FCMP_dd if double else e.FCMP_ss)(a, b)
    if op.last_use < 0:
        return
    # C is set unless a is less. Greater is one more. Unordered is 3; nothing else sets V.
    e.MOVZ_wi(SCRATCH2, 3)
    e.CSET_wc(SCRATCH, cc.CS)
    e.CSINC_wwwc(SCRATCH, SCRATCH, SCRATCH, cc.LE)
    e.CSEL_wwwc(e.define(op, op.args), SCRATCH2, SCRATCH, cc.VS)


# -- conversions -------------------------------------------------------------------------------------------------------


@emits(Op.FCVT)
def fcvt(e: Emitter, op: Instruction) -> None:
    if _begin(e, op):
        source = e.use_float(op.args[0], V0)
        (e.FCVT_ds if is_wide(op) else e.FCVT_sd)(e.define(op, op.args), source)


_TO_INTEGER: Final[dict[tuple[Rounding, bool], tuple[_Method, _Method, _Method, _Method]]] = {
    (Rounding.NEAREST, True): (_E.FCVTNS_ws, _E.FCVTNS_wd, _E.FCVTNS_xs, _E.FCVTNS_xd),
    (Rounding.NEAREST, False): (_E.FCVTNU_ws, _E.FCVTNU_wd, _E.FCVTNU_xs, _E.FCVTNU_xd),
    (Rounding.UP, True): (_E.FCVTPS_ws, _E.FCVTPS_wd, _E.FCVTPS_xs, _E.FCVTPS_xd),
    (Rounding.UP, False): (_E.FCVTPU_ws, _E.FCVTPU_wd, _E.FCVTPU_xs, _E.FCVTPU_xd),
    (Rounding.DOWN, True): (_E.FCVTMS_ws, _E.FCVTMS_wd, _E.FCVTMS_xs, _E.FCVTMS_xd),
    (Rounding.DOWN, False): (_E.FCVTMU_ws, _E.FCVTMU_wd, _E.FCVTMU_xs, _E.FCVTMU_xd),
    (Rounding.ZERO, True): (_E.FCVTZS_ws, _E.FCVTZS_wd, _E.FCVTZS_xs, _E.FCVTZS_xd),
    (Rounding.ZERO, False): (_E.FCVTZU_ws, _E.FCVTZU_wd, _E.FCVTZU_xs, _E.FCVTZU_xd),
}
"""By rounding and whether signed: from 32 and 64 bits to 32 bits, then to 64."""
_TO_FIXED: Final = {
    True: (_E.FCVTZS_wsi, _E.FCVTZS_wdi, _E.FCVTZS_xsi, _E.FCVTZS_xdi),
    False: (_E.FCVTZU_wsi, _E.FCVTZU_wdi, _E.FCVTZU_xsi, _E.FCVTZU_xdi),
}
"""Towards zero, multiplied by a power of two first."""


def _form(integer_wide: bool, float_wide: bool) -> int:
    return integer_wide << 1 | float_wide


@emits(Op.FTOI)
def ftoi(e: Emitter, op: Instruction) -> None:
    how = op.aux
    assert isinstance(how, FloatToInt)
    source = op.args[0]
    width = how.width or op.type.bits
    scaled = how.fraction != 0
    if e.in_cold or width == 16 or (scaled and how.rounding is not Rounding.ZERO) or how.fraction > width:
        call_native(e, op, *float_call(op))
        return
    if not _begin(e, op):
        return
    register = e.use_float(source, V0)
    form = _form(width == 64, is_wide(source))
    if scaled:
        _TO_FIXED[how.signed][form](e, SCRATCH, register, how.fraction)
    elif how.rounding is Rounding.CURRENT:
        _by_current_rounding(e, how.signed, form, register)
    else:
        _TO_INTEGER[how.rounding, how.signed][form](e, SCRATCH, register)
    if op.last_use >= 0:
        target = e.define(op, op.args)
        if how.signed and width < op.type.bits:
            e.SXTW_xw(target, SCRATCH)
        else:
            e.copy(target, SCRATCH)


def _by_current_rounding(e: Emitter, signed: bool, form: int, source: int) -> None:
    """Conversions to integers ignore FPCR's rounding mode: there is one instruction for each mode."""
    e.GET_wxi(SCRATCH2, ENV, OFFSET["fp_rounding"])
    e.CBNZ_wi(SCRATCH2, 0)
    e.last_field(COLD19, len(e.cold))
    _TO_INTEGER[Rounding.NEAREST, signed][form](e, SCRATCH, source)
    hot = e.code
    e.code = e.cold
    for rounding in (Rounding.UP, Rounding.DOWN, Rounding.ZERO):
        following = e.label()
        if rounding is not Rounding.ZERO:
            e.SUB_wwi(SCRATCH2, SCRATCH2, 1)
            e.CBNZ_w_label(SCRATCH2, following)
        _TO_INTEGER[rounding, signed][form](e, SCRATCH, source)
        e.return_to_hot()
        if rounding is not Rounding.ZERO:
            e.bind(following)
    e.code = hot


_FROM_INTEGER: Final = {
    True: (_E.SCVTF_sw, _E.SCVTF_dw, _E.SCVTF_sx, _E.SCVTF_dx),
    False: (_E.UCVTF_sw, _E.UCVTF_dw, _E.UCVTF_sx, _E.UCVTF_dx),
}
_FROM_FIXED: Final = {
    True: (_E.SCVTF_swi, _E.SCVTF_dwi, _E.SCVTF_sxi, _E.SCVTF_dxi),
    False: (_E.UCVTF_swi, _E.UCVTF_dwi, _E.UCVTF_sxi, _E.UCVTF_dxi),
}
"""By whether signed: from 32 bits to 32 and 64 bits, then from 64."""


@emits(Op.ITOF)
def itof(e: Emitter, op: Instruction) -> None:
    how = op.aux
    assert isinstance(how, IntToFloat)
    source = op.args[0]
    if e.in_cold or how.rounding not in (Rounding.NEAREST, Rounding.CURRENT) or how.fraction > source.type.bits:
        call_native(e, op, *float_call(op))
        return
    if not _begin(e, op):
        return
    form = _form(is_wide(source), is_wide(op))
    convert = (_FROM_FIXED if how.fraction else _FROM_INTEGER)[how.signed][form]
    fraction = (how.fraction,) if how.fraction else ()
    register = e.use_or_zero(source, SCRATCH)
    if how.rounding is Rounding.CURRENT or (is_wide(op) and not is_wide(source)):
        # By FPCR's rounding mode, or exact.
        convert(e, e.define(op, op.args), register, *fraction)
        return
    e.GET_wxi(SCRATCH2, ENV, OFFSET["fp_rounding"])
    e.CBNZ_wi(SCRATCH2, 0)
    e.last_field(COLD19, len(e.cold))
    target = e.define(op)
    convert(e, target, register, *fraction)
    hot = e.code
    e.code = e.cold
    e.MRS_x_FPCR(SCRATCH2)
    e.AND_xxi(SCRATCH3, SCRATCH2, ~_ROUNDING & (1 << 64) - 1)
    e.MSR_FPCR_x(SCRATCH3)
    convert(e, target, register, *fraction)
    e.MSR_FPCR_x(SCRATCH2)
    e.return_to_hot()
    e.code = hot


_ROUNDING: Final = 3 << 22
"""FPCR.RMode."""
