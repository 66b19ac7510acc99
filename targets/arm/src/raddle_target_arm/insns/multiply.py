# SPDX-License-Identifier: Apache-2.0
"""Multiplication, division, and sums of absolute differences."""

from __future__ import annotations

from raddle.ir.builder import Builder, Value
from raddle.ir.types import Type
from raddle.translate.decode import Fields
from raddle_target_arm.insns.common import read, set_q, wide, write, write_two

I32, I64 = Type.I32, Type.I64

# -- 32 and 64 bits ----------------------------------------------------------------------------------------------------


def _product(b: Builder, f: Fields) -> Value:
    return b.mul(read(b, f, f.n), read(b, f, f.m))


def MUL(b: Builder, f: Fields) -> None:
    """MUL{S}<c> <Rd>, <Rn>, <Rm>   (A8.8.114)"""
    result = _product(b, f)
    if f.S:
        b.set_nz(result)
    write(b, f, f.d, result)


def MLA(b: Builder, f: Fields) -> None:
    """MLA{S}<c> <Rd>, <Rn>, <Rm>, <Ra>   (A8.8.100)"""
    result = b.add(_product(b, f), read(b, f, f.a))
    if f.S:
        b.set_nz(result)
    write(b, f, f.d, result)


def MLS(b: Builder, f: Fields) -> None:
    """MLS<c> <Rd>, <Rn>, <Rm>, <Ra>   (A8.8.101)"""
    write(b, f, f.d, b.sub(read(b, f, f.a), _product(b, f)))


def _unsigned_product(b: Builder, f: Fields) -> Value:
    return b.mul(b.zext(read(b, f, f.n), I64), b.zext(read(b, f, f.m), I64))


def _signed_product(b: Builder, f: Fields) -> Value:
    return b.mul(b.sext(read(b, f, f.n)), b.sext(read(b, f, f.m)))


def _accumulator(b: Builder, f: Fields) -> Value:
    return wide(b, read(b, f, f.h), read(b, f, f.l))


def _long(b: Builder, f: Fields, result: Value) -> None:
    """RdHi:RdLo = result, with N and Z from all 64 bits if S."""
    if f.S:
        b.set_nz(result)
    _long_plain(b, f, result)


def UMULL(b: Builder, f: Fields) -> None:
    """UMULL{S}<c> <RdLo>, <RdHi>, <Rn>, <Rm>   (A8.8.257)"""
    _long(b, f, _unsigned_product(b, f))


def UMLAL(b: Builder, f: Fields) -> None:
    """UMLAL{S}<c> <RdLo>, <RdHi>, <Rn>, <Rm>   (A8.8.256)"""
    _long(b, f, b.add(_unsigned_product(b, f), _accumulator(b, f)))


def SMULL(b: Builder, f: Fields) -> None:
    """SMULL{S}<c> <RdLo>, <RdHi>, <Rn>, <Rm>   (A8.8.189)"""
    _long(b, f, _signed_product(b, f))


def SMLAL(b: Builder, f: Fields) -> None:
    """SMLAL{S}<c> <RdLo>, <RdHi>, <Rn>, <Rm>   (A8.8.178)"""
    _long(b, f, b.add(_signed_product(b, f), _accumulator(b, f)))


def _long_plain(b: Builder, f: Fields, result: Value) -> None:
    """RdHi:RdLo = result, without flags."""
    write_two(b, f, (f.l, b.trunc(result, I32)), (f.h, b.trunc(b.shr(result, 32), I32)))


def UMAAL(b: Builder, f: Fields) -> None:
    """UMAAL<c> <RdLo>, <RdHi>, <Rn>, <Rm>   (A8.8.255)"""
    sums = b.add(b.zext(read(b, f, f.h), I64), b.zext(read(b, f, f.l), I64))
    _long_plain(b, f, b.add(_unsigned_product(b, f), sums))


def UDIV(b: Builder, f: Fields) -> None:
    """UDIV<c> <Rd>, <Rn>, <Rm>: division by zero gives 0   (A8.8.248)"""
    write(b, f, f.d, b.udiv(read(b, f, f.n), read(b, f, f.m)))


def SDIV(b: Builder, f: Fields) -> None:
    """SDIV<c> <Rd>, <Rn>, <Rm>: division by zero gives 0   (A8.8.165)"""
    write(b, f, f.d, b.sdiv(read(b, f, f.n), read(b, f, f.m)))


# -- the high word -----------------------------------------------------------------------------------------------------


def _high_word(b: Builder, f: Fields, value: Value) -> None:
    """Rd = the high word, rounded to nearest if R."""
    if f.R:
        value = b.add(value, 1 << 31)
    write(b, f, f.d, b.trunc(b.shr(value, 32), I32))


def SMMUL(b: Builder, f: Fields) -> None:
    """SMMUL{R}<c> <Rd>, <Rn>, <Rm>   (A8.8.186)"""
    _high_word(b, f, _signed_product(b, f))


def SMMLA(b: Builder, f: Fields) -> None:
    """SMMLA{R}<c> <Rd>, <Rn>, <Rm>, <Ra>   (A8.8.184)"""
    high = b.shl(b.zext(read(b, f, f.a), I64), 32)
    _high_word(b, f, b.add(high, _signed_product(b, f)))


def SMMLS(b: Builder, f: Fields) -> None:
    """SMMLS{R}<c> <Rd>, <Rn>, <Rm>, <Ra>   (A8.8.185)"""
    high = b.shl(b.zext(read(b, f, f.a), I64), 32)
    _high_word(b, f, b.sub(high, _signed_product(b, f)))


# -- halfwords ---------------------------------------------------------------------------------------------------------


def _half(b: Builder, value: Value, top: int) -> Value:
    return b.sar(value, 16) if top else b.sext16(value)


def _half_product(b: Builder, f: Fields) -> Value:
    return b.mul(_half(b, read(b, f, f.n), f.N), _half(b, read(b, f, f.m), f.M))


def _accumulate(b: Builder, f: Fields, product: Value) -> None:
    """Rd = product + Ra; Q on overflow."""
    result = b.add(product, read(b, f, f.a))
    set_q(b, b.overflow_of(result))
    write(b, f, f.d, result)


def SMULxy(b: Builder, f: Fields) -> None:
    """SMUL<x><y><c> <Rd>, <Rn>, <Rm>   (A8.8.188)"""
    write(b, f, f.d, _half_product(b, f))


def SMLAxy(b: Builder, f: Fields) -> None:
    """SMLA<x><y><c> <Rd>, <Rn>, <Rm>, <Ra>   (A8.8.176)"""
    _accumulate(b, f, _half_product(b, f))


def SMLALxy(b: Builder, f: Fields) -> None:
    """SMLAL<x><y><c> <RdLo>, <RdHi>, <Rn>, <Rm>   (A8.8.179)"""
    _long_plain(b, f, b.add(b.sext(_half_product(b, f)), _accumulator(b, f)))


def _word_by_half(b: Builder, f: Fields) -> Value:
    """The top 32 of the 48 bits of Rn times a half of Rm."""
    half = _half(b, read(b, f, f.m), f.M)
    return b.trunc(b.shr(b.mul(b.sext(read(b, f, f.n)), b.sext(half)), 16), I32)


def SMULWy(b: Builder, f: Fields) -> None:
    """SMULW<y><c> <Rd>, <Rn>, <Rm>   (A8.8.190)"""
    write(b, f, f.d, _word_by_half(b, f))


def SMLAWy(b: Builder, f: Fields) -> None:
    """SMLAW<y><c> <Rd>, <Rn>, <Rm>, <Ra>   (A8.8.181)"""
    _accumulate(b, f, _word_by_half(b, f))


# -- dual halfwords ----------------------------------------------------------------------------------------------------


def _dual(b: Builder, f: Fields) -> tuple[Value, Value]:
    """Bottom by bottom and top by top as I64; bottom by top and top by bottom if X."""
    n, m = read(b, f, f.n), read(b, f, f.m)
    first = b.mul(_half(b, n, 0), _half(b, m, f.X))
    second = b.mul(_half(b, n, 1), _half(b, m, not f.X))
    return b.sext(first), b.sext(second)


def _narrow_q(b: Builder, f: Fields, result: Value) -> None:
    """Rd = the low word of an I64; Q if that loses something."""
    low = b.trunc(result, I32)
    set_q(b, b.ne(b.sext(low), result))
    write(b, f, f.d, low)


def SMUAD(b: Builder, f: Fields) -> None:
    """SMUAD{X}<c> <Rd>, <Rn>, <Rm>   (A8.8.187)"""
    first, second = _dual(b, f)
    _narrow_q(b, f, b.add(first, second))


def SMUSD(b: Builder, f: Fields) -> None:
    """SMUSD{X}<c> <Rd>, <Rn>, <Rm>: cannot overflow   (A8.8.191)"""
    first, second = _dual(b, f)
    write(b, f, f.d, b.trunc(b.sub(first, second), I32))


def SMLAD(b: Builder, f: Fields) -> None:
    """SMLAD{X}<c> <Rd>, <Rn>, <Rm>, <Ra>   (A8.8.177)"""
    first, second = _dual(b, f)
    _narrow_q(b, f, b.add(b.add(first, second), b.sext(read(b, f, f.a))))


def SMLSD(b: Builder, f: Fields) -> None:
    """SMLSD{X}<c> <Rd>, <Rn>, <Rm>, <Ra>   (A8.8.182)"""
    first, second = _dual(b, f)
    _narrow_q(b, f, b.add(b.sub(first, second), b.sext(read(b, f, f.a))))


def SMLALD(b: Builder, f: Fields) -> None:
    """SMLALD{X}<c> <RdLo>, <RdHi>, <Rn>, <Rm>   (A8.8.180)"""
    first, second = _dual(b, f)
    _long_plain(b, f, b.add(_accumulator(b, f), b.add(first, second)))


def SMLSLD(b: Builder, f: Fields) -> None:
    """SMLSLD{X}<c> <RdLo>, <RdHi>, <Rn>, <Rm>   (A8.8.183)"""
    first, second = _dual(b, f)
    _long_plain(b, f, b.add(_accumulator(b, f), b.sub(first, second)))


# -- sums of absolute differences --------------------------------------------------------------------------------------


def _absolute_differences(b: Builder, f: Fields) -> Value:
    n, m = read(b, f, f.n), read(b, f, f.m)
    total: Value | None = None
    for lsb in (0, 8, 16, 24):
        difference = b.sub(b.extract(n, lsb, 8), b.extract(m, lsb, 8))
        sign = b.sar(difference, 31)
        size = b.sub(b.xor(difference, sign), sign)
        total = size if total is None else b.add(total, size)
    assert total is not None
    return total


def USAD8(b: Builder, f: Fields) -> None:
    """USAD8<c> <Rd>, <Rn>, <Rm>   (A8.8.263)"""
    write(b, f, f.d, _absolute_differences(b, f))


def USADA8(b: Builder, f: Fields) -> None:
    """USADA8<c> <Rd>, <Rn>, <Rm>, <Ra>   (A8.8.264)"""
    write(b, f, f.d, b.add(_absolute_differences(b, f), read(b, f, f.a)))
