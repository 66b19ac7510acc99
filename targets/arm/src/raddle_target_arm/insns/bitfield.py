# SPDX-License-Identifier: Apache-2.0
"""Bit fields, extension, packing, reversal and counting."""

from __future__ import annotations

from collections.abc import Callable

from raddle.ir.builder import Builder, Value
from raddle.translate.decode import Fields
from raddle_target_arm.insns.common import ASR, LSL, read, shift, write
from raddle_target_arm.state import GE

# -- bit fields --------------------------------------------------------------------------------------------------------


def BFC(b: Builder, f: Fields) -> None:
    """BFC<c> <Rd>, #<lsb>, #<width>   (A8.8.19)"""
    write(b, f, f.d, b.and_(read(b, f, f.d), ~((1 << f.width) - 1 << f.lsb)))


def BFI(b: Builder, f: Fields) -> None:
    """BFI<c> <Rd>, <Rn>, #<lsb>, #<width>   (A8.8.20)"""
    write(b, f, f.d, b.deposit(read(b, f, f.d), read(b, f, f.n), f.lsb, f.width))


def SBFX(b: Builder, f: Fields) -> None:
    """SBFX<c> <Rd>, <Rn>, #<lsb>, #<width>   (A8.8.164)"""
    write(b, f, f.d, b.sextract(read(b, f, f.n), f.lsb, f.width))


def UBFX(b: Builder, f: Fields) -> None:
    """UBFX<c> <Rd>, <Rn>, #<lsb>, #<width>   (A8.8.246)"""
    write(b, f, f.d, b.extract(read(b, f, f.n), f.lsb, f.width))


# -- extension ---------------------------------------------------------------------------------------------------------

Extend = Callable[[Builder, Value], Value]


def _rotated(b: Builder, f: Fields) -> Value:
    value = read(b, f, f.m)
    return b.ror(value, f.rotate) if f.rotate else value


def _extend(b: Builder, f: Fields, extend: Extend) -> None:
    write(b, f, f.d, extend(b, _rotated(b, f)))


def _extend_add(b: Builder, f: Fields, extend: Extend) -> None:
    write(b, f, f.d, b.add(read(b, f, f.n), extend(b, _rotated(b, f))))


def _two_bytes(b: Builder, f: Fields, extend: Extend) -> tuple[Value, Value]:
    """Bytes 0 and 2 of the rotated operand, extended."""
    value = _rotated(b, f)
    return extend(b, value), extend(b, b.shr(value, 16))


def _halves(b: Builder, f: Fields, low: Value, high: Value) -> None:
    """Rd = the low halfwords of two values."""
    write(b, f, f.d, b.deposit(low, high, 16, 16))


def _extend_add_two(b: Builder, f: Fields, extend: Extend) -> None:
    low, high = _two_bytes(b, f, extend)
    n = read(b, f, f.n)
    _halves(b, f, b.add(n, low), b.add(b.shr(n, 16), high))


def SXTB(b: Builder, f: Fields) -> None:
    """SXTB<c> <Rd>, <Rm>{, <rotation>}   (A8.8.233)"""
    _extend(b, f, Builder.sext8)


def SXTH(b: Builder, f: Fields) -> None:
    """SXTH<c> <Rd>, <Rm>{, <rotation>}   (A8.8.235)"""
    _extend(b, f, Builder.sext16)


def UXTB(b: Builder, f: Fields) -> None:
    """UXTB<c> <Rd>, <Rm>{, <rotation>}   (A8.8.274)"""
    _extend(b, f, Builder.zext8)


def UXTH(b: Builder, f: Fields) -> None:
    """UXTH<c> <Rd>, <Rm>{, <rotation>}   (A8.8.276)"""
    _extend(b, f, Builder.zext16)


def SXTAB(b: Builder, f: Fields) -> None:
    """SXTAB<c> <Rd>, <Rn>, <Rm>{, <rotation>}   (A8.8.230)"""
    _extend_add(b, f, Builder.sext8)


def SXTAH(b: Builder, f: Fields) -> None:
    """SXTAH<c> <Rd>, <Rn>, <Rm>{, <rotation>}   (A8.8.232)"""
    _extend_add(b, f, Builder.sext16)


def UXTAB(b: Builder, f: Fields) -> None:
    """UXTAB<c> <Rd>, <Rn>, <Rm>{, <rotation>}   (A8.8.271)"""
    _extend_add(b, f, Builder.zext8)


def UXTAH(b: Builder, f: Fields) -> None:
    """UXTAH<c> <Rd>, <Rn>, <Rm>{, <rotation>}   (A8.8.273)"""
    _extend_add(b, f, Builder.zext16)


def SXTB16(b: Builder, f: Fields) -> None:
    """SXTB16<c> <Rd>, <Rm>{, <rotation>}   (A8.8.234)"""
    _halves(b, f, *_two_bytes(b, f, Builder.sext8))


def UXTB16(b: Builder, f: Fields) -> None:
    """UXTB16<c> <Rd>, <Rm>{, <rotation>}   (A8.8.275)"""
    write(b, f, f.d, b.and_(_rotated(b, f), 0x00FF_00FF))


def SXTAB16(b: Builder, f: Fields) -> None:
    """SXTAB16<c> <Rd>, <Rn>, <Rm>{, <rotation>}   (A8.8.231)"""
    _extend_add_two(b, f, Builder.sext8)


def UXTAB16(b: Builder, f: Fields) -> None:
    """UXTAB16<c> <Rd>, <Rn>, <Rm>{, <rotation>}   (A8.8.272)"""
    _extend_add_two(b, f, Builder.zext8)


# -- packing and selection ---------------------------------------------------------------------------------------------


def PKHBT(b: Builder, f: Fields) -> None:
    """PKHBT<c> <Rd>, <Rn>, <Rm>{, LSL #<imm>}   (A8.8.125)"""
    shifted = shift(b, read(b, f, f.m), LSL, f.i)
    write(b, f, f.d, b.deposit(shifted, read(b, f, f.n), 0, 16))


def PKHTB(b: Builder, f: Fields) -> None:
    """PKHTB<c> <Rd>, <Rn>, <Rm>{, ASR #<imm>}   (A8.8.125)"""
    shifted = shift(b, read(b, f, f.m), ASR, f.i)
    write(b, f, f.d, b.deposit(read(b, f, f.n), shifted, 0, 16))


def SEL(b: Builder, f: Fields) -> None:
    """SEL<c> <Rd>, <Rn>, <Rm>: bytes of Rn where GE is set, of Rm where not   (A8.8.163)"""
    # Copy bit i of GE to bit 8 i, then to the whole byte
    bits = b.and_(b.mul(b.get(GE), 0x0020_4081), 0x0101_0101)
    mask = b.sub(b.shl(bits, 8), bits)
    n, m = read(b, f, f.n), read(b, f, f.m)
    write(b, f, f.d, b.xor(m, b.and_(b.xor(n, m), mask)))


# -- reversal and counting ---------------------------------------------------------------------------------------------


def REV(b: Builder, f: Fields) -> None:
    """REV<c> <Rd>, <Rm>   (A8.8.145)"""
    write(b, f, f.d, b.bswap(read(b, f, f.m)))


def REV16(b: Builder, f: Fields) -> None:
    """REV16<c> <Rd>, <Rm>   (A8.8.146)"""
    write(b, f, f.d, b.ror(b.bswap(read(b, f, f.m)), 16))


def REVSH(b: Builder, f: Fields) -> None:
    """REVSH<c> <Rd>, <Rm>   (A8.8.147)"""
    write(b, f, f.d, b.sar(b.bswap(read(b, f, f.m)), 16))


def RBIT(b: Builder, f: Fields) -> None:
    """RBIT<c> <Rd>, <Rm>   (A8.8.144)"""
    write(b, f, f.d, b.bitrev(read(b, f, f.m)))


def CLZ(b: Builder, f: Fields) -> None:
    """CLZ<c> <Rd>, <Rm>   (A8.8.33)"""
    write(b, f, f.d, b.clz(read(b, f, f.m)))
