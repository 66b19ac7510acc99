# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a host's package, in words: with its rules and fields, or with what its code raises.

The runtime refuses shapes that it cannot fill in, and fields that lie outside their code or overlap. It cannot say
which.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Final

from raddle.codegen.allocation import CodegenError
from raddle.codegen.fields import PLACES, Placed, Range, Shape, Source, field_group, in_stub, unpack_fixups
from raddle.codegen.holding import holding_fault, holds_any_literal
from raddle.errors import MachineError, RaddleError
from raddle.runtime._native import lib

if TYPE_CHECKING:
    from raddle.codegen.backend import BackEnd, CodegenConfig, JoinRules, Stub
    from raddle.codegen.fields import Chaining
    from raddle.codegen.template import Template, Variant

__all__ = ["SET_UP", "FieldChecks", "of_the_host", "package", "rules_fault", "too_far"]

UNITS: Final = (1, 2, 4, 8)
"""Bytes that a shape may have."""
CHAINED_UNITS: Final = (2, 4)
"""Those that a processor may fetch at once, as chaining needs."""
_IN_ALL: Final = frozenset({Source.LITERAL, Source.PC, Source.PAGE, Source.HOT, Source.COUNT})
_IN_STUBS: Final = {
    "entry": _IN_ALL | {Source.LEAVE},
    "leave": _IN_ALL,
    "chainable": _IN_ALL | {Source.JUMP},
    "indirect": _IN_ALL | {Source.JUMP},
}
"""The sources that mean something in each stub."""
_IN_INSTRUCTIONS: Final = _IN_ALL | {Source.COLD, Source.EXIT}
"""The sources that mean something in a template."""
_SOURCES: Final = frozenset(Source)
SET_UP: Final = "set its back end up"
"""For `of_the_host`: what it does first for a machine."""
_MOST_KNOWN: Final = 4096
"""The groups of fields that are remembered; others are looked at each time."""
_REMEDY: Final = "a mistake in the host's package; please report it with the output of -d in_asm,op"


@contextmanager
def of_the_host(backend: type[BackEnd], what: str) -> Iterator[None]:
    """Turn whatever the host's own code raises into a MachineError: its package does not do `what`."""
    try:
        yield
    except CodegenError as error:
        raise MachineError(f"{package(backend)} does not {what}: {error}") from error
    except (RaddleError, MemoryError):
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise MachineError(f"{package(backend)} does not {what}: {type(error).__name__}: {text}") from error


def package(backend: type[BackEnd]) -> str:
    """What messages call it."""
    return f"the host's package {backend.__module__.partition('.')[0]}"


def rules_fault(rules: JoinRules, config: CodegenConfig) -> str:
    """The first fault of a host's rules; empty if there is none."""
    if len(rules.shapes) > lib.RADDLE_SHAPES:
        return f"there are {len(rules.shapes)} shapes of fields; at most {lib.RADDLE_SHAPES} are allowed"
    for number, shape in enumerate(rules.shapes):
        if fault := _shape_fault(shape):
            return f"shape {number} {fault}"
    if fault := _chaining_fault(rules.chaining, rules.shapes):
        return fault
    for name in ("entry", "leave", "chainable", "indirect"):
        stub: Stub = getattr(rules, name)
        if len(stub.relocs) > lib.RADDLE_STUB_FIXUPS:
            return f"stub {name} has {len(stub.relocs)} fields; at most {lib.RADDLE_STUB_FIXUPS} are allowed"
        fields = in_stub(stub.relocs)
        if fault := _first_fault(fields, (len(stub.code),), rules.shapes, _IN_STUBS[name]) or holding_fault(
            fields, rules.shapes, config.word.bits, config.page_bits
        ):
            return f"in stub {name} {fault}"
    for code in rules.nops:
        if not 0 < len(code) < rules.chaining.span:
            return f"a nop has {len(code)} bytes, and must have 1 to {rules.chaining.span - 1}"
    return ""


class FieldChecks:
    """Finds what is wrong with the fields of instructions, for a host with these shapes, which have no fault."""

    def __init__(self, shapes: Sequence[Shape], config: CodegenConfig) -> None:
        self._shapes = shapes
        self._word_bits, self._page_bits = config.word.bits, config.page_bits
        self._known: set[tuple[object, ...]] = set()
        """Groups of fields that were looked at and have no fault."""

    def fault(self, variant: Variant, template: Template) -> str:
        """The first fault of a variant's fields; empty if there is none. Most instructions have the same fields as
        others, but for their places and for where they lead: only the first one with such a group is looked at. The
        runtime looks at the places of all.
        """
        group = field_group(variant.fixups)
        if group in self._known:
            return ""
        holes = template.holes
        literals = [(number, hole.range, hole.step) for number, hole in (holes or {}).items()]
        if (group, *literals) in self._known:
            return ""
        fields = unpack_fixups(variant.fixups)
        fault = self._first_fault(fields, variant) or holding_fault(
            fields, self._shapes, self._word_bits, self._page_bits, holes
        )
        if not fault and len(self._known) < _MOST_KNOWN:
            any_literal = all(field.hole is None or holds_any_literal(self._shapes[field.shape]) for field in fields)
            self._known.add(group if any_literal else (group, *literals))
        return fault

    def misplaced(self, variant: Variant) -> str:
        """The first field that is at a wrong place or has no meaning there; empty if there is none."""
        return self._first_fault(unpack_fixups(variant.fixups), variant)

    def _first_fault(self, fields: Sequence[Placed], variant: Variant) -> str:
        sizes = len(variant.hot), len(variant.cold)
        return _first_fault(fields, sizes, self._shapes, _IN_INSTRUCTIONS)


def too_far(backend: type[BackEnd], shapes: Sequence[Shape], source: int, number: int, value: int) -> str:
    """The message for code of one instruction in which a field of this source and shape cannot hold ``value``."""
    shape = shapes[number]
    signed = "signed" if shape.range is Range.SIGNED else "unsigned"
    bits = "1 bit" if shape.width == 1 else f"{shape.width} bits"
    scale = f" from bit {shape.scale} on" if shape.scale else ""
    distance = "distance " if shape.relative else ""
    return (
        f"{package(backend)} makes code in which a field does not hold its value: source {Source(source).name}, shape "
        f"{number} ({bits}{scale}, {signed}), {distance}{value}: {_REMEDY}"
    )


def _first_fault(
    fields: Sequence[Placed], sizes: Sequence[int], shapes: Sequence[Shape], sources: frozenset[Source]
) -> str:
    """`sizes` are the bytes of each part, `sources` those that have a meaning in this code."""
    filled: dict[int, int] = {}
    for source, number, part, offset, _, _ in fields:
        if not 0 <= number < len(shapes):
            return f"a field has shape {number}, but there are only {len(shapes)}, numbered from 0"
        shape, size = shapes[number], sizes[part]
        if not 0 <= offset <= size - shape.unit:
            return f"a field of {shape.unit} bytes at offset {offset} is not within the code's {size} bytes"
        if source not in _SOURCES:
            return f"a field has source {source}, which does not exist"
        if (source in PLACES) is not bool(shape.relative):
            place = "is a place" if source in PLACES else "is no place"
            relative = "is relative" if shape.relative else "is not relative"
            return f"a field's source {Source(source).name} {place} in the block, and its shape {number} {relative}"
        if source not in sources:
            return f"a field has source {Source(source).name}, which has no meaning there"
        bits = _bits_of(shape.pieces) << 8 * offset
        if filled.get(part, 0) & bits:
            return f"a field of shape {number} at offset {offset} overlaps another one"
        filled[part] = filled.get(part, 0) | bits
    return ""


@cache
def _bits_of(pieces: tuple[tuple[int, int], ...]) -> int:
    """The bits of the unit that the pieces have."""
    return sum((1 << width) - 1 << at for at, width in pieces)


def _shape_fault(shape: Shape) -> str:
    if shape.unit not in UNITS:
        return f"has a unit of {shape.unit} bytes, and must have 1, 2, 4 or 8"
    if not 0 <= shape.scale < 64:
        return f"has scale {shape.scale}, and must have 0 to 63"
    if shape.range not in list(Range):
        return f"has range {shape.range}, which does not exist"
    if not -(1 << 63) <= shape.bias < 1 << 63:
        return f"has bias {shape.bias}, which is not a signed number of 64 bits"
    if shape.relative and shape.range is Range.MODULO:
        return "is relative and has range MODULO: a distance without its upper bits leads elsewhere"
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
        return f"chaining names shape {chaining.shape}, but there are only {len(shapes)}, numbered from 0"
    shape = shapes[chaining.shape]
    if not shape.relative or shape.unit not in CHAINED_UNITS:
        return f"shape {chaining.shape}, which is chained, must be relative and have 2 or 4 bytes"
    if shape.range not in (Range.SIGNED, Range.UNSIGNED):
        return (
            f"shape {chaining.shape}, which is chained, must have range SIGNED or UNSIGNED: it is the reach of a chain"
        )
    span = chaining.span
    if not shape.unit <= span <= lib.RADDLE_MOST_SPAN or span & span - 1:
        return f"the span of chaining is {span}; it is a power of two from {shape.unit} to {lib.RADDLE_MOST_SPAN}"
    return ""
