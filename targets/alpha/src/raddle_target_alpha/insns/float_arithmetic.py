# SPDX-License-Identifier: Apache-2.0
"""IEEE arithmetic, comparison and conversion (4.10)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from raddle.ir.builder import Builder, FloatCompare, FloatToInt, IntToFloat, Rounding, Value, routine
from raddle.ir.types import Condition, Type
from raddle.translate.decode import Fields
from raddle.translate.semantics import Semantics
from raddle_target_alpha.insns.common import I64
from raddle_target_alpha.insns.float_common import (
    CHOPPED,
    DOWN,
    DYNAMICALLY,
    NORMAL,
    Compute,
    Operation,
    as_s,
    as_t,
    checked,
    from_s,
    from_t,
    is_nan,
    magnitude,
    operate,
)
from raddle_target_alpha.state import read

TWO: Final = 0x4000_0000_0000_0000
"""2.0: what comparisons give for true."""

Two = Callable[[Builder, Value, Value], Value]


def _two(operation: Two, single: bool) -> Semantics:
    take, give = (as_s, from_s) if single else (as_t, from_t)

    def compute(b: Builder, v: Sequence[Value]) -> Value:
        return give(b, operation(b, take(b, v[0]), take(b, v[1])))

    def semantics(b: Builder, f: Fields) -> None:
        operate(b, f, [read(b, f.a), read(b, f.b)], Operation(compute, f.r))

    return semantics


def _one(compute: Compute) -> Semantics:
    def semantics(b: Builder, f: Fields) -> None:
        operate(b, f, [read(b, f.b)], Operation(compute, f.r))

    return semantics


def _add(b: Builder, x: Value, y: Value) -> Value:
    return b.fadd(x, y)


def _sub(b: Builder, x: Value, y: Value) -> Value:
    return b.fsub(x, y)


def _mul(b: Builder, x: Value, y: Value) -> Value:
    return b.fmul(x, y)


def _div(b: Builder, x: Value, y: Value) -> Value:
    return b.fdiv(x, y)


ADDS, SUBS, MULS, DIVS = (_two(operation, single=True) for operation in (_add, _sub, _mul, _div))
ADDT, SUBT, MULT, DIVT = (_two(operation, single=False) for operation in (_add, _sub, _mul, _div))
SQRTS = _one(lambda b, v: from_s(b, b.fsqrt(as_s(b, v[0]))))
SQRTT = _one(lambda b, v: from_t(b, b.fsqrt(as_t(b, v[0]))))

# -- comparison --------------------------------------------------------------------------------------------------------


def _compare(condition: Condition, order: int, kind: FloatCompare) -> Semantics:
    """Fc = 2.0 if fcmp's result satisfies the condition, else 0."""

    def compute(b: Builder, v: Sequence[Value]) -> Value:
        found = b.fcmp(as_t(b, v[0]), as_t(b, v[1]), kind)
        return b.select(b.icmp(condition, found, order), TWO, 0, I64)

    def semantics(b: Builder, f: Fields) -> None:
        operation = Operation(compute, refused=is_nan, may_be_tiny=False)
        operate(b, f, [read(b, f.a), read(b, f.b)], operation)

    return semantics


CMPTUN = _compare(Condition.EQ, 3, FloatCompare.QUIET)
CMPTEQ = _compare(Condition.EQ, 1, FloatCompare.QUIET)
CMPTLT = _compare(Condition.EQ, 0, FloatCompare.SIGNALLING)
CMPTLE = _compare(Condition.ULE, 1, FloatCompare.SIGNALLING)

# -- conversion --------------------------------------------------------------------------------------------------------

_ROUNDINGS: Final = {
    CHOPPED: Rounding.ZERO,
    DOWN: Rounding.DOWN,
    NORMAL: Rounding.NEAREST,
    DYNAMICALLY: Rounding.CURRENT,
}
_TOO_LARGE: Final = 1023 + 63 << 52
"""From this magnitude on, numbers do not fit into a signed quadword."""


def _outer(how: int) -> int:
    """The rounding that must be set around an operation which names its own unless it is dynamic."""
    return how if how == DYNAMICALLY else NORMAL


def CVTTQ(b: Builder, f: Fields) -> None:
    """To an integer. One that is too large loses its high bits, NaN and infinity give 0 (4.7.7.9, B.2)."""
    how = FloatToInt(True, _ROUNDINGS[f.r])
    value = read(b, f.b)

    def convert(b: Builder, v: Sequence[Value]) -> Value:
        return b.ftoi(as_t(b, v[0]), I64, how)

    def convert_large(b: Builder, v: Sequence[Value]) -> Value:
        return b.call(routine("large_to_integer"), v[0], type=I64)

    usual, large, end = b.label(), b.label(), b.label()
    b.brcond(b.icmp(Condition.UGE, magnitude(b, value), _TOO_LARGE), large, usual)
    b.bind(usual)
    operate(b, f, [value], Operation(convert, _outer(f.r), may_be_tiny=False))
    b.br(end)
    b.bind(large)
    checked(b, f, [value], Operation(convert_large, may_be_tiny=False))
    b.bind(end)


def _from_integer(single: bool) -> Semantics:
    format, give = (Type.F32, from_s) if single else (Type.F64, from_t)

    def semantics(b: Builder, f: Fields) -> None:
        def compute(b: Builder, v: Sequence[Value]) -> Value:
            return give(b, b.itof(v[0], format, IntToFloat(True, rounding=_ROUNDINGS[f.r])))

        operate(b, f, [read(b, f.b)], Operation(compute, _outer(f.r), refused=None, may_be_tiny=False))

    return semantics


CVTQS, CVTQT = _from_integer(single=True), _from_integer(single=False)
CVTTS = _one(lambda b, v: from_s(b, b.fcvt(as_t(b, v[0]), Type.F32)))


def CVTST(b: Builder, f: Fields) -> None:
    """An S number in register format differs from the T number of its value only if it is denormal."""

    def compute(b: Builder, v: Sequence[Value]) -> Value:
        return from_t(b, b.fcvt(as_s(b, v[0]), Type.F64))

    operate(b, f, [read(b, f.b)], Operation(compute, may_be_tiny=False))
