# SPDX-License-Identifier: Apache-2.0
"""Floating point: bit patterns in general registers, computed by the host's own instructions.

For a guest with Arm's choices in IEEE 754 (`FloatRules`'s defaults) they are exact to the last flag: FPCR is what the
guest's rounding mode, flushing and default NaN say while its templates run, and FPSR collects the flags. Other
guests' operations, and those in routines, are the runtime's soft float; so are conversions that no instruction does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raddle.codegen.fields import Source, field_kind
from raddle.ir.builder import FloatCompare, FloatToInt, Instruction, IntToFloat, Rounding, native
from raddle.ir.opcodes import Op
from raddle.ir.types import Type
from raddle.runtime.layout import OFFSET
from raddle_host_aarch64 import conditions as cc
from raddle_host_aarch64 import fields
from raddle_host_aarch64.code_buffer import BRANCH19
from raddle_host_aarch64.emit.control import call_native
from raddle_host_aarch64.emit.integer import is_wide
from raddle_host_aarch64.emitter import ENV, SCRATCH, SCRATCH2, SCRATCH3, Emitter, emits
from raddle_host_aarch64.fields import HOT26
from raddle_host_aarch64.registers import V0, V1, V2

_E = Emitter
_Method = Callable[..., None]


@emits(Op.BITCAST)
def bitcast(e: Emitter, op: Instruction) -> None:
    e.move(e.define(op), op.args[0])


@emits(Op.FNEG, Op.FABS)
def sign(e: Emitter, op: Instruction) -> None:
    source = e.use_or_zero(op.args[0], SCRATCH)
    negate = op.op is Op.FNEG
    if op.type is Type.F64:
        (e.EOR_xxi if negate else e.AND_xxi)(e.define(op), source, 1 << 63 if negate else (1 << 63) - 1)
    else:
        (e.EOR_wwi if negate else e.AND_wwi)(e.define(op), source, 1 << 31 if negate else (1 << 31) - 1)


def bits_of(value: Instruction) -> int:
    return 8 * value.type.size


def _begin(e: Emitter) -> None:
    if e.float_control_stale:
        e.load_float_control()


def _load(e: Emitter, register: int, value: Instruction) -> None:
    """The float `value` to a floating-point register."""
    (e.FMOV_dx if is_wide(value) else e.FMOV_sw)(register, e.use_or_zero(value, SCRATCH))


def _keep(e: Emitter, op: Instruction, register: int) -> None:
    """The result from a floating-point register."""
    if op.last_use >= 0:
        (e.FMOV_xd if is_wide(op) else e.FMOV_ws)(e.define(op), register)


# -- arithmetic --------------------------------------------------------------------------------------------------------

_ARITHMETIC: Final[dict[Op, tuple[str, _Method, _Method]]] = {
    Op.FADD: ("fp_add", _E.FADD_sss, _E.FADD_ddd),
    Op.FSUB: ("fp_sub", _E.FSUB_sss, _E.FSUB_ddd),
    Op.FMUL: ("fp_mul", _E.FMUL_sss, _E.FMUL_ddd),
    Op.FDIV: ("fp_div", _E.FDIV_sss, _E.FDIV_ddd),
    Op.FSQRT: ("fp_sqrt", _E.FSQRT_ss, _E.FSQRT_dd),
    Op.FMA: ("fp_fma", _E.FMADD_ssss, _E.FMADD_dddd),
}


@emits(*_ARITHMETIC)
def arithmetic(e: Emitter, op: Instruction) -> None:
    name, single, double = _ARITHMETIC[op.op]
    if not e.inline_floats:
        call_native(e, op, native(f"{name}{bits_of(op)}", pure_state=True), op.args)
        return
    _begin(e)
    registers = (V0, V1, V2)[: len(op.args)]
    for register, value in zip(registers, op.args, strict=True):
        _load(e, register, value)
    (double if is_wide(op) else single)(e, V0, *registers)
    _keep(e, op, V0)


# -- comparison --------------------------------------------------------------------------------------------------------


@emits(Op.FCMP)
def fcmp(e: Emitter, op: Instruction) -> None:
    a, b = op.args
    double = is_wide(a)
    signalling = op.aux is FloatCompare.SIGNALLING
    if not e.inline_floats:
        name = "fp_compare_signalling" if signalling else "fp_compare"
        call_native(e, op, native(f"{name}{bits_of(a)}", pure_state=True), op.args)
        return
    _begin(e)
    _load(e, V0, a)
    _load(e, V1, b)
    e.clobber_flags()
    if signalling:
        (e.FCMPE_dd if double else e.FCMPE_ss)(V0, V1)
    else:
        (e.FCMP_dd if double else e.FCMP_ss)(V0, V1)
    if op.last_use < 0:
        return
    # C is set unless it is less; greater counts one more; unordered, which alone sets V, is 3.
    e.MOVZ_wi(SCRATCH2, 3)
    e.CSET_wc(SCRATCH, cc.CS)
    e.CSINC_wwwc(SCRATCH, SCRATCH, SCRATCH, cc.LE)
    e.CSEL_wwwc(e.define(op), SCRATCH2, SCRATCH, cc.VS)


# -- conversions -------------------------------------------------------------------------------------------------------


@emits(Op.FCVT)
def fcvt(e: Emitter, op: Instruction) -> None:
    widens = is_wide(op)
    if not e.inline_floats:
        name = "fp_f32_to_f64" if widens else "fp_f64_to_f32"
        call_native(e, op, native(name, pure_state=True), op.args)
        return
    _begin(e)
    _load(e, V0, op.args[0])
    (e.FCVT_ds if widens else e.FCVT_sd)(V0, V0)
    _keep(e, op, V0)


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
"""The same towards zero, multiplied by a power of two first."""


def _form(integer_wide: bool, float_wide: bool) -> int:
    return integer_wide << 1 | float_wide


@emits(Op.FTOI)
def ftoi(e: Emitter, op: Instruction) -> None:
    how = op.aux
    assert isinstance(how, FloatToInt)
    source = op.args[0]
    width = how.width or bits_of(op)
    word = int(how.signed) | int(how.rounding) << 1 | how.fraction << 8 | width << 16
    args = (source, Instruction(Op.CONST, Type.I32, (), word))
    name = f"fp_f{bits_of(source)}_to_int"
    scaled = how.fraction != 0
    if not e.inline_floats or width == 16 or (scaled and how.rounding is not Rounding.ZERO) or how.fraction > width:
        call_native(e, op, native(name, pure_state=True), args)
        return
    _begin(e)
    _load(e, V0, source)
    form = _form(width == 64, is_wide(source))
    if scaled:
        _TO_FIXED[how.signed][form](e, SCRATCH, V0, how.fraction)
    elif how.rounding is Rounding.CURRENT:
        _by_current_rounding(e, how.signed, form)
    else:
        _TO_INTEGER[how.rounding, how.signed][form](e, SCRATCH, V0)
    if op.last_use >= 0:
        if how.signed and width < bits_of(op):
            e.SXTW_xw(e.define(op), SCRATCH)
        else:
            e.copy(e.define(op), SCRATCH)


def _by_current_rounding(e: Emitter, signed: bool, form: int) -> None:
    """No conversion looks at FPCR's rounding mode: there is one instruction for each."""
    e.GET_wxi(SCRATCH2, ENV, OFFSET["fp_rounding"])
    e.CBNZ_wi(SCRATCH2, 0)
    e.hot_relocs.append((field_kind(Source.COLD, fields.BRANCH19), len(e.code) - 4, len(e.cold)))
    _TO_INTEGER[Rounding.NEAREST, signed][form](e, SCRATCH, V0)
    hot = e.code
    e.code = e.cold
    for rounding in (Rounding.UP, Rounding.DOWN, Rounding.ZERO):
        following = e.label()
        if rounding is not Rounding.ZERO:
            e.SUB_wwi(SCRATCH2, SCRATCH2, 1)
            e.CBNZ_wi(SCRATCH2, 0)
            e.refer(following, BRANCH19)
        _TO_INTEGER[rounding, signed][form](e, SCRATCH, V0)
        e.B_i(0)
        e.cold_relocs.append((HOT26, len(e.code) - 4, len(hot)))
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
    word = int(how.signed) | int(how.rounding) << 1 | how.fraction << 8 | bits_of(source) << 16
    args = (source, Instruction(Op.CONST, Type.I32, (), word))
    name = native(f"fp_int_to_f{bits_of(op)}", pure_state=True)
    usual = how.rounding in (Rounding.NEAREST, Rounding.CURRENT) and how.fraction <= bits_of(source)
    if not e.inline_floats or not usual:
        call_native(e, op, name, args)
        return
    _begin(e)
    form = _form(is_wide(source), is_wide(op))
    exact = is_wide(op) and not is_wide(source)
    other_rounding = how.rounding is Rounding.NEAREST and not exact
    convert = (_FROM_FIXED if how.fraction else _FROM_INTEGER)[how.signed][form]
    fraction = (how.fraction,) if how.fraction else ()
    register = e.use_or_zero(source, SCRATCH)
    if not other_rounding:
        convert(e, V0, register, *fraction)
        _keep(e, op, V0)
        return
    e.GET_wxi(SCRATCH2, ENV, OFFSET["fp_rounding"])
    e.CBNZ_wi(SCRATCH2, 0)
    e.hot_relocs.append((field_kind(Source.COLD, fields.BRANCH19), len(e.code) - 4, len(e.cold)))
    convert(e, V0, register, *fraction)
    hot = e.code
    e.code = e.cold
    e.MRS_x_FPCR(SCRATCH2)
    e.AND_xxi(SCRATCH3, SCRATCH2, ~_ROUNDING & (1 << 64) - 1)
    e.MSR_FPCR_x(SCRATCH3)
    convert(e, V0, register, *fraction)
    e.MSR_FPCR_x(SCRATCH2)
    e.B_i(0)
    e.cold_relocs.append((HOT26, len(e.code) - 4, len(hot)))
    e.code = hot
    _keep(e, op, V0)


_ROUNDING: Final = 3 << 22
"""FPCR.RMode."""
