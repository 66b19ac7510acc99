# SPDX-License-Identifier: Apache-2.0
"""Arithmetic on the VAX formats F, G and D, as registers have them (Alpha Architecture Reference Manual, 2.2.5, 4.7.5).

No program for Linux uses it, so a Python helper does it exactly and slowly. Numbers are a sign and 0.1fff * 2**e; an
exponent field of 0 is zero, a dirty zero if there is a fraction, or with a sign a reserved operand.
"""

from __future__ import annotations

from enum import IntEnum
from fractions import Fraction
from math import isqrt
from typing import Any, Final, NamedTuple

from raddle_target_alpha.fpcr import DZE, INV, IOV, OVF, UNF

TRUE: Final = 1 << 62
"""What comparisons give: 0.5."""


class Operation(IntEnum):
    """What `operate` does with a and b; what takes one operand takes b."""

    ADD = 0
    SUB = 1
    MUL = 2
    DIV = 3
    SQRT = 4
    EQUAL = 5
    LESS = 6
    LESS_OR_EQUAL = 7
    CONVERT = 8
    FROM_INTEGER = 9
    TO_INTEGER = 10


class Format(NamedTuple):
    """How registers have a format: exponents ``least`` to ``most`` are those that it has in memory, too."""

    exponent_bits: int
    fraction_bits: int
    least: int
    most: int
    precision: int
    """Bits of a number, the hidden one included."""

    @property
    def bias(self) -> int:
        return 1 << self.exponent_bits - 1


class Formats(IntEnum):
    """Numbers of the formats, for `operate`."""

    F = 0
    G = 1
    D = 2


FORMATS: Final = {
    Formats.F: Format(11, 52, 1 + 896, 255 + 896, 24),
    Formats.G: Format(11, 52, 1, 2047, 53),
    Formats.D: Format(8, 55, 1, 255, 56),
}


class _Trap(Exception):
    """An exception without a result: its flag."""


def _number(bits: int, format: Format, software: bool) -> Fraction:
    """The value of a register. Raises _Trap for reserved operands, and for dirty zeros unless there is /S."""
    sign, exponent = bits >> 63, bits >> format.fraction_bits & (1 << format.exponent_bits) - 1
    fraction = bits & (1 << format.fraction_bits) - 1
    if not exponent:
        if sign or (fraction and not software):
            raise _Trap(INV)
        return Fraction(0)
    magnitude = Fraction(fraction | 1 << format.fraction_bits) * _power(
        exponent - format.bias - format.fraction_bits - 1
    )
    return -magnitude if sign else magnitude


def _power(exponent: int) -> Fraction:
    return Fraction(1 << exponent) if exponent >= 0 else Fraction(1, 1 << -exponent)


def _whole(value: Fraction, chopped: bool) -> int:
    """A number that is not negative as an integer: halves are rounded up (4.7.5)."""
    return int(value if chopped else value + Fraction(1, 2))


def _rounded(value: Fraction, format: Format, chopped: bool) -> int:
    """The register for a value. Raises _Trap for what is too large or too small."""
    if not value:
        return 0
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude >= _power(exponent):
        exponent += 1
    mantissa = _whole(magnitude * _power(format.precision - exponent), chopped)
    if mantissa >> format.precision:
        mantissa >>= 1
        exponent += 1
    field = exponent + format.bias
    if field > format.most:
        raise _Trap(OVF)
    if field < format.least:
        raise _Trap(UNF)
    fraction = mantissa << format.fraction_bits + 1 - format.precision & (1 << format.fraction_bits) - 1
    return (value < 0) << 63 | field << format.fraction_bits | fraction


def _root(value: Fraction) -> Fraction:
    """A square root with more bits than any format has, of which the last one says whether it is inexact."""
    if value < 0:
        raise _Trap(INV)
    shift = 256 + 2 * value.denominator.bit_length()
    scaled = value * _power(shift)
    root = isqrt(scaled.numerator // scaled.denominator)
    inexact = root * root * scaled.denominator != scaled.numerator
    return Fraction(2 * root + inexact) * _power(-shift // 2 - 1)


def _quotient(a: Fraction, b: Fraction) -> Fraction:
    if not b:
        raise _Trap(DZE)
    return a / b


def _compute(operation: int, a: Fraction, b: Fraction) -> Fraction:
    match operation:
        case Operation.ADD:
            return a + b
        case Operation.SUB:
            return a - b
        case Operation.MUL:
            return a * b
        case Operation.DIV:
            return _quotient(a, b)
        case Operation.SQRT:
            return _root(b)
    return b


def _compare(operation: int, a: Fraction, b: Fraction) -> bool:
    return a == b if operation == Operation.EQUAL else a < b if operation == Operation.LESS else a <= b


def _to_integer(value: Fraction, chopped: bool) -> tuple[int, int]:
    """The low 64 bits, and the exceptions."""
    magnitude = _whole(abs(value), chopped)
    whole = -magnitude if value < 0 else magnitude
    return whole & (1 << 64) - 1, 0 if -1 << 63 <= whole < 1 << 63 else IOV


def operate(
    operation: int, a: int, b: int, source: Format, target: Format, software: bool, chopped: bool
) -> tuple[int, int]:
    """Result and exceptions, as FPCR orders them, of an operation on registers."""
    try:
        if operation == Operation.FROM_INTEGER:
            return _rounded(Fraction(b - (b >> 63 << 64)), target, chopped), 0
        y = _number(b, source, software)
        if operation == Operation.TO_INTEGER:
            return _to_integer(y, chopped)
        two = operation not in (Operation.SQRT, Operation.CONVERT)
        x = _number(a, source, software) if two else y
        if operation in (Operation.EQUAL, Operation.LESS, Operation.LESS_OR_EQUAL):
            return TRUE if _compare(operation, x, y) else 0, 0
        return _rounded(_compute(operation, x, y), target, chopped), 0
    except _Trap as trap:
        return 0, int(trap.args[0])


def encode(operation: Operation, source: Formats, target: Formats, software: bool, chopped: bool) -> int:
    """How `helper` is told what to do."""
    return operation | source << 4 | target << 6 | software << 8 | chopped << 9


def helper(cpu: Any, how: int, a: int, b: int) -> int:
    """The Python helper: the result; the exceptions go into ``fp_flags``."""
    source, target = FORMATS[Formats(how >> 4 & 3)], FORMATS[Formats(how >> 6 & 3)]
    result, exceptions = operate(how & 15, a, b, source, target, bool(how >> 8 & 1), bool(how >> 9 & 1))
    cpu["fp_flags"] |= exceptions
    return result
