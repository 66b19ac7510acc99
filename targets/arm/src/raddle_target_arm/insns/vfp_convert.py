# SPDX-License-Identifier: Apache-2.0
"""VFP conversions: between the precisions, and between floating point and integers or fixed-point numbers."""

from __future__ import annotations

from typing import Final

from raddle.ir.builder import Builder, FloatToInt, IntToFloat, Rounding, Value, native
from raddle.ir.types import Type
from raddle.translate.decode import Fields
from raddle_target_arm.insns.vfp_common import bits, enabled, read, write
from raddle_target_arm.state import DF, FPSCR_AHP, SF, S

_HALF_TO_SINGLE: Final = native("fp_f16_to_f32", pure_state=True)
_SINGLE_TO_HALF: Final = native("fp_f32_to_f16", pure_state=True)

# -- between the precisions --------------------------------------------------------------------------------------------


@enabled
def VCVT_f64_f32(b: Builder, f: Fields) -> None:
    """VCVT<c>.F64.F32 <Dd>, <Sm>   (A8.8.309)"""
    b.set(DF[f.d], b.fcvt(b.get(SF[f.m]), Type.F64))


@enabled
def VCVT_f32_f64(b: Builder, f: Fields) -> None:
    """VCVT<c>.F32.F64 <Sd>, <Dm>   (A8.8.309)"""
    b.set(SF[f.d], b.fcvt(b.get(DF[f.m]), Type.F32))


@enabled
def VCVT_f32_f16(b: Builder, f: Fields) -> None:
    """VCVT{B,T}<c>.F32.F16 <Sd>, <Sm>   (A8.8.311)"""
    half = b.extract(b.get(S[f.m]), 16 if f.T else 0, 16)
    b.set(S[f.d], b.call(_HALF_TO_SINGLE, half, b.get(FPSCR_AHP), type=Type.I32))


@enabled
def VCVT_f16_f32(b: Builder, f: Fields) -> None:
    """VCVT{B,T}<c>.F16.F32 <Sd>, <Sm>: the other half of Sd stays   (A8.8.311)"""
    half = b.call(_SINGLE_TO_HALF, b.get(S[f.m]), b.get(FPSCR_AHP), type=Type.I32)
    b.set(S[f.d], b.deposit(b.get(S[f.d]), half, 16 if f.T else 0, 16))


# -- integers, always in a single-precision register -------------------------------------------------------------------


@enabled
def VCVT_to_int(b: Builder, f: Fields) -> None:
    """VCVT{R}<c>.{S,U}32.F<size> <Sd>, <m>   (A8.8.306)"""
    rounding = Rounding.ZERO if f.round_zero else Rounding.CURRENT
    b.set(S[f.d], b.ftoi(read(b, f, f.m), Type.I32, FloatToInt(bool(f.signed), rounding)))


@enabled
def VCVT_from_int(b: Builder, f: Fields) -> None:
    """VCVT<c>.F<size>.{S,U}32 <d>, <Sm>   (A8.8.306)"""
    write(b, f, b.itof(b.get(S[f.m]), Type.F64 if f.double else Type.F32, IntToFloat(bool(f.signed))))


# -- fixed-point numbers, in the register that the result goes to ------------------------------------------------------


@enabled
def VCVT_to_fixed(b: Builder, f: Fields) -> None:
    """VCVT<c>.{S,U}{16,32}.F<size> <d>, <d>, #<fbits>: extended to the register's size   (A8.8.308)"""
    how = FloatToInt(bool(f.signed), Rounding.ZERO, f.fraction, f.size)
    b.set(bits(f, f.d), b.ftoi(read(b, f, f.d), Type.I64 if f.double else Type.I32, how))


@enabled
def VCVT_from_fixed(b: Builder, f: Fields) -> None:
    """VCVT<c>.F<size>.{S,U}{16,32} <d>, <d>, #<fbits>: to nearest, whatever FPSCR says   (A8.8.308)"""
    how = IntToFloat(bool(f.signed), f.fraction, Rounding.NEAREST)
    write(b, f, b.itof(_fixed(b, f), Type.F64 if f.double else Type.F32, how))


def _fixed(b: Builder, f: Fields) -> Value:
    """The low ``f.size`` bits of the register, extended to I32."""
    value = b.get(bits(f, f.d))
    if f.double:
        value = b.trunc(value, Type.I32)
    if f.size == 32:
        return value
    return b.sext16(value) if f.signed else b.zext16(value)
