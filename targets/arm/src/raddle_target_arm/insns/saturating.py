# SPDX-License-Identifier: Apache-2.0
"""Saturating arithmetic; everything that saturates sets the sticky Q flag."""

from __future__ import annotations

from raddle.ir.builder import Builder, Value
from raddle.ir.types import Condition, Type
from raddle.translate.decode import Fields
from raddle_target_arm.insns.common import read, set_q, shift, write


def _saturated(b: Builder, result: Value) -> tuple[Value, Value]:
    """The 32-bit add or sub ``result`` saturated, and whether it had to be."""
    overflow = b.overflow_of(result)
    # on overflow the sign is the wrong one: 0x7fffffff for a negative result, 0x80000000 for a positive one
    limit = b.xor(b.sar(result, 31), 0x8000_0000)
    return b.select(overflow, limit, result), overflow


def QADD(b: Builder, f: Fields) -> None:
    """QADD<c> <Rd>, <Rm>, <Rn>   (A8.8.134)"""
    result, saturated = _saturated(b, b.add(read(b, f, f.m), read(b, f, f.n)))
    set_q(b, saturated)
    write(b, f, f.d, result)


def QSUB(b: Builder, f: Fields) -> None:
    """QSUB<c> <Rd>, <Rm>, <Rn>   (A8.8.141)"""
    result, saturated = _saturated(b, b.sub(read(b, f, f.m), read(b, f, f.n)))
    set_q(b, saturated)
    write(b, f, f.d, result)


def _doubled(b: Builder, f: Fields) -> tuple[Value, Value]:
    n = read(b, f, f.n)
    return _saturated(b, b.add(n, n))


def QDADD(b: Builder, f: Fields) -> None:
    """QDADD<c> <Rd>, <Rm>, <Rn>: Rm + 2 Rn, both steps saturating   (A8.8.138)"""
    double, first = _doubled(b, f)
    result, second = _saturated(b, b.add(read(b, f, f.m), double))
    set_q(b, b.or_(first, second))
    write(b, f, f.d, result)


def QDSUB(b: Builder, f: Fields) -> None:
    """QDSUB<c> <Rd>, <Rm>, <Rn>: Rm - 2 Rn, both steps saturating   (A8.8.139)"""
    double, first = _doubled(b, f)
    result, second = _saturated(b, b.sub(read(b, f, f.m), double))
    set_q(b, b.or_(first, second))
    write(b, f, f.d, result)


def clamp(b: Builder, value: Value, low: int, high: int) -> Value:
    """The signed I32 ``value`` limited to ``low`` … ``high``."""
    value = b.select(b.icmp(Condition.SLT, value, low), low, value, Type.I32)
    return b.select(b.icmp(Condition.SGT, value, high), high, value, Type.I32)


def _signed_range(f: Fields) -> tuple[int, int]:
    return -(1 << f.width - 1), (1 << f.width - 1) - 1


def _unsigned_range(f: Fields) -> tuple[int, int]:
    return 0, (1 << f.width) - 1


def _word(b: Builder, f: Fields, limits: tuple[int, int]) -> None:
    value = shift(b, read(b, f, f.n), f.t, f.i)
    result = clamp(b, value, *limits)
    set_q(b, b.ne(result, value))
    write(b, f, f.d, result)


def _halfwords(b: Builder, f: Fields, limits: tuple[int, int]) -> None:
    n = read(b, f, f.n)
    low, high = b.sext16(n), b.sar(n, 16)
    low_result, high_result = clamp(b, low, *limits), clamp(b, high, *limits)
    set_q(b, b.or_(b.ne(low_result, low), b.ne(high_result, high)))
    write(b, f, f.d, b.deposit(low_result, high_result, 16, 16))


def SSAT(b: Builder, f: Fields) -> None:
    """SSAT<c> <Rd>, #<imm>, <Rn>{, <shift>}   (A8.8.193)"""
    _word(b, f, _signed_range(f))


def USAT(b: Builder, f: Fields) -> None:
    """USAT<c> <Rd>, #<imm>, <Rn>{, <shift>}   (A8.8.265)"""
    _word(b, f, _unsigned_range(f))


def SSAT16(b: Builder, f: Fields) -> None:
    """SSAT16<c> <Rd>, #<imm>, <Rn>   (A8.8.194)"""
    _halfwords(b, f, _signed_range(f))


def USAT16(b: Builder, f: Fields) -> None:
    """USAT16<c> <Rd>, #<imm>, <Rn>   (A8.8.266)"""
    _halfwords(b, f, _unsigned_range(f))
