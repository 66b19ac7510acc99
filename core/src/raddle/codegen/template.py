# SPDX-License-Identifier: Apache-2.0
"""Templates: the host code of one guest instruction, ready to be joined with others to a block.

A template is compiled once for all instruction words that share its memo key, in variants: by what the host's flags
hold before it, and by whether anything reads the guest flags that it sets. The runtime keeps the code and joins it
(`raddle.codegen.joiner`); nothing here runs for each block. Offsets are in bytes from the start of the part (hot or
cold) that they lie in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Final

from raddle.ir.types import Hole
from raddle.runtime._native import lib

FLAG_N, FLAG_Z, FLAG_C, FLAG_V = 8, 4, 2, 1
ALL_FLAGS = 15

HOST_FLAGS_NONE: Final = 0
"""The host's flags hold none of the guest's."""
HOST_FLAGS_KEPT: Final = -1
"""They hold what they held before."""
HOST_FLAGS: Final = 4
"""How many kinds there are of what the host's flags can hold, 0 (nothing) included."""


def pack_traits(flag_defs: int, flag_uses: int, host_flags: int, ends: bool, by_kind: bool) -> int:
    """What the joiner must know about a variant.

    ``flag_uses`` are the guest flags that must be in the state before the instruction, ``flag_defs`` those that it
    overwrites whatever happens. ``host_flags`` tells what the host's condition flags hold afterwards: a host-specific
    kind below `HOST_FLAGS`, `HOST_FLAGS_NONE` or `HOST_FLAGS_KEPT`. ``ends``: control never falls through.
    ``by_kind``: for another kind before it, there is another variant.
    """
    return flag_defs | flag_uses << 4 | (host_flags + 1) << 8 | ends << 16 | by_kind << 17


_CUT: Final = Struct("<IHHBB4sH").pack
_JUMP: Final = Struct("<BBHHH").pack
MOST_CUT_REGISTERS: Final = int(lib.RADDLE_CUT_REGISTERS)


def pack_cut(part: int, form: int, offset: int, size: int, registers: Sequence[int]) -> bytes:
    """A struct raddle_cut: a host instruction that names guest registers, at most `MOST_CUT_REGISTERS`.

    `BackEnd.encode` gets ``form``, with other registers.
    """
    return _CUT(form, offset, size, part, len(registers), bytes(registers), 0)


def pack_jump(part: int, shape: int, field: int, target: int) -> bytes:
    """A struct raddle_jump: a jump, with its field at offset ``field``, to offset ``target`` in the same part."""
    return _JUMP(part, shape, field, target, 0)


_VARIANT_SIZE: Final = 450
"""Bytes, about, of a variant whose parts are empty, with its place in its template."""


class Variant:
    """The code of a template for one situation. Immutable."""

    __slots__ = ("cold", "cuts", "fixups", "hot", "jumps", "orders", "traits")

    def __init__(
        self,
        hot: bytes,
        cold: bytes,
        fixups: bytes,
        traits: int,
        cuts: bytes = b"",
        jumps: bytes = b"",
        orders: int = 0,
    ) -> None:
        self.hot = hot
        self.cold = cold
        self.fixups = fixups
        """As `raddle.codegen.fields.pack_fixups` makes them, the hot part's first."""
        self.traits = traits
        """As `pack_traits` makes them."""
        self.cuts = cuts
        """Of a template with open registers: `pack_cut` of each instruction that names one, in ascending order."""
        self.jumps = jumps
        """Of such a template: `pack_jump` of each jump within a part."""
        self.orders = orders
        """As `raddle.codegen.barriers.pack_orders` makes them; 0 leaves all barriers as they are."""

    @property
    def footprint(self) -> int:
        """Bytes of memory that it takes, about."""
        parts = (self.hot, self.cold, self.fixups, self.cuts, self.jumps)
        return _VARIANT_SIZE + sum(map(len, parts))


class Template(ABC):
    """One compiled instruction with open holes, and perhaps open registers. Immutable."""

    __slots__ = ("decode_state", "ends", "next_decode_state", "size")

    def __init__(self, size: int, decode_state: int, next_decode_state: int, ends: bool) -> None:
        self.size = size
        """Guest bytes."""
        self.decode_state = decode_state
        self.next_decode_state = next_decode_state
        self.ends = ends
        """Whether control never falls through."""

    @property
    def footprint(self) -> int:
        """Bytes of memory that it takes without its variants, about; they count in the memo's budget."""
        return 4096

    @property
    def holes(self) -> Mapping[int, Hole] | None:
        """The literals that its fields may hold, by index. None: nothing is known of them."""
        return None

    @abstractmethod
    def variant(self, host_flags: int, dead: bool) -> Variant:
        """The code for this kind of host flags before it; ``dead``: nothing reads the guest flags that it sets."""


class Block:
    """A joined block. ``table`` has a row of 8 bytes per instruction: sizes of its hot and cold code (16 bits each) and
    of the guest's (8 bits), then ``decode_state`` in the last 16 bits.
    """

    __slots__ = ("code", "cold_start", "hot_start", "table")

    def __init__(self, code: bytes, table: bytes, hot_start: int, cold_start: int) -> None:
        self.code = code
        self.table = table
        self.hot_start = hot_start
        self.cold_start = cold_start
