# SPDX-License-Identifier: Apache-2.0
"""Templates: the host code of one guest instruction, ready to be joined with others to a block.

A template is compiled once for all instruction words that share its memo key; `Entry` is a template with the literal
holes of one particular word filled in, which is all that the joiner touches for each instruction of a block. Offsets are
in bytes from the start of the part (hot or cold) that they lie in.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

FLAG_N, FLAG_Z, FLAG_C, FLAG_V = 8, 4, 2, 1
ALL_FLAGS = 15


class RelocKind(IntEnum):
    """How the joiner fills a field. ``value`` is the relocation's third component."""

    PC32 = 0
    """32 bits: (guest pc of the instruction + value) mod 2**32."""
    PC64 = 1
    """64 bits: (guest pc of the instruction + value) mod 2**64."""
    CHAIN = 2
    """rel32 of a jump that leaves for guest pc + value; aimed at an exit stub, chainable."""
    COLD = 3
    """rel32 in the hot part to the cold offset ``value``."""
    HOT = 4
    """rel32 in the cold part to the hot offset ``value``."""


Reloc = tuple[int, int, int]
"""(kind, offset of the field, value)."""

Hole = tuple[bool, int, int, int]
"""(in the cold part, offset of the 32-bit field, hole index, addend); the field gets addend + the hole's value."""


class Entry:
    """What the joiner needs of one instruction; immutable but for the memoised variants.

    ``flag_uses`` are the guest flags that must be in the state before this instruction, ``flag_defs`` those that it
    overwrites whatever happens. ``row`` is the instruction's row of the block's table. ``host_flags`` tells what the
    host's condition flags hold afterwards: a host-specific kind, 0 for nothing, -1 for what they held before.
    ``ends`` says that control never falls through; ``size`` is the guest instruction's length in bytes.
    """

    __slots__ = (
        "cold",
        "cold_relocs",
        "dead",
        "dead_maker",
        "ends",
        "flag_defs",
        "flag_uses",
        "host_flags",
        "hot",
        "hot_relocs",
        "kinds",
        "next_context",
        "pads",
        "plain",
        "row",
        "size",
    )

    def __init__(self) -> None:
        self.hot = b""
        self.cold = b""
        self.row = b""
        self.hot_relocs: tuple[Reloc, ...] = ()
        self.cold_relocs: tuple[Reloc, ...] = ()
        self.flag_defs = 0
        self.flag_uses = 0
        self.host_flags = 0
        self.ends = False
        self.size = 0
        self.next_context = 0
        self.plain = True
        """No relocation, no cold part, no padding: hot and row are all there is."""
        self.pads: bytes | None = None
        """For entries with chainable jumps: how many bytes to skip at each start offset mod 8."""
        self.kinds: dict[int, Entry] | None = None
        """Variants by the host-flags kind that holds before; None when it does not matter."""
        self.dead: Entry | None = None
        """The variant for when no flag that it defines is live."""
        self.dead_maker: Callable[[], Entry] | None = None


class Block:
    """A joined block, ready to be installed."""

    __slots__ = ("code", "cold_start", "hot_start", "table")

    def __init__(self, code: bytes, table: bytes, hot_start: int, cold_start: int) -> None:
        self.code = code
        self.table = table
        self.hot_start = hot_start
        self.cold_start = cold_start
