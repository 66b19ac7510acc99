# SPDX-License-Identifier: Apache-2.0
"""Integer arithmetic, comparison, logic, shifts and byte manipulation (4.4, 4.5, 4.6).

Most instructions are Rc = function(Rav, Rbv); here they are written as that function of I64 values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raddle.ir.builder import Builder, Operand, Value
from raddle.ir.types import Condition
from raddle.translate.decode import Fields
from raddle.translate.semantics import Semantics
from raddle_target_alpha.exceptions import Summary, arithmetic
from raddle_target_alpha.insns.common import I32, I64, QUAD, add, is_zero, operand, test
from raddle_target_alpha.state import ZERO, read, write

Function = Callable[[Builder, Value, Value], Value]


def _operate(function: Function) -> Semantics:
    def semantics(b: Builder, f: Fields) -> None:
        write(b, f.c, function(b, read(b, f.a), operand(b, f)))

    return semantics


# -- addition, subtraction, multiplication -----------------------------------------------------------------------------


def _scaled(b: Builder, value: Value, scale: int) -> Value:
    return b.shl(value, scale) if scale and not is_zero(value) else value


def _quad(operation: Function, scale: int = 0) -> Semantics:
    return _operate(lambda b, x, y: operation(b, _scaled(b, x, scale), y))


def _long(operation: Function, scale: int = 0) -> Semantics:
    """The low 32 bits, sign-extended. What is above them in the operands does not matter to them."""
    return _operate(lambda b, x, y: b.sextract(operation(b, _scaled(b, x, scale), y), 0, 32))


def _sub(b: Builder, x: Value, y: Value) -> Value:
    return x if is_zero(y) else b.neg(y) if is_zero(x) else b.sub(x, y)


def _mul(b: Builder, x: Value, y: Value) -> Value:
    return b.mul(x, y)


ADDL, S4ADDL, S8ADDL = _long(add), _long(add, 2), _long(add, 3)
SUBL, S4SUBL, S8SUBL = _long(_sub), _long(_sub, 2), _long(_sub, 3)
ADDQ, S4ADDQ, S8ADDQ = _quad(add), _quad(add, 2), _quad(add, 3)
SUBQ, S4SUBQ, S8SUBQ = _quad(_sub), _quad(_sub, 2), _quad(_sub, 3)
MULL, MULQ = _long(_mul), _quad(_mul)
UMULH = _operate(lambda b, x, y: b.umulh(x, y))

Checked = Callable[[Builder, Value, Value], tuple[Value, Value]]
"""Gives the result, I64, and whether it overflows, I1."""


def _trapping(function: Checked) -> Semantics:
    """Rc gets the low bits of the result, then overflow traps (4.4.1)."""

    def semantics(b: Builder, f: Fields) -> None:
        result, overflow = function(b, read(b, f.a), operand(b, f))
        write(b, f.c, result)
        with b.if_(overflow):
            arithmetic(b, Summary.IOV, f.written)

    return semantics


def _checked_quad(operation: Function) -> Semantics:
    def function(b: Builder, x: Value, y: Value) -> tuple[Value, Value]:
        result = operation(b, x, y)
        return result, b.overflow_of(result)

    return _trapping(function)


def _checked_long(operation: Function) -> Semantics:
    def function(b: Builder, x: Value, y: Value) -> tuple[Value, Value]:
        result = operation(b, b.trunc(x, I32), b.trunc(y, I32))
        return b.sext(result), b.overflow_of(result)

    return _trapping(function)


def _checked_mull(b: Builder, x: Value, y: Value) -> tuple[Value, Value]:
    product = b.mul(b.sextract(x, 0, 32), b.sextract(y, 0, 32))
    result = b.sextract(product, 0, 32)
    return result, b.ne(result, product)


def _checked_mulq(b: Builder, x: Value, y: Value) -> tuple[Value, Value]:
    result = b.mul(x, y)
    return result, b.ne(b.smulh(x, y), b.sar(result, 63))


ADDL_V, SUBL_V = _checked_long(Builder.add), _checked_long(Builder.sub)
ADDQ_V, SUBQ_V = _checked_quad(Builder.add), _checked_quad(Builder.sub)
MULL_V, MULQ_V = _trapping(_checked_mull), _trapping(_checked_mulq)

# -- comparison --------------------------------------------------------------------------------------------------------


def _compare(condition: Condition, swapped: Condition) -> Semantics:
    """``swapped`` says the same of the operands the other way round: hosts compare with a constant only so."""

    def function(b: Builder, x: Value, y: Value) -> Value:
        return b.zext(b.icmp(swapped, y, x) if is_zero(x) else b.icmp(condition, x, y), I64)

    return _operate(function)


CMPEQ = _compare(Condition.EQ, Condition.EQ)
CMPLT, CMPLE = _compare(Condition.SLT, Condition.SGT), _compare(Condition.SLE, Condition.SGE)
CMPULT, CMPULE = _compare(Condition.ULT, Condition.UGT), _compare(Condition.ULE, Condition.UGE)

# -- logic -------------------------------------------------------------------------------------------------------------

AND = _operate(lambda b, x, y: b.and_(x, y))
BIS = _operate(lambda b, x, y: y if is_zero(x) else x if is_zero(y) else b.or_(x, y))
XOR = _operate(lambda b, x, y: b.xor(x, y))
BIC = _operate(lambda b, x, y: b.and_(x, b.not_(y)))
ORNOT = _operate(lambda b, x, y: b.not_(y) if is_zero(x) else b.or_(x, b.not_(y)))
EQV = _operate(lambda b, x, y: b.xor(x, b.not_(y)))


def _move(condition: str) -> Semantics:
    """Rc = Rbv if Rav satisfies the condition."""

    def semantics(b: Builder, f: Fields) -> None:
        if f.c != ZERO:
            write(b, f.c, b.select(test(b, condition, read(b, f.a)), operand(b, f), read(b, f.c)))

    return semantics


CMOVEQ, CMOVNE, CMOVLT, CMOVGE = _move("EQ"), _move("NE"), _move("LT"), _move("GE")
CMOVLE, CMOVGT, CMOVLBS, CMOVLBC = _move("LE"), _move("GT"), _move("LBS"), _move("LBC")

# -- shifts ------------------------------------------------------------------------------------------------------------


def _shift(function: Callable[[Builder, Value, Operand], Value]) -> Semantics:
    """By the low six bits of Rbv."""

    def semantics(b: Builder, f: Fields) -> None:
        amount = f.imm if "imm" in f else b.trunc(read(b, f.b), I32)
        write(b, f.c, function(b, read(b, f.a), amount))

    return semantics


SLL = _shift(lambda b, x, n: b.shl(x, n))
SRL = _shift(lambda b, x, n: b.shr(x, n))
SRA = _shift(lambda b, x, n: b.sar(x, n))

# -- byte manipulation -------------------------------------------------------------------------------------------------

_MASKS: Final = {"B": 0xFF, "W": 0xFFFF, "L": 0xFFFF_FFFF, "Q": QUAD}


Place = Value | int
"""A byte number: a register's value, of which the low three bits count, or one of 0 to 7."""


def _at_place(function: Callable[[Builder, Value, Place], Value]) -> Semantics:
    def semantics(b: Builder, f: Fields) -> None:
        write(b, f.c, function(b, read(b, f.a), f.place & 7 if "place" in f else read(b, f.b)))

    return semantics


def _bits(b: Builder, place: Place) -> Operand:
    """Eight times a byte number, as an amount of shifts: those take it modulo 64, and so the number modulo 8."""
    return 8 * place if isinstance(place, int) else b.trunc(b.shl(place, 3), I32)


def _masked(b: Builder, value: Value, mask: int) -> Value:
    return value if mask == QUAD else b.and_(value, mask)


def _extract_low(size: str) -> Semantics:
    return _at_place(lambda b, x, y: _masked(b, b.shr(x, _bits(b, y)), _MASKS[size]))


def _extract_high(size: str) -> Semantics:
    def function(b: Builder, x: Value, y: Place) -> Value:
        amount = -8 * y & 63 if isinstance(y, int) else b.neg(b.trunc(b.shl(y, 3), I32))
        return _masked(b, b.shl(x, amount), _MASKS[size])

    return _at_place(function)


def _past_the_end(b: Builder, value: Value, place: Place) -> Value:
    """What of a value that is put at a byte number of a quadword lies beyond it: nothing for byte 0."""
    if isinstance(place, int):
        return b.shr(value, 64 - 8 * place) if place else b.const(0, I64)
    return b.shr(b.shr(value, 1), b.not_(b.trunc(b.shl(place, 3), I32)))


def _insert_low(size: str) -> Semantics:
    return _at_place(lambda b, x, y: b.shl(_masked(b, x, _MASKS[size]), _bits(b, y)))


def _insert_high(size: str) -> Semantics:
    return _at_place(lambda b, x, y: _past_the_end(b, _masked(b, x, _MASKS[size]), y))


def _mask_low(size: str) -> Semantics:
    mask = _MASKS[size]
    return _at_place(
        lambda b, x, y: b.and_(
            x, ~(mask << 8 * y) if isinstance(y, int) else b.not_(b.shl(b.const(mask, I64), _bits(b, y)))
        )
    )


def _mask_high(size: str) -> Semantics:
    mask = _MASKS[size]
    return _at_place(
        lambda b, x, y: b.and_(
            x, ~(mask << 8 * y >> 64) if isinstance(y, int) else b.not_(_past_the_end(b, b.const(mask, I64), y))
        )
    )


EXTBL, EXTWL, EXTLL, EXTQL = (_extract_low(size) for size in "BWLQ")
EXTWH, EXTLH, EXTQH = (_extract_high(size) for size in "WLQ")
INSBL, INSWL, INSLL, INSQL = (_insert_low(size) for size in "BWLQ")
INSWH, INSLH, INSQH = (_insert_high(size) for size in "WLQ")
MSKBL, MSKWL, MSKLL, MSKQL = (_mask_low(size) for size in "BWLQ")
MSKWH, MSKLH, MSKQH = (_mask_high(size) for size in "WLQ")

_BYTES: Final = 0x0101_0101_0101_0101
_SIGNS: Final = 0x80 * _BYTES
_DIAGONAL: Final = 0x8040_2010_0804_0201
"""Bit n of byte n."""


def _byte_mask(b: Builder, bits: Value) -> Value:
    """A quadword whose byte n is all ones if bit n of ``bits`` is 1, else 0."""
    spread = b.and_(b.mul(b.and_(bits, 0xFF), _BYTES), _DIAGONAL)
    ones = b.shr(b.and_(b.or_(b.add(b.and_(spread, ~_SIGNS), ~_SIGNS), spread), _SIGNS), 7)
    return b.sub(b.shl(ones, 8), ones)


def _kept(b: Builder, f: Fields, cleared: bool) -> Value:
    """Which bits ZAP and ZAPNOT keep."""
    if "mask" in f:
        mask = sum(0xFF << 8 * n for n in range(8) if f.mask >> n & 1)
        return b.const(~mask if cleared else mask, I64)
    mask_value = _byte_mask(b, read(b, f.b))
    return b.not_(mask_value) if cleared else mask_value


def ZAP(b: Builder, f: Fields) -> None:
    """Clear the bytes whose bits in Rbv are 1."""
    write(b, f.c, b.and_(read(b, f.a), _kept(b, f, True)))


def ZAPNOT(b: Builder, f: Fields) -> None:
    """Clear the bytes whose bits in Rbv are 0."""
    write(b, f.c, b.and_(read(b, f.a), _kept(b, f, False)))


def _cmpbge(b: Builder, x: Value, y: Value) -> Value:
    """Bit n of the result: byte n of x >= byte n of y, unsigned."""
    low = b.sub(b.or_(x, _SIGNS), b.and_(y, ~_SIGNS))
    signs = b.or_(b.and_(x, b.not_(y)), b.and_(low, b.not_(b.xor(x, y))))
    # The product brings bit 8n to bit 56 + n, and no two bits to one place.
    return b.shr(b.mul(b.and_(b.shr(signs, 7), _BYTES), 0x0102_0408_1020_4080), 56)


CMPBGE = _operate(_cmpbge)


def _unary(function: Callable[[Builder, Value], Value]) -> Semantics:
    def semantics(b: Builder, f: Fields) -> None:
        write(b, f.c, function(b, operand(b, f)))

    return semantics


SEXTB = _unary(lambda b, x: b.sext8(x))
SEXTW = _unary(lambda b, x: b.sext16(x))
CTPOP = _unary(lambda b, x: b.popcnt(x))
CTLZ = _unary(lambda b, x: b.clz(x))
CTTZ = _unary(lambda b, x: b.ctz(x))
