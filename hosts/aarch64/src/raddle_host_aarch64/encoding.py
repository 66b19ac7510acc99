# SPDX-License-Identifier: Apache-2.0
"""Encodings of A64: pictures of instructions, and immediates that are not plain numbers (Arm DDI 0487, C3, C4)."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from raddle_host_aarch64.code_buffer import EncodingError


class Picture(NamedTuple):
    """An instruction's fixed bits, and its fields as (lowest bit, width) by their letters."""

    base: int
    fields: dict[str, tuple[int, int]]


def parse(text: str) -> Picture:
    """Read a picture: 32 characters, the highest bit first. 0 and 1 are fixed bits, a run of one letter is a field, and
    blanks mean nothing. ValueError for other texts.
    """
    bits = text.replace(" ", "")
    if len(bits) != 32:
        raise ValueError(f"{text!r} has {len(bits)} bits")
    fields: dict[str, tuple[int, int]] = {}
    for letter in sorted(set(bits) - {"0", "1"}):
        width = bits.count(letter)
        first = bits.index(letter)
        if bits[first : first + width] != letter * width:
            raise ValueError(f"{text!r}: field {letter} is in several pieces")
        fields[letter] = (32 - first - width, width)
    return Picture(int("".join(bit if bit == "1" else "0" for bit in bits), 2), fields)


@lru_cache(maxsize=4096)
def bitmask(value: int, bits: int) -> int | None:
    """N:immr:imms of the logical immediate, 13 bits, for a value of 32 or 64 bits; None if there is none.

    Such a value repeats a pattern of 2, 4, 8, 16, 32 or 64 bits. The pattern is a run of ones, rotated.
    """
    value &= (1 << bits) - 1
    if value in (0, (1 << bits) - 1):
        return None
    size = bits
    while size > 2:
        half = size >> 1
        if value & (1 << half) - 1 != value >> half & (1 << half) - 1:
            break
        size = half
        value &= (1 << size) - 1
    ones = value.bit_count()
    run = (1 << ones) - 1
    for rotation in range(size):
        if (run >> rotation | run << size - rotation) & (1 << size) - 1 == value:
            kind = 0x40 if size == 64 else -(size << 1) & 0x3F
            return (kind & 0x40) << 6 | rotation << 6 | kind & 0x3F | ones - 1
    return None


def is_logical(value: int, bits: int) -> bool:
    """Whether the value is an immediate of AND, ORR, EOR and ANDS."""
    return bitmask(value, bits) is not None


def logical32(value: int) -> int:
    """The field of a 32-bit logical immediate. EncodingError for other values."""
    field = bitmask(value, 32)
    if field is None:
        raise EncodingError(f"{value:#x} is no logical immediate of 32 bits")
    return field


def logical64(value: int) -> int:
    """The field of a 64-bit logical immediate. EncodingError for other values."""
    field = bitmask(value, 64)
    if field is None:
        raise EncodingError(f"{value:#x} is no logical immediate of 64 bits")
    return field


def is_arithmetic(value: int) -> bool:
    """Whether the value is an immediate of ADD, SUB, ADDS and SUBS."""
    return 0 <= value < 1 << 12 or (0 <= value < 1 << 24 and not value & 0xFFF)


def arithmetic(value: int) -> int:
    """The field of an immediate of ADD and SUB: twelve bits, and one that says whether they are shifted by twelve.
    EncodingError for other values.
    """
    if 0 <= value < 1 << 12:
        return value
    if 0 <= value < 1 << 24 and not value & 0xFFF:
        return 1 << 12 | value >> 12
    raise EncodingError(f"{value:#x} is no immediate of an addition: twelve bits, or twelve bits shifted by twelve")
