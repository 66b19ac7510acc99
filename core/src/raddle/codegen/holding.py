# SPDX-License-Identifier: Apache-2.0
"""Whether the shapes of a host's fields can hold what is filled in there: literals, addresses, counts, distances.

The runtime finds at each join whether a field of range SIGNED or UNSIGNED holds its value. It drops bits of any other
range, and a guest would go on with another number. What a field may have to hold is known before that: the range of a
literal is that of all words that share the template, an address has the bits of the guest's word. So all of this is
checked once, when the host's rules are taken and when a template is compiled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from raddle.codegen.fields import PLACES, Placed, Range, Shape, Source
from raddle.ir.types import ANY_LITERAL, Hole
from raddle.runtime._native import lib

__all__ = ["holding_fault", "holds_any_literal"]

_DISTANCE_BITS: Final = 32
"""What the parts of a distance must hold together."""
_LITERAL_BITS: Final = 32
_M64: Final = (1 << 64) - 1


class _Values(NamedTuple):
    """What a field may have to hold."""

    what: str
    low: int
    high: int
    step: int
    """A power of two of which all values are multiples."""
    most_bits: int = 64
    """Bits above these are never needed."""

    @property
    def bits(self) -> int:
        """A bit for each one that must be kept, so that the value can be read back from them."""
        signed = self.low < 0
        magnitude = max(self.high, ~self.low if signed else 0)
        width = min(magnitude.bit_length() + signed, self.most_bits)
        return (1 << width) - 1 & ~(self.step - 1)


def holding_fault(
    fields: Sequence[Placed],
    shapes: Sequence[Shape],
    word_bits: int,
    page_bits: int,
    holes: Mapping[int, Hole] | None = None,
) -> str:
    """The first field, of a stub or of one instruction, whose shape cannot hold what may be filled in; empty if there
    is none. Sources and shapes are known to exist. ``holes`` are the literals; None: nothing is known of them.
    """
    parts: dict[tuple[int, int, int, int | None], list[int]] = {}
    tops: dict[tuple[int, int, int, int | None], int] = {}
    """Shapes of the highest parts of values whose bits above are not needed."""
    for field in fields:
        if field.hole is not None and holes is not None and field.hole not in holes:
            return f"a field holds literal number {field.hole}, which the instruction does not have"
        key, shape = (field.part, field.source, field.value, field.hole), shapes[field.shape]
        if shape.range is Range.ANY:
            parts.setdefault(key, []).append(field.shape)
        elif shape.range is Range.MODULO:
            if shape.scale:
                tops[key] = field.shape
        elif field.source not in PLACES and (
            fault := _range_fault(_values(field, word_bits, page_bits, holes, shortest=True), field.shape, shapes)
        ):
            return fault
    for key, numbers in parts.items():
        held, most_bits = 0, 64
        if key in tops:
            top = shapes[tops[key]]
            numbers, most_bits = [*numbers, tops[key]], top.scale + top.width
        for number in numbers:
            held |= (1 << shapes[number].width) - 1 << shapes[number].scale
        if held & _M64 == _M64:
            continue
        part, source, value, hole = key
        field = Placed(source, numbers[0], part, 0, value, hole)
        biases = [shapes[number].bias for number in numbers]
        values = _values(field, word_bits, page_bits, holes)
        values = values._replace(most_bits=min(values.most_bits, most_bits))
        if fault := _parts_fault(values, held, numbers, biases):
            return fault
    return ""


def holds_any_literal(shape: Shape) -> bool:
    """Whether the shape holds each literal, and each one to which a number is added."""
    whole = shape.range is Range.ANY and shape.scale == 0 and shape.width >= _LITERAL_BITS
    return whole or shape.range is Range.MODULO


def _values(
    field: Placed, word_bits: int, page_bits: int, holes: Mapping[int, Hole] | None, shortest: bool = False
) -> _Values:
    """With ``shortest``: of a block of one instruction."""
    x = field.value
    match field.source:
        case Source.LITERAL:
            if field.hole is None:
                return _Values(f"the number {x}", x, x, _step(x))
            hole = None if holes is None else holes[field.hole]
            low, high = ANY_LITERAL if hole is None else hole.range
            name = "a literal" if hole is None else f"literal {hole.name}"
            name += f" + {x}" if x else ""
            return _Values(name, low + x, high + x, _step(x, 1 if hole is None else hole.step), _LITERAL_BITS)
        case Source.PC:
            return _Values("a guest address", 0, (1 << word_bits) - 1, 1, word_bits)
        case Source.PAGE:
            return _Values("the address of a page", 0, (1 << word_bits) - 1, _step(x, 1 << page_bits), word_bits)
        case Source.COUNT:
            most = 1 if shortest else int(lib.RADDLE_MAX_ENTRIES)
            return _Values("the number of instructions", 1 + x, most + x, 1)
        case _:
            return _Values("a distance", 0, (1 << _DISTANCE_BITS) - 1, 1, _DISTANCE_BITS)


def _step(x: int, step: int = 1 << 63) -> int:
    """The largest power of two of which both are multiples."""
    both = x | step
    return both & -both


def _range_fault(values: _Values, number: int, shapes: Sequence[Shape]) -> str:
    """Why one field of range SIGNED or UNSIGNED does not hold all of the values; empty if it does."""
    shape = shapes[number]
    low, high = values.low + shape.bias, values.high + shape.bias
    step = _step(low) if low == high else _step(shape.bias, values.step)
    if step % (1 << shape.scale):
        return f"shape {number} holds multiples of {1 << shape.scale}, and {_described(values)} may be another number"
    if shape.width >= 64:
        return ""
    signed = shape.range is Range.SIGNED
    least = -(1 << shape.width - 1) if signed else 0
    most = least + (1 << shape.width) - 1
    if least <= low >> shape.scale and high >> shape.scale <= most:
        return ""
    kind = "signed" if signed else "unsigned"
    return f"shape {number}, of {shape.width} bits {kind}, does not hold {_described(values)}"


def _parts_fault(values: _Values, held: int, numbers: Sequence[int], biases: Sequence[int]) -> str:
    """Which bits of the values no field holds; empty if each one is held."""
    biased = values._replace(low=values.low + min(biases), high=values.high + max(biases))
    missing = biased.bits & ~held
    if not missing:
        return ""
    first = (missing & -missing).bit_length() - 1
    after = (~(missing >> first) & -~(missing >> first)).bit_length() - 1 + first
    shapes = f"shape {numbers[0]} leaves" if len(numbers) == 1 else f"shapes {', '.join(map(str, numbers))} leave"
    bits = f"bit {first}" if after == first + 1 else f"bits {first} to {after - 1}"
    return f"{shapes} out {bits} of {_described(values)}"


def _described(values: _Values) -> str:
    if values.low == values.high:
        return values.what
    return f"{values.what}, which is {values.low} to {values.high}"
