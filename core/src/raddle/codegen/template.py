# SPDX-License-Identifier: Apache-2.0
"""Templates: the host code of one guest instruction, ready to be joined with others to a block.

A template is compiled once for all instruction words that share its memo key, in variants: by what the host's flags
hold before it, and by whether anybody sees the guest's flags that it sets. The runtime keeps what has been compiled and
joins it (`raddle.codegen.joiner`); nothing here runs for each block. Offsets are in bytes from the start of the part
(hot or cold) that they lie in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from enum import IntEnum
from struct import Struct
from typing import Final

from raddle.runtime._native import lib

FLAG_N, FLAG_Z, FLAG_C, FLAG_V = 8, 4, 2, 1
ALL_FLAGS = 15

HOST_FLAGS: Final = 4
"""Kinds of what the host's flags can hold, 0 (nothing) included."""


class RelocKind(IntEnum):
    """How the joiner fills a field. ``value`` is the relocation's third component."""

    PC32 = lib.RADDLE_FIX_PC32
    """32 bits: (guest pc of the instruction + value) mod 2**32."""
    PC64 = lib.RADDLE_FIX_PC64
    """64 bits: (guest pc of the instruction + value) mod 2**64."""
    CHAIN = lib.RADDLE_FIX_CHAIN
    """rel32 of a jump that leaves for guest pc + value; aimed at an exit stub, chainable."""
    COLD = lib.RADDLE_FIX_COLD
    """rel32 to the cold offset ``value``."""
    HOT = lib.RADDLE_FIX_HOT
    """rel32 to the hot offset ``value``."""
    LITERAL32 = lib.RADDLE_FIX_LITERAL32
    """32 bits: the value, of a hole."""
    LITERAL8 = lib.RADDLE_FIX_LITERAL8
    """8 bits: the value, of a hole."""


Reloc = tuple[int, int, int]
"""(kind, offset of the field, value)."""

OpenHole = tuple[int, int, int, int]
"""(offset of the field, hole index, addend, kind of relocation): the sum of addend and literal is the value."""

_FIXUP: Final = Struct("<IBBHq").pack
_NO_HOLE: Final = int(lib.RADDLE_NO_HOLE)


def pack_fixups(part: int, relocs: Iterable[Reloc], holes: Iterable[OpenHole]) -> bytes:
    """The relocations and holes of part 0 (hot) or 1 (cold) as the runtime has them: struct raddle_fixup."""
    return b"".join(
        [
            *[_FIXUP(offset, part, kind, _NO_HOLE, value) for kind, offset, value in relocs],
            *[_FIXUP(offset, part, kind, index, addend) for offset, index, addend, kind in holes],
        ]
    )


def pack_traits(flag_defs: int, flag_uses: int, host_flags: int, ends: bool, by_kind: bool) -> int:
    """What the joiner asks of a variant.

    ``flag_uses`` are the guest flags that must be in the state before the instruction, ``flag_defs`` those that it
    overwrites whatever happens. ``host_flags`` tells what the host's condition flags hold afterwards: a host-specific
    kind below `HOST_FLAGS`, 0 for nothing, -1 for what they held before. ``ends``: control never falls through.
    ``by_kind``: there are other variants for other kinds before it.
    """
    return flag_defs | flag_uses << 4 | (host_flags + 1) << 8 | ends << 16 | by_kind << 17


_CUT: Final = Struct("<IHHBB4sH").pack
_JUMP: Final = Struct("<HHHH").pack
MOST_CUT_REGISTERS: Final = int(lib.RADDLE_CUT_REGISTERS)


def pack_cut(part: int, form: int, offset: int, size: int, registers: Sequence[int]) -> bytes:
    """A host instruction that names guest registers, as the runtime has it: struct raddle_cut.

    ``form`` is what `BackEnd.encode` gets with other registers. At most `MOST_CUT_REGISTERS`.
    """
    return _CUT(form, offset, size, part, len(registers), bytes(registers), 0)


def pack_jump(part: int, field: int, target: int) -> bytes:
    """A rel32 at ``field`` that leads to ``target`` in the same part, as the runtime has it: struct raddle_jump."""
    return _JUMP(part, field, target, 0)


_VARIANT_SIZE: Final = 450
"""Bytes, about, of a variant whose parts are empty, with its place in its template."""


class Variant:
    """The code of a template for one situation. Immutable."""

    __slots__ = ("cold", "cuts", "fixups", "hot", "jumps", "traits")

    def __init__(
        self, hot: bytes, cold: bytes, fixups: bytes, traits: int, cuts: bytes = b"", jumps: bytes = b""
    ) -> None:
        self.hot = hot
        self.cold = cold
        self.fixups = fixups
        """As `pack_fixups` makes them, the hot part's first."""
        self.traits = traits
        """As `pack_traits` makes them."""
        self.cuts = cuts
        """Of a template with open registers: `pack_cut` of each instruction that names one, in ascending order."""
        self.jumps = jumps
        """Of such a template: `pack_jump` of each jump within a part."""

    @property
    def footprint(self) -> int:
        """Bytes of memory that it takes, about."""
        parts = (self.hot, self.cold, self.fixups, self.cuts, self.jumps)
        return _VARIANT_SIZE + sum(map(len, parts))


class Template(ABC):
    """One compiled instruction whose holes are open, and perhaps its registers. Immutable."""

    __slots__ = ("context", "ends", "next_context", "size")

    def __init__(self, size: int, context: int, next_context: int, ends: bool) -> None:
        self.size = size
        """Guest bytes."""
        self.context = context
        self.next_context = next_context
        self.ends = ends
        """Whether control never falls through."""

    @property
    def footprint(self) -> int:
        """Bytes of memory that it takes without its variants, about; they count in the memo's budget."""
        return 4096

    @abstractmethod
    def variant(self, host_flags: int, dead: bool) -> Variant:
        """The code for when the host's flags hold this kind; ``dead``: nobody sees the guest's flags that it sets."""


class Block:
    """A joined block. ``table`` has a row of 8 bytes an instruction: sizes of its hot and cold code (16 bits each) and
    of the guest's (8 bits), then ``context`` in the last 16 bits.
    """

    __slots__ = ("code", "cold_start", "hot_start", "table")

    def __init__(self, code: bytes, table: bytes, hot_start: int, cold_start: int) -> None:
        self.code = code
        self.table = table
        self.hot_start = hot_start
        self.cold_start = cold_start
