# SPDX-License-Identifier: Apache-2.0
"""Fields: the parts of host code that are filled in when a block is joined, as data.

A field's *source* says what goes in: a literal, a guest address, a place in the block. Its *shape* says how the host's
instruction encodes it: in which bits, scaled by what, counted from where. A host lists its shapes in its `JoinRules`.
The runtime fills in fields by them (fields.c, join.c) and knows no host.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from struct import Struct
from typing import Any, Final, NamedTuple

from raddle.runtime._native import lib


class Source(IntEnum):
    """What a field holds. *x* is the number that the relocation gives, plus the literal of its hole if it has one.

    HOT, COLD, EXIT, JUMP and LEAVE are places in the block, which can lie anywhere: fields with these sources, and only
    these, have relative shapes.
    """

    LITERAL = lib.RADDLE_FROM_LITERAL
    """x, which is a sum modulo 2**64; a literal is a signed number of 32 bits."""
    PC = lib.RADDLE_FROM_PC
    """x + the guest address of the instruction, modulo the guest's word. In a stub, x + the address that it leaves for;
    in the entry check and in `JoinRules.leave`, x + the block's address."""
    PAGE = lib.RADDLE_FROM_PAGE
    """The address of the guest page (of the smallest size) that PC lies in, + x."""
    HOT = lib.RADDLE_FROM_HOT
    """Offset x in the instruction's hot part; in a stub and in the entry check, x from its start."""
    COLD = lib.RADDLE_FROM_COLD
    """Offset x in the instruction's cold part."""
    EXIT = lib.RADDLE_FROM_EXIT
    """A stub of its own, which leaves for guest address PC + x."""
    COUNT = lib.RADDLE_FROM_COUNT
    """How many instructions the block has, + x."""
    JUMP = lib.RADDLE_FROM_JUMP
    """In a stub: the field of the jump that led to it, + x."""
    LEAVE = lib.RADDLE_FROM_LEAVE
    """In the entry check: the stub `JoinRules.leave`, + x."""


PLACES: Final = frozenset({Source.HOT, Source.COLD, Source.EXIT, Source.JUMP, Source.LEAVE})
"""Sources that are places in the block."""


class Range(IntEnum):
    """Which values a shape can hold. If a value is out of range, the block is made shorter, or the host's code is
    refused (`raddle.codegen.holding`)."""

    ANY = lib.RADDLE_RANGE_ANY
    """A part of any value. Fields of this range that have the same value must hold all of its bits together: one field
    that is wide enough, or several with high and low parts."""
    SIGNED = lib.RADDLE_RANGE_SIGNED
    """Multiples of 2**scale that fit the field as a signed number."""
    UNSIGNED = lib.RADDLE_RANGE_UNSIGNED
    """The same as an unsigned number."""
    MODULO = lib.RADDLE_RANGE_MODULO
    """All: bits that do not fit are dropped, and are not needed. For amounts of shifts, or the low byte of a number."""


class Shape(NamedTuple):
    """How host code encodes a value: ``bias`` is added, and the field gets the bits from ``scale`` on.

    A branch of 26 bits that counts instructions of four bytes from its own place is
    ``Shape(4, ((0, 26),), Range.SIGNED, scale=2, relative=True)``; the upper 16 bits of 32, in bits 5 to 20, are
    ``Shape(4, ((5, 16),), scale=16)``. A distance from the end of the field has the bias ``-unit``.
    """

    unit: int
    """Bytes at the field's offset that are read and written as one little-endian number: 1, 2, 4 or 8."""
    pieces: tuple[tuple[int, int], ...]
    """(lowest bit in the unit, width) of each piece, that of the lowest bits first; at most four."""
    range: Range = Range.ANY
    scale: int = 0
    """How many low bits of the value are left out."""
    bias: int = 0
    relative: bool = False
    """Whether the field's own place is subtracted: for places in the block."""

    @property
    def width(self) -> int:
        """Bits of all pieces."""
        return sum(width for _, width in self.pieces)


def whole(unit: int, range: Range = Range.ANY, bias: int = 0, relative: bool = False) -> Shape:
    """The shape of a field that is a number of ``unit`` bytes."""
    return Shape(unit, ((0, 8 * unit),), range, 0, bias, relative)


class Chaining(NamedTuple):
    """How a jump is aimed elsewhere while other threads may run it: the field of an exit is written as a whole, so that
    they fetch either the old or the new one.
    """

    shape: int
    """Number of the shape that such a field has: relative, of 2 or 4 bytes. Its range is the reach of a chain. Exits of
    other shapes are never chained."""
    span: int
    """The field must lie within this many aligned bytes, at most 16; otherwise the jump is not chained."""
    flush: bool = False
    """Whether instruction caches must be told of the change."""


FieldKind = int
"""Source and shape of a field, as `field_kind` makes it."""


def field_kind(source: Source, shape: int) -> FieldKind:
    """The kind of a field with this source and the host's shape of this number."""
    return source | shape << 8


Reloc = tuple[FieldKind, int, int]
"""(kind, offset of the field in its part or stub, x)."""

OpenHole = tuple[int, int, int, FieldKind]
"""(offset of the field, index of the hole, addend, kind): x is the sum of addend and literal."""

_FIXUP: Final = Struct("<HHHBxq")
_NO_HOLE: Final = int(lib.RADDLE_NO_HOLE)


def pack_fixups(part: int, relocs: Iterable[Reloc], holes: Iterable[OpenHole] = ()) -> bytes:
    """The relocations and holes of part 0 (hot, or a stub) or 1 (cold) as the runtime has them: struct raddle_fixup."""
    return b"".join(
        [
            *[_FIXUP.pack(offset, _NO_HOLE, kind, part, value) for kind, offset, value in relocs],
            *[_FIXUP.pack(offset, index, kind, part, addend) for offset, index, addend, kind in holes],
        ]
    )


class Placed(NamedTuple):
    """A field in a part or stub."""

    source: int
    shape: int
    """Number of the shape."""
    part: int
    """0 hot, or a stub; 1 cold."""
    offset: int
    value: int
    """x, without the literal."""
    hole: int | None = None
    """Index of the hole whose literal is added."""


def unpack_fixups(fixups: bytes) -> list[Placed]:
    """The fields that `pack_fixups` has packed."""
    return [
        Placed(kind & 0xFF, kind >> 8, part, offset, value, None if hole == _NO_HOLE else hole)
        for offset, hole, kind, part, value in _FIXUP.iter_unpack(fixups)
    ]


def field_group(fixups: bytes) -> tuple[tuple[int, int, int, int], ...]:
    """(kind, part, hole, value) of each packed field; where the source is one of `PLACES`, without the value."""
    return tuple(
        [
            (kind, part, hole, 0 if kind & 0xFF in PLACES else value)
            for _, hole, kind, part, value in _FIXUP.iter_unpack(fixups)
        ]
    )


def in_stub(relocs: Iterable[Reloc]) -> list[Placed]:
    """The fields of a stub."""
    return [Placed(kind & 0xFF, kind >> 8, 0, offset, value) for kind, offset, value in relocs]


def describe_shape(shape: Shape, native: Any) -> None:
    """Write the shape to a struct raddle_shape."""
    native.unit = shape.unit
    native.relative = shape.relative
    native.scale = shape.scale
    native.range = int(shape.range)
    native.bias = shape.bias
    native.piece_count = len(shape.pieces)
    for piece, (at, width) in zip(native.pieces, shape.pieces, strict=False):
        piece.at = at
        piece.width = width
