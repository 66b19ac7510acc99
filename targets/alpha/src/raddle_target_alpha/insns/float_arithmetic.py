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
    branch,
    checked,
    doubled,
    from_s,
    is_nan,
    operate,
)
from raddle_target_alpha.state import read

_TWO_BIT: Final = 62
"""The bit that is 1 in 2.0, which comparisons give for true, and 0 in 0.0."""

Two = Callable[[Builder, Value, Value], Value]


def _two(operation: Two, single: bool) -> Semantics:
    def compute(b: Builder, v: Sequence[Value]) -> Value:
        if single:
            return from_s(b, operation(b, as_s(b, v[0]), as_s(b, v[1])))
        return operation(b, v[0], v[1])

    def semantics(b: Builder, f: Fields) -> None:
        operate(b, f, (f.a, f.b), Operation(compute, I64 if single else Type.F64, f.r))

    return semantics


def _one(compute: Compute, type: Type) -> Semantics:
    def semantics(b: Builder, f: Fields) -> None:
        operate(b, f, (f.b,), Operation(compute, type, f.r))

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
SQRTS = _one(lambda b, v: from_s(b, b.fsqrt(as_s(b, v[0]))), I64)
SQRTT = _one(lambda b, v: b.fsqrt(v[0]), Type.F64)

# -- comparison --------------------------------------------------------------------------------------------------------


def _compare(condition: Condition, order: int, kind: FloatCompare) -> Semantics:
    """Fc = 2.0 if fcmp's result satisfies the condition, else 0."""

    def compute(b: Builder, v: Sequence[Value]) -> Value:
        found = b.fcmp(v[0], v[1], kind)
        return b.shl(b.zext(b.icmp(condition, found, order), I64), _TWO_BIT)

    def semantics(b: Builder, f: Fields) -> None:
        operation = Operation(compute, Type.F64, refused=is_nan, may_be_tiny=False)
        operate(b, f, (f.a, f.b), operation)

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
_TOO_LARGE: Final = 1023 + 63
"""From this exponent on, numbers do not fit into a signed quadword."""


def _outer(how: int) -> int:
    """The rounding that must be set around an operation which names its own unless it is dynamic."""
    return how if how == DYNAMICALLY else NORMAL


def CVTTQ(b: Builder, f: Fields) -> None:
    """To an integer. One that is too large loses its high bits, NaN and infinity give 0 (4.7.7.9, B.2)."""
    how = FloatToInt(True, _ROUNDINGS[f.r])

    def convert(b: Builder, v: Sequence[Value]) -> Value:
        return b.ftoi(v[0], I64, how)

    def convert_large(b: Builder, v: Sequence[Value]) -> Value:
        return b.call(routine("large_to_integer"), v[0], type=I64)

    large = b.label(rare=True)
    exponent = b.shr(doubled(b, read(b, f.b)), 53)
    branch(b, b.icmp(Condition.UGE, exponent, _TOO_LARGE), large)
    operate(b, f, (f.b,), Operation(convert, Type.F64, _outer(f.r), may_be_tiny=False))
    with b.rarely(large):
        checked(b, f, (f.b,), Operation(convert_large, I64, may_be_tiny=False))


def _from_integer(single: bool) -> Semantics:
    def semantics(b: Builder, f: Fields) -> None:
        def compute(b: Builder, v: Sequence[Value]) -> Value:
            how = IntToFloat(True, rounding=_ROUNDINGS[f.r])
            return from_s(b, b.itof(v[0], Type.F32, how)) if single else b.itof(v[0], Type.F64, how)

        operate(b, f, (f.b,), Operation(compute, I64, _outer(f.r), refused=None, may_be_tiny=False))

    return semantics


CVTQS, CVTQT = _from_integer(single=True), _from_integer(single=False)
CVTTS = _one(lambda b, v: from_s(b, b.fcvt(v[0], Type.F32)), Type.F64)


def CVTST(b: Builder, f: Fields) -> None:
    """An S number in register format differs from the T number of its value only if it is denormal."""

    def compute(b: Builder, v: Sequence[Value]) -> Value:
        return b.fcvt(as_s(b, v[0]), Type.F64)

    operate(b, f, (f.b,), Operation(compute, I64, may_be_tiny=False))
