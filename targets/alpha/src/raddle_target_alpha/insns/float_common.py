# SPDX-License-Identifier: Apache-2.0
"""What floating-point instructions share: formats, qualifiers, and what they do about exceptions.

Registers hold T numbers. An S number has the exponent of the T number with its value; but for zeros and
denormals the exponent is 0, and the fraction is that of the S format in the upper bits (4.7.2).

The IR's operations are IEEE arithmetic without traps, and so are instructions with /S unless FPCR wants more
(``fpcr``). All others are ``checked``, which looks at operands and results, and traps (4.7.7, 4.7.9), unless these turn
out to be usual ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from raddle.ir.builder import Builder, Label, Value
from raddle.ir.header import COMMON
from raddle.ir.types import Condition, Type
from raddle.translate.decode import Fields
from raddle_target_alpha.exceptions import Summary, arithmetic
from raddle_target_alpha.fpcr import (
    DNOD,
    DNZ,
    DZE,
    IN_FLAGS,
    INE,
    INV,
    INVD_SHIFT,
    IOV,
    OVF,
    STATUS,
    STATUS_SHIFT,
    UNDZ,
    UNF,
    UNFD,
    UNFD_SHIFT,
)
from raddle_target_alpha.insns.common import I32, I64
from raddle_target_alpha.state import DYNAMIC, FPCR_REST, MODE_CARE, read, read_float, write

FLAGS: Final = COMMON["fp_flags"]
_INE_BIT: Final = INE.bit_length() - 1

SIGN: Final = 1 << 63
LEAST_NORMAL: Final = 1 << 52
INFINITY: Final = 0x7FF << 52

CHOPPED, DOWN, NORMAL, DYNAMICALLY = range(4)
"""Rounding qualifiers: /C, /M, none, /D."""
_ROUNDING: Final = {CHOPPED: 3, DOWN: 2}
"""As the common field ``fp_rounding`` has them."""

# -- formats -----------------------------------------------------------------------------------------------------------


def s_to_register(b: Builder, value: Value) -> Value:
    """An S number in memory format (I32) as registers have it."""
    wide = b.zext(value, I64)
    exponent = b.extract(value, 23, 8)
    rebias = b.select(b.eq(exponent, 0xFF), 0x700 << 52, 0x380 << 52, I64)
    moved = b.add(b.shl(b.and_(wide, 0x7FFF_FFFF), 29), b.select(b.eq(exponent, 0), 0, rebias, I64))
    return b.or_(moved, b.shl(b.and_(wide, 1 << 31), 32))


def register_to_s(b: Builder, value: Value) -> Value:
    """The bits that memory format has of a register, I32."""
    high = b.and_(b.trunc(b.shr(value, 32), I32), 0xC000_0000)
    return b.or_(high, b.and_(b.trunc(b.shr(value, 29), I32), 0x3FFF_FFFF))


def as_s(b: Builder, value: Value) -> Value:
    """A register as F32."""
    return b.bitcast(register_to_s(b, value), Type.F32)


def from_s(b: Builder, value: Value) -> Value:
    """An F32 as registers have it."""
    return s_to_register(b, b.bitcast(value, I32))


def bits(b: Builder, value: Value) -> Value:
    """I64, of an F64 or the same."""
    return value if value.type is I64 else b.bitcast(value, I64)


# -- kinds of numbers --------------------------------------------------------------------------------------------------


def magnitude(b: Builder, value: Value) -> Value:
    return b.and_(value, ~SIGN)


def is_denormal(b: Builder, value: Value) -> Value:
    """Of a register: I1."""
    return b.icmp(Condition.ULT, b.sub(magnitude(b, value), 1), LEAST_NORMAL - 1)


def doubled(b: Builder, value: Value) -> Value:
    """Exponent and fraction in the upper bits."""
    return b.add(value, value)


def _may_be_denormal(b: Builder, value: Value) -> Value:
    """Whether a register, doubled, is denormal, or the least normal number: I1."""
    return b.eq(b.shr(b.sub(value, 1), 53), 0)


def is_not_finite(b: Builder, value: Value) -> Value:
    return b.icmp(Condition.UGE, magnitude(b, value), INFINITY)


def is_nan(b: Builder, value: Value) -> Value:
    return b.icmp(Condition.UGT, magnitude(b, value), INFINITY)


# -- qualifiers --------------------------------------------------------------------------------------------------------


def software(f: Fields) -> bool:
    """/S: exceptions are software's to complete."""
    return bool(f.t & 4)


def underflow(f: Fields) -> bool:
    """/U, and /V."""
    return bool(f.t & 1)


def inexact(f: Fields) -> bool:
    """/I."""
    return bool(f.t & 2)


@contextmanager
def rounding(b: Builder, how: int) -> Iterator[None]:
    """Run the body in a rounding mode."""
    if how == NORMAL:
        yield
        return
    mode = b.get(DYNAMIC) if how == DYNAMICALLY else b.const(_ROUNDING[how], I32)
    b.set(COMMON["fp_rounding"], mode)
    yield
    b.set(COMMON["fp_rounding"], 0)


# -- instructions with operands, a result, and exceptions --------------------------------------------------------------

Compute = Callable[[Builder, Sequence[Value]], Value]
"""The result, as registers have it, I64 or F64, of operands as registers have them."""
Refused = Callable[[Builder, Value], Value]


class Operation(NamedTuple):
    """What an instruction computes of its operands.

    ``type`` is what ``compute`` takes. Without /S, operands that ``refused`` names are invalid, and so are denormal
    ones; with None, operands are no floating-point numbers. ``may_be_tiny``: the result is a floating-point number that
    may be denormal.
    """

    compute: Compute
    type: Type
    rounding: int = NORMAL
    refused: Refused | None = is_not_finite
    may_be_tiny: bool = True


def is_plain(f: Fields) -> bool:
    """Whether the instruction is IEEE arithmetic without traps."""
    return software(f) and not f.mode & MODE_CARE


def operate(b: Builder, f: Fields, numbers: Sequence[int], operation: Operation) -> None:
    """Fc = operation(registers of these numbers), with its exceptions."""
    if is_plain(f):
        if inexact(f):
            _look_for_inexact(b)
        with rounding(b, operation.rounding):
            result = _compute(b, numbers, operation)
        if inexact(f):
            _record_inexact(b)
        write(b, f.c, result)
    elif inexact(f) or operation.rounding != NORMAL:
        checked(b, f, numbers, operation)
    else:
        _usually(b, f, numbers, operation)


def _usually(b: Builder, f: Fields, numbers: Sequence[int], operation: Operation) -> None:
    """What ``checked`` does, but first try whether nothing is to be checked: operands and result are zero or normal,
    and there are no exceptions but a loss of precision that changes nothing.

    Flags that a try raises in vain are those that ``checked`` records.
    """
    rare = b.label(rare=True)
    if not software(f):
        known = b.label()
        b.brcond(b.bit(b.get(FPCR_REST), STATUS_SHIFT + _INE_BIT), known, rare)
        b.bind(known)
    if operation.refused is not None:
        for number in numbers:
            value = doubled(b, read(b, number))
            branch(b, _may_be_denormal(b, value), rare)
            branch(b, b.eq(b.shr(value, 53), 0x7FF), rare)
    result = _compute(b, numbers, operation)
    branch(b, b.ne(b.get(FLAGS), INE), rare)
    if operation.may_be_tiny:
        branch(b, _may_be_denormal(b, doubled(b, bits(b, result))), rare)
    write(b, f.c, result)
    with b.rarely(rare):
        checked(b, f, numbers, operation)


def branch(b: Builder, condition: Value, label: Label) -> None:
    """Emit a branch to the label if the condition holds."""
    after = b.label()
    b.brcond(condition, label, after)
    b.bind(after)


def _compute(b: Builder, numbers: Sequence[int], operation: Operation) -> Value:
    take = read_float if operation.type is Type.F64 else read
    return operation.compute(b, [take(b, number) for number in numbers])


def _look_for_inexact(b: Builder) -> None:
    """From here on, ``fp_flags`` says whether a result was inexact, unless the status bit has it already."""
    b.set(FLAGS, b.or_(b.and_(b.get(FLAGS), ~INE), _known_inexact(b)))


def _known_inexact(b: Builder) -> Value:
    """INE if its status bit is set already, else 0: I32. Hosts need not look for what is known."""
    return b.shl(b.trunc(b.extract(b.get(FPCR_REST), STATUS_SHIFT + _INE_BIT, 1), I32), _INE_BIT)


def _record_inexact(b: Builder) -> None:
    found = b.and_(b.get(FLAGS), INE)
    b.set(FPCR_REST, b.or_(b.get(FPCR_REST), b.shl(b.zext(found, I64), STATUS_SHIFT)))
    b.set(FLAGS, b.or_(b.get(FLAGS), INE))


def checked(b: Builder, f: Fields, numbers: Sequence[int], operation: Operation) -> None:
    """The same where operands, result and exceptions are looked at."""
    operands: Sequence[Value] = [read(b, number) for number in numbers]
    if operation.refused is not None:
        operands = _completed(b, f, operands) if software(f) else _plain(b, f, operands, operation.refused)
    before = b.and_(b.get(FLAGS), IN_FLAGS)
    # Only with /I does the instruction depend on whether it was inexact itself, and not one before it.
    b.set(FLAGS, 0 if inexact(f) else _known_inexact(b))
    with rounding(b, operation.rounding):
        if operation.type is Type.F64:
            operands = [b.bitcast(value, Type.F64) for value in operands]
        result = bits(b, operation.compute(b, operands))
    raised = b.get(FLAGS)
    if operation.may_be_tiny:
        result, raised = _without_tiny(b, f, result, raised)
    asked = INV | DZE | OVF | (UNF | IOV if underflow(f) else 0) | (INE if inexact(f) else 0)
    enabled = b.and_(raised, asked)
    recorded = enabled if software(f) else b.and_(raised, STATUS)
    b.set(FLAGS, INE)
    b.set(FPCR_REST, b.or_(b.get(FPCR_REST), b.shl(b.zext(b.or_(before, recorded), I64), STATUS_SHIFT)))
    write(b, f.c, result)
    trapping = b.and_(enabled, b.not_(_disabled(b))) if software(f) else enabled
    with b.if_(b.ne(trapping, 0)):
        trap(b, f, trapping)


def trap(b: Builder, f: Fields, exceptions: Value) -> None:
    """Emit the trap for exceptions as ``fp_flags`` has them, I32."""
    summary = b.or_(b.shl(b.zext(exceptions, I64), 1), Summary.SWC if software(f) else 0)
    arithmetic(b, summary, f.written)


def _any(b: Builder, truths: Sequence[Value]) -> Value:
    result = truths[0]
    for truth in truths[1:]:
        result = b.or_(result, truth)
    return result


def _plain(b: Builder, f: Fields, operands: Sequence[Value], refused: Refused) -> Sequence[Value]:
    """Without /S: what is no finite number is an invalid operation (4.7.7.4)."""
    invalid = _any(b, [refused(b, value) for value in operands])
    with b.if_(b.or_(invalid, _any(b, [is_denormal(b, value) for value in operands]))):
        b.set(FLAGS, b.or_(b.get(FLAGS), b.zext(invalid, I32)))
        trap(b, f, b.const(INV, I32))
    return operands


def _completed(b: Builder, f: Fields, operands: Sequence[Value]) -> Sequence[Value]:
    """With /S: denormal operands are zeros if DNZ is set, else they trap unless DNOD is set (4.7.8)."""
    control = b.get(FPCR_REST)
    zeroed = b.ne(b.and_(control, DNZ), 0)
    with b.if_(b.eq(b.and_(control, DNZ | DNOD), 0)), b.if_(_any(b, [is_denormal(b, value) for value in operands])):
        trap(b, f, b.const(INV, I32))
    return [b.select(b.and_(zeroed, is_denormal(b, value)), b.and_(value, SIGN), value) for value in operands]


def _without_tiny(b: Builder, f: Fields, result: Value, raised: Value) -> tuple[Value, Value]:
    """What becomes of a result that is denormal, or underflows to zero: result and exceptions (4.7.7.7).

    Without /S it is a true zero, and so it is with /S if UNDZ and UNFD are set.
    """
    denormal = is_denormal(b, result)
    underflows = b.or_(denormal, b.ne(b.and_(raised, UNF), 0))
    if not software(f):
        return b.select(underflows, 0, result), b.select(underflows, b.or_(raised, UNF | INE), raised)
    control = b.get(FPCR_REST)
    flushed = b.and_(underflows, b.eq(b.and_(control, UNDZ | UNFD), UNDZ | UNFD))
    # An exact denormal result is no underflow unless it traps.
    exact = b.and_(denormal, b.eq(b.and_(control, UNFD), 0))
    raised = b.select(flushed, b.or_(raised, UNF | INE), b.select(exact, b.or_(raised, UNF), raised))
    return b.select(flushed, 0, result), raised


def _disabled(b: Builder) -> Value:
    """Which exceptions do not trap with /S: I32. IOV cannot be disabled (4.7.8)."""
    control = b.get(FPCR_REST)
    disabled = b.or_(b.extract(control, INVD_SHIFT, 3), b.shl(b.extract(control, UNFD_SHIFT, 2), 3))
    return b.trunc(disabled, I32)
