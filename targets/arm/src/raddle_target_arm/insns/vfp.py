# SPDX-License-Identifier: Apache-2.0
"""VFP arithmetic, comparisons, and moves between its registers."""

from __future__ import annotations

from raddle.ir.builder import Builder, FloatCompare, Value
from raddle.ir.types import Type
from raddle.translate.decode import Fields
from raddle_target_arm.insns.vfp_common import bits, enabled, read, scalar, write
from raddle_target_arm.state import FPSCR_NZCV

# -- arithmetic --------------------------------------------------------------------------------------------------------


@scalar
def VADD(b: Builder, f: Fields) -> None:
    """VADD<c>.F<size> <d>, <n>, <m>   (A8.8.283)"""
    write(b, f, b.fadd(read(b, f, f.n), read(b, f, f.m)))


@scalar
def VSUB(b: Builder, f: Fields) -> None:
    """VSUB<c>.F<size> <d>, <n>, <m>   (A8.8.415)"""
    write(b, f, b.fsub(read(b, f, f.n), read(b, f, f.m)))


@scalar
def VMUL(b: Builder, f: Fields) -> None:
    """VMUL<c>.F<size> <d>, <n>, <m>   (A8.8.351)"""
    write(b, f, _product(b, f))


@scalar
def VNMUL(b: Builder, f: Fields) -> None:
    """VNMUL<c>.F<size> <d>, <n>, <m>   (A8.8.356)"""
    write(b, f, b.fneg(_product(b, f)))


@scalar
def VDIV(b: Builder, f: Fields) -> None:
    """VDIV<c>.F<size> <d>, <n>, <m>   (A8.8.312)"""
    write(b, f, b.fdiv(read(b, f, f.n), read(b, f, f.m)))


@scalar
def VSQRT(b: Builder, f: Fields) -> None:
    """VSQRT<c>.F<size> <d>, <m>   (A8.8.401)"""
    write(b, f, b.fsqrt(read(b, f, f.m)))


@scalar
def VABS(b: Builder, f: Fields) -> None:
    """VABS<c>.F<size> <d>, <m>   (A8.8.280)"""
    write(b, f, b.fabs(read(b, f, f.m)))


@scalar
def VNEG(b: Builder, f: Fields) -> None:
    """VNEG<c>.F<size> <d>, <m>   (A8.8.355)"""
    write(b, f, b.fneg(read(b, f, f.m)))


# Multiply and accumulate in two steps, each of them rounded. The order of the addition's operands decides whose NaN is
# the result.


def _product(b: Builder, f: Fields) -> Value:
    return b.fmul(read(b, f, f.n), read(b, f, f.m))


@scalar
def VMLA(b: Builder, f: Fields) -> None:
    """VMLA<c>.F<size> <d>, <n>, <m>   (A8.8.337)"""
    product = _product(b, f)
    write(b, f, b.fadd(read(b, f, f.d), product))


@scalar
def VMLS(b: Builder, f: Fields) -> None:
    """VMLS<c>.F<size> <d>, <n>, <m>   (A8.8.337)"""
    product = b.fneg(_product(b, f))
    write(b, f, b.fadd(read(b, f, f.d), product))


@scalar
def VNMLA(b: Builder, f: Fields) -> None:
    """VNMLA<c>.F<size> <d>, <n>, <m>   (A8.8.356)"""
    product = b.fneg(_product(b, f))
    write(b, f, b.fadd(b.fneg(read(b, f, f.d)), product))


@scalar
def VNMLS(b: Builder, f: Fields) -> None:
    """VNMLS<c>.F<size> <d>, <n>, <m>   (A8.8.356)"""
    product = _product(b, f)
    write(b, f, b.fadd(b.fneg(read(b, f, f.d)), product))


# The same with one rounding.


@scalar
def VFMA(b: Builder, f: Fields) -> None:
    """VFMA<c>.F<size> <d>, <n>, <m>   (A8.8.317)"""
    write(b, f, b.fma(read(b, f, f.n), read(b, f, f.m), read(b, f, f.d)))


@scalar
def VFMS(b: Builder, f: Fields) -> None:
    """VFMS<c>.F<size> <d>, <n>, <m>   (A8.8.317)"""
    write(b, f, b.fma(b.fneg(read(b, f, f.n)), read(b, f, f.m), read(b, f, f.d)))


@scalar
def VFNMA(b: Builder, f: Fields) -> None:
    """VFNMA<c>.F<size> <d>, <n>, <m>   (A8.8.318)"""
    write(b, f, b.fma(b.fneg(read(b, f, f.n)), read(b, f, f.m), b.fneg(read(b, f, f.d))))


@scalar
def VFNMS(b: Builder, f: Fields) -> None:
    """VFNMS<c>.F<size> <d>, <n>, <m>   (A8.8.318)"""
    write(b, f, b.fma(read(b, f, f.n), read(b, f, f.m), b.fneg(read(b, f, f.d))))


# -- moves -------------------------------------------------------------------------------------------------------------


@scalar
def VMOV_imm(b: Builder, f: Fields) -> None:
    """VMOV<c>.F<size> <d>, #<imm>   (A8.8.339)"""
    b.set(bits(f, f.d), f.imm)


@scalar
def VMOV_reg(b: Builder, f: Fields) -> None:
    """VMOV<c>.F<size> <d>, <m>   (A8.8.340)"""
    b.set(bits(f, f.d), b.get(bits(f, f.m)))


# -- comparisons -------------------------------------------------------------------------------------------------------

_FLAGS = 0x3268
"""N, Z, C and V of unordered, greater, equal and less, four bits each from the top (A2.6.6)."""


def _compare(b: Builder, f: Fields, second: Value) -> None:
    kind = FloatCompare.SIGNALLING if f.E else FloatCompare.QUIET
    relation = b.fcmp(read(b, f, f.d), second, kind)
    nzcv = b.shr(_FLAGS, b.shl(relation, 2), Type.I32)
    b.set(FPSCR_NZCV, b.shl(nzcv, 28))


@enabled
def VCMP(b: Builder, f: Fields) -> None:
    """VCMP{E}<c>.F<size> <d>, <m>   (A8.8.303)"""
    _compare(b, f, read(b, f, f.m))


@enabled
def VCMP_zero(b: Builder, f: Fields) -> None:
    """VCMP{E}<c>.F<size> <d>, #0.0   (A8.8.303)"""
    _compare(b, f, b.const(0, Type.F64 if f.double else Type.F32))
