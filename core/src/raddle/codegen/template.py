# SPDX-License-Identifier: Apache-2.0
"""Templates: the host code of one guest instruction, ready to be joined with others to a block.

A template is compiled once for all instruction words that share its memo key; `Entry` is a template with the literal
holes of one particular word filled in, which is all that the joiner touches for each instruction of a block. Offsets
are in bytes from the start of the part (hot or cold) that they lie in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import IntEnum

from raddle.ir.types import Field

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


Shape = tuple[bytes, "bytes | None", bool, int, int, int, bool]
"""What the entries of a template have in common: (row, pads, plain, flag_defs, flag_uses, host_flags, ends).

``pads`` is for entries with chainable jumps: how many bytes to skip at each start offset mod 8. ``plain`` says that
there is no relocation, no cold part and no padding: hot and row are all there is.
"""


class Template(ABC):
    """One compiled instruction whose holes are open."""

    __slots__ = ("next_context", "size")

    def __init__(self, size: int, next_context: int) -> None:
        self.size = size
        """Guest bytes."""
        self.next_context = next_context

    @abstractmethod
    def fill(self, values: tuple[int, ...]) -> Entry:
        """The entry for these hole values (in the order of the decode pattern's holes)."""

    def renamed(self, fields: Sequence[Field], others: Sequence[Field]) -> Template | None:
        """The template of the same instruction with each of ``fields`` replaced by the one of ``others`` at its place.

        Each pair has the same place (``BackEnd.place``), and each of ``others`` is there once. None when it cannot be
        made from this one: the instruction uses one of ``others`` besides.
        """
        return None

    @abstractmethod
    def by_kind(self, entry: Entry, kind: int) -> Entry:
        """The variant of ``entry``, which this template filled, for what the host's flags hold before it."""

    @abstractmethod
    def dead(self, entry: Entry) -> Entry:
        """The variant of ``entry`` for when nobody sees the flags that it defines."""


class Entry:
    """What the joiner needs of one instruction; immutable but for the memoised variants.

    ``flag_uses`` are the guest flags that must be in the state before this instruction, ``flag_defs`` those that it
    overwrites whatever happens. ``row`` is the instruction's row of the block's table. ``host_flags`` tells what the
    host's condition flags hold afterwards: a host-specific kind, 0 for nothing, -1 for what they held before.
    ``ends`` says that control never falls through; ``size`` is the guest instruction's length in bytes.
    """

    __slots__ = (
        "by_kind",
        "cold",
        "cold_relocs",
        "dead",
        "ends",
        "flag_defs",
        "flag_uses",
        "host_flags",
        "hot",
        "hot_relocs",
        "kind",
        "kinds",
        "next_context",
        "pads",
        "plain",
        "row",
        "size",
        "template",
        "values",
    )

    def __init__(
        self,
        template: Template,
        values: tuple[int, ...],
        hot: bytes,
        cold: bytes,
        hot_relocs: Sequence[Reloc],
        cold_relocs: Sequence[Reloc],
        shape: Shape,
        by_kind: bool,
        kind: int,
    ) -> None:
        self.template = template
        self.values = values
        """The literals that it was made for."""
        self.hot = hot
        self.cold = cold
        self.hot_relocs = hot_relocs
        self.cold_relocs = cold_relocs
        self.row, self.pads, self.plain, self.flag_defs, self.flag_uses, self.host_flags, self.ends = shape
        self.size = template.size
        self.next_context = template.next_context
        self.kind = kind
        """The host-flags kind that it is for."""
        self.by_kind = by_kind
        """Whether there are variants by the host-flags kind that holds before."""
        self.kinds: dict[int, Entry] | None = None
        """Those that have been made."""
        self.dead: Entry | None = None
        """The variant for when no flag that it defines is live, when it has been made."""


class Block:
    """A joined block, ready to be installed."""

    __slots__ = ("code", "cold_start", "hot_start", "table")

    def __init__(self, code: bytes, table: bytes, hot_start: int, cold_start: int) -> None:
        self.code = code
        self.table = table
        self.hot_start = hot_start
        self.cold_start = cold_start
