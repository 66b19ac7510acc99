# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a host's package, in words: with its rules and fields, or with what its code raises.

The runtime refuses shapes that it cannot fill in, and fields that lie outside their code. It cannot say which.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from raddle.codegen.allocation import CodegenError
from raddle.codegen.fields import Range, Shape, Source, unpack_fixups
from raddle.errors import MachineError, RaddleError
from raddle.runtime._native import lib

if TYPE_CHECKING:
    from raddle.codegen.backend import BackEnd, JoinRules, Stub
    from raddle.codegen.fields import Chaining, FieldKind

__all__ = ["fields_fault", "of_the_host", "rules_fault"]

UNITS: Final = (1, 2, 4, 8)
CHAINED_UNITS: Final = (2, 4)
PLACES: Final = frozenset({Source.HOT, Source.COLD, Source.EXIT, Source.JUMP, Source.LEAVE})
"""Sources that are places in the block."""


@contextmanager
def of_the_host(backend: type[BackEnd], what: str) -> Iterator[None]:
    """Turn whatever the host's own code raises into a MachineError: its package does not do `what`."""
    try:
        yield
    except CodegenError as error:
        raise MachineError(f"{_package(backend)} does not {what}: {error}") from error
    except (RaddleError, MemoryError):
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise MachineError(f"{_package(backend)} does not {what}: {type(error).__name__}: {text}") from error


def _package(backend: type[BackEnd]) -> str:
    return f"the host's package {backend.__module__.partition('.')[0]}"


def rules_fault(rules: JoinRules) -> str:
    """The first fault of a host's rules; empty if there is none."""
    if len(rules.shapes) > lib.RADDLE_SHAPES:
        return f"there are {len(rules.shapes)} shapes of fields; {lib.RADDLE_SHAPES} is the most"
    for number, shape in enumerate(rules.shapes):
        if fault := _shape_fault(shape):
            return f"shape {number} {fault}"
    if fault := _chaining_fault(rules.chaining, rules.shapes):
        return fault
    for name in ("entry", "leave", "chainable", "indirect"):
        stub: Stub = getattr(rules, name)
        if len(stub.relocs) > lib.RADDLE_STUB_FIXUPS:
            return f"stub {name} has {len(stub.relocs)} fields; {lib.RADDLE_STUB_FIXUPS} is the most"
        fields = ((kind, offset, len(stub.code)) for kind, offset, _ in stub.relocs)
        if fault := _first_fault(fields, rules.shapes):
            return f"in stub {name} {fault}"
    for code in rules.nops:
        if not 0 < len(code) < rules.chaining.span:
            return f"a code that does nothing has {len(code)} bytes, and must have 1 to {rules.chaining.span - 1}"
    return ""


def fields_fault(fixups: bytes, hot_size: int, cold_size: int, shapes: Sequence[Shape]) -> str:
    """The first fault of a variant's packed fields; empty if there is none."""
    sizes = hot_size, cold_size
    return _first_fault(((kind, offset, sizes[part]) for kind, offset, part in unpack_fixups(fixups)), shapes)


def _first_fault(fields: Iterable[tuple[FieldKind, int, int]], shapes: Sequence[Shape]) -> str:
    """`fields` are (kind, offset, bytes of the code that it is in)."""
    for kind, offset, size in fields:
        source, number = kind & 0xFF, kind >> 8
        if number >= len(shapes):
            return f"a field has shape {number}; there are {len(shapes)}"
        shape = shapes[number]
        if not 0 <= offset <= size - shape.unit:
            return f"a field of {shape.unit} bytes at offset {offset} is not within the code's {size} bytes"
        if source not in list(Source):
            return f"a field has source {source}, which there is not"
        if (source in PLACES) != shape.relative:
            place = "is a place" if source in PLACES else "is no place"
            relative = "is relative" if shape.relative else "is not relative"
            return f"a field's source {Source(source).name} {place} in the block, and its shape {number} {relative}"
    return ""


def _shape_fault(shape: Shape) -> str:
    if shape.unit not in UNITS:
        return f"has a unit of {shape.unit} bytes, and must have 1, 2, 4 or 8"
    if not 0 <= shape.scale < 64:
        return f"has scale {shape.scale}, and must have 0 to 63"
    if shape.range not in list(Range):
        return f"has range {shape.range}, which there is not"
    if not -(1 << 63) <= shape.bias < 1 << 63:
        return f"has bias {shape.bias}, which is no signed number of 64 bits"
    if not 1 <= len(shape.pieces) <= lib.RADDLE_PIECES:
        return f"has {len(shape.pieces)} pieces, and must have 1 to {lib.RADDLE_PIECES}"
    taken = 0
    for at, width in shape.pieces:
        if at < 0 or width < 1 or at + width > 8 * shape.unit:
            return f"has a piece of {width} bits at bit {at}, which is not within its {8 * shape.unit} bits"
        mask = (1 << width) - 1 << at
        if taken & mask:
            return f"has pieces that overlap at bit {at}"
        taken |= mask
    return ""


def _chaining_fault(chaining: Chaining, shapes: Sequence[Shape]) -> str:
    if not 0 <= chaining.shape < len(shapes):
        return f"the shape that is chained is number {chaining.shape}; there are {len(shapes)}"
    shape = shapes[chaining.shape]
    if not shape.relative or shape.unit not in CHAINED_UNITS:
        return f"shape {chaining.shape}, which is chained, must be relative and have 2 or 4 bytes"
    span = chaining.span
    if not shape.unit <= span <= lib.RADDLE_MOST_SPAN or span & span - 1:
        return f"the span of chaining is {span}; it is a power of two from {shape.unit} to {lib.RADDLE_MOST_SPAN}"
    return ""
