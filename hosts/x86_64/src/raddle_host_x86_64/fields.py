# SPDX-License-Identifier: Apache-2.0
"""The fields of x86-64 code that the joiner fills in: immediates, and distances from the field's own end."""

from __future__ import annotations

from typing import Final

from raddle.codegen.fields import Chaining, Range, Shape, Source, field_kind, whole

_IMM8, _IMM32, _IMM64, REL32, _LOW32 = range(5)
SHAPES: Final[tuple[Shape, ...]] = (
    whole(1, Range.MODULO),
    whole(4),
    whole(8),
    whole(4, Range.SIGNED, bias=-4, relative=True),
    whole(4, Range.MODULO),
)

LITERAL8: Final = field_kind(Source.LITERAL, _IMM8)
LITERAL32: Final = field_kind(Source.LITERAL, _IMM32)
PC32: Final = field_kind(Source.PC, _IMM32)
PC64: Final = field_kind(Source.PC, _IMM64)
PC_LOW32: Final = field_kind(Source.PC, _LOW32)
"""The low 32 bits of an address, which is all that the trace's hash takes of it."""
COUNT32: Final = field_kind(Source.COUNT, _IMM32)
HOT: Final = field_kind(Source.HOT, REL32)
COLD: Final = field_kind(Source.COLD, REL32)
EXIT: Final = field_kind(Source.EXIT, REL32)
JUMP: Final = field_kind(Source.JUMP, REL32)
LEAVE: Final = field_kind(Source.LEAVE, REL32)

CHAINING: Final = Chaining(REL32, span=8)
"""A write of four bytes within eight aligned ones is atomic (Intel SDM 3A, "Guaranteed Atomic Operations"). The CPU
notices by itself that code has changed ("Self-Modifying Code")."""

NOPS: Final = (
    b"\x90", b"\x66\x90", b"\x0f\x1f\x00", b"\x0f\x1f\x40\x00", b"\x0f\x1f\x44\x00\x00",
    b"\x66\x0f\x1f\x44\x00\x00", b"\x0f\x1f\x80\x00\x00\x00\x00",
)  # fmt: skip
"""Intel SDM 2B, NOP, table 4-12."""
