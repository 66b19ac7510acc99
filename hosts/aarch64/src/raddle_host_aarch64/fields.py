# SPDX-License-Identifier: Apache-2.0
"""The fields of A64 code that the joiner fills in: immediates, and distances in instructions."""

from __future__ import annotations

from typing import Final

from raddle.codegen.fields import Chaining, FieldKind, Range, Shape, Source, field_kind

BRANCH26, BRANCH19, BRANCH14, ADR21, _IMM12, _IMM16 = range(6)
_SHIFT32, _SHIFT64, _AMOUNT32, _AMOUNT64, _LOW12, _BIT12, _HIGH12, _MIDDLE16, _BITS16 = range(9, 18)
SHAPES: Final[tuple[Shape, ...]] = (
    *(Shape(4, ((at, width),), Range.SIGNED, scale=2, relative=True) for at, width in ((0, 26), (5, 19), (5, 14))),
    Shape(4, ((29, 2), (5, 19)), Range.SIGNED, relative=True),
    Shape(4, ((10, 12),), Range.UNSIGNED),
    *(Shape(4, ((5, 16),), scale=scale) for scale in (0, 16, 32, 48)),
    Shape(4, ((16, 5),), Range.MODULO),
    Shape(4, ((16, 6),), Range.MODULO),
    Shape(4, ((10, 5),), Range.MODULO),
    Shape(4, ((10, 6),), Range.MODULO),
    Shape(4, ((10, 12),)),
    Shape(4, ((10, 1),), scale=12),
    Shape(4, ((10, 12),), Range.UNSIGNED, scale=12),
    Shape(4, ((5, 16),), Range.UNSIGNED, scale=8),
    Shape(4, ((5, 16),), Range.MODULO, scale=16),
)

LITERAL12: Final = field_kind(Source.LITERAL, _IMM12)
HIGH12: Final = field_kind(Source.LITERAL, _HIGH12)
"""Of an immediate that is shifted left by 12."""
MIDDLE16: Final = field_kind(Source.LITERAL, _MIDDLE16)
"""Of a move whose result is shifted left by 8 where it is used."""
LITERAL16: Final[tuple[FieldKind, ...]] = tuple(field_kind(Source.LITERAL, _IMM16 + n) for n in range(2))
PC16: Final[tuple[FieldKind, ...]] = tuple(field_kind(Source.PC, _IMM16 + n) for n in range(4))
"""Of MOVZ and MOVK: the 16 bits of a number from bit 16 * n on."""
PC_LOW32: Final[tuple[FieldKind, ...]] = (PC16[0], field_kind(Source.PC, _BITS16))
"""The same for the low 32 bits of an address, which is all that is needed of it."""
LOW12: Final = field_kind(Source.LITERAL, _LOW12)
BIT12: Final = field_kind(Source.LITERAL, _BIT12)
"""Of a number of 13 bits, signed: its low bits for an addition, and its sign for the subtraction of 1 << 12."""
SHIFT: Final = {False: field_kind(Source.LITERAL, _SHIFT32), True: field_kind(Source.LITERAL, _SHIFT64)}
"""Amounts of LSR and ASR, by whether the register has 64 bits."""
AMOUNT: Final = {False: field_kind(Source.LITERAL, _AMOUNT32), True: field_kind(Source.LITERAL, _AMOUNT64)}
"""Amounts by which an operand is shifted or rotated."""
COUNT12: Final = field_kind(Source.COUNT, _IMM12)
EXIT26: Final = field_kind(Source.EXIT, BRANCH26)
JUMP21: Final = field_kind(Source.JUMP, ADR21)
LEAVE19: Final = field_kind(Source.LEAVE, BRANCH19)
LEAVE14: Final = field_kind(Source.LEAVE, BRANCH14)
COLD19: Final = field_kind(Source.COLD, BRANCH19)
HOT26: Final = field_kind(Source.HOT, BRANCH26)

CHAINING: Final = Chaining(BRANCH26, span=4, flush=True)
"""B may be changed while other threads run it: they run the old instruction or the new one (Arm DDI 0487, B2.2.5,
concurrent modification and execution)."""
