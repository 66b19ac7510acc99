# SPDX-License-Identifier: Apache-2.0
"""Loads, stores, branches, moves and conversions of floating-point registers that do no arithmetic (4.8 to 4.10)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from raddle.ir.builder import Builder, Value
from raddle.ir.types import Align, Condition, MemOp
from raddle.translate.decode import Fields
from raddle.translate.semantics import Semantics
from raddle_target_alpha.exceptions import INSTRUCTION_BYTES
from raddle_target_alpha.fpcr import INE, IOV, read_fpcr, write_fpcr
from raddle_target_alpha.insns.common import I32, I64
from raddle_target_alpha.insns.float_common import (
    FLAGS,
    SIGN,
    Operation,
    checked,
    doubled,
    magnitude,
    register_to_s,
    s_to_register,
)
from raddle_target_alpha.insns.memory import address
from raddle_target_alpha.state import FIRST_FLOAT, ZERO, read, read_float, write

LONG: Final = MemOp(4, align=Align.NATURAL)
QUAD: Final = MemOp(8, align=Align.NATURAL)

# -- memory ------------------------------------------------------------------------------------------------------------


def _swapped_words(b: Builder, value: Value) -> Value:
    """The four words in the other order: in memory, VAX formats begin with the word that has sign and exponent."""
    halves = b.ror(value, 32)
    low = 0x0000_FFFF_0000_FFFF
    return b.or_(b.shl(b.and_(halves, low), 16), b.and_(b.shr(halves, 16), low))


def f_to_register(b: Builder, value: Value) -> Value:
    """An F number in memory (I32) as registers have it."""
    turned = b.ror(value, 16)
    wide = b.zext(turned, I64)
    zero = b.eq(b.extract(turned, 23, 8), 0)
    moved = b.add(b.shl(b.and_(wide, 0x7FFF_FFFF), 29), b.select(zero, 0, 0x380 << 52, I64))
    return b.or_(moved, b.shl(b.and_(wide, 1 << 31), 32))


def register_to_f(b: Builder, value: Value) -> Value:
    """The bits that memory format has of a register, I32."""
    return b.ror(register_to_s(b, value), 16)


def _load(memop: MemOp, convert: Callable[[Builder, Value], Value] | None) -> Semantics:
    """A load into F31 is a prefetch, and never faults."""
    type = I32 if memop.size == 4 else I64

    def semantics(b: Builder, f: Fields) -> None:
        if f.a != FIRST_FLOAT + ZERO:
            value = b.load(address(b, f), memop, f.mmu, type)
            write(b, f.a, value if convert is None else convert(b, value))

    return semantics


def _store(memop: MemOp, convert: Callable[[Builder, Value], Value] | None) -> Semantics:
    def semantics(b: Builder, f: Fields) -> None:
        value = read(b, f.a)
        b.store(address(b, f), value if convert is None else convert(b, value), memop, f.mmu)

    return semantics


LDS, LDT = _load(LONG, s_to_register), _load(QUAD, None)
LDF, LDG = _load(LONG, f_to_register), _load(QUAD, _swapped_words)
STS, STT = _store(LONG, register_to_s), _store(QUAD, None)
STF, STG = _store(LONG, register_to_f), _store(QUAD, _swapped_words)

# -- branches and moves ------------------------------------------------------------------------------------------------


def _satisfies(b: Builder, condition: str, value: Value) -> Value:
    """Whether a register, whose zeros are equal, satisfies a condition: I1."""
    match condition:
        case "EQ":
            return b.eq(doubled(b, value), 0)
        case "NE":
            return b.ne(doubled(b, value), 0)
        case "GE":
            return b.or_(b.icmp(Condition.SGE, value, 0), b.eq(value, SIGN))
        case "LT":
            # Below -0 there is nothing but the smallest integer, which is -0 itself.
            return b.icmp(Condition.UGT, value, SIGN)
        case "GT":
            return b.icmp(Condition.SGT, value, 0)
        case _:
            return b.icmp(Condition.SLE, value, 0)


def _branch(condition: str) -> Semantics:
    def semantics(b: Builder, f: Fields) -> None:
        with b.if_(_satisfies(b, condition, read(b, f.a))):
            b.goto(0, f.disp)
        b.goto(INSTRUCTION_BYTES)

    return semantics


def _move(condition: str) -> Semantics:
    def semantics(b: Builder, f: Fields) -> None:
        if f.c != FIRST_FLOAT + ZERO:
            write(b, f.c, b.select(_satisfies(b, condition, read(b, f.a)), read(b, f.b), read(b, f.c)))

    return semantics


FBEQ, FBNE, FBLT = _branch("EQ"), _branch("NE"), _branch("LT")
FBLE, FBGE, FBGT = _branch("LE"), _branch("GE"), _branch("GT")
FCMOVEQ, FCMOVNE, FCMOVLT = _move("EQ"), _move("NE"), _move("LT")
FCMOVLE, FCMOVGE, FCMOVGT = _move("LE"), _move("GE"), _move("GT")


def CPYS(b: Builder, f: Fields) -> None:
    """The sign of Fa, all else of Fb. Of one register it is a move, and of F31 the absolute value."""
    if f.a == f.b:
        write(b, f.c, read_float(b, f.b))
    elif f.a == FIRST_FLOAT + ZERO:
        write(b, f.c, magnitude(b, read(b, f.b)))
    else:
        write(b, f.c, b.or_(b.and_(read(b, f.a), SIGN), magnitude(b, read(b, f.b))))


def CPYSN(b: Builder, f: Fields) -> None:
    """The opposite of the sign of Fa, all else of Fb. Of one register it is the negative."""
    if f.a == f.b:
        write(b, f.c, b.xor(read(b, f.b), SIGN))
    else:
        write(b, f.c, b.or_(b.and_(b.not_(read(b, f.a)), SIGN), magnitude(b, read(b, f.b))))


def CPYSE(b: Builder, f: Fields) -> None:
    """Sign and exponent of Fa, the fraction of Fb."""
    write(b, f.c, b.deposit(read(b, f.a), read(b, f.b), 0, 52))


# -- integers in floating-point registers ------------------------------------------------------------------------------


def _longword(b: Builder, value: Value) -> Value:
    """An integer longword as floating-point registers have it, from the low bits of a quadword (4.7.5)."""
    return b.or_(b.shl(b.and_(b.shr(value, 30), 3), 62), b.shl(b.and_(value, 0x3FFF_FFFF), 29))


def CVTLQ(b: Builder, f: Fields) -> None:
    write(b, f.c, b.sext(register_to_s(b, read(b, f.b))))


def CVTQL(b: Builder, f: Fields) -> None:
    """Without its high bits; that of what does not fit is an overflow, which traps with /V."""

    def compute(b: Builder, v: Sequence[Value]) -> Value:
        overflow = b.ne(b.sextract(v[0], 0, 32), v[0])
        b.set(FLAGS, b.or_(b.get(FLAGS), b.select(overflow, IOV | INE, 0, I32)))
        return _longword(b, v[0])

    checked(b, f, (f.b,), Operation(compute, I64, refused=None, may_be_tiny=False))


def ITOFT(b: Builder, f: Fields) -> None:
    write(b, f.c, read(b, f.a))


def ITOFS(b: Builder, f: Fields) -> None:
    write(b, f.c, s_to_register(b, b.trunc(read(b, f.a), I32)))


def ITOFF(b: Builder, f: Fields) -> None:
    """The longword has the words of an F number in the order of the other formats."""
    write(b, f.c, f_to_register(b, b.ror(b.trunc(read(b, f.a), I32), 16)))


FTOIT = ITOFT


def FTOIS(b: Builder, f: Fields) -> None:
    write(b, f.c, b.sext(register_to_s(b, read(b, f.a))))


def MF_FPCR(b: Builder, f: Fields) -> None:
    write(b, f.a, read_fpcr(b))


def MT_FPCR(b: Builder, f: Fields) -> None:
    write_fpcr(b, read(b, f.a))
    b.goto_indirect(b.pc(INSTRUCTION_BYTES))
