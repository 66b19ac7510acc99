# SPDX-License-Identifier: Apache-2.0
"""Compiled code with open holes, and how the same code for other registers is made of it.

The emitter decides by which guest registers are equal and which are kept in host registers, never by which host
register one is. So the code for other registers has the same host instructions, with other registers in them. The
emitter traces what it emits; here the instructions that name one of the registers to be replaced are encoded anew, all
else is copied. Where that makes an instruction longer or shorter, everything that refers to a place behind it moves
along.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from raddle.codegen import template
from raddle.codegen.template import OpenHole, Reloc, RelocKind, pack_fixups, pack_traits
from raddle_host_x86_64.assembler import Assembler
from raddle_host_x86_64.code_buffer import Label
from raddle_host_x86_64.emitter import ENV, REGISTER_ARGUMENTS, Traced
from raddle_host_x86_64.registers import RBP

_PATCH: Final = Struct("<I").pack_into
_M32: Final = 0xFFFFFFFF
_COLD, _HOT = int(RelocKind.COLD), int(RelocKind.HOT)


class _Form(dict[int, bytes]):
    """One host instruction by the registers that are put into it: the key joins them, the first one highest."""

    __slots__ = ("_arguments", "_method", "_slots")

    def __init__(self, method: Callable[..., None], arguments: tuple[int, ...], slots: tuple[int, ...]) -> None:
        super().__init__()
        self._method = method
        self._arguments = arguments
        self._slots = slots

    def __missing__(self, key: int) -> bytes:
        arguments = list(self._arguments)
        rest = key
        for slot in reversed(self._slots):
            arguments[slot] = rest & _KEY_MASK
            rest >>= _KEY_BITS
        assembler = Assembler()
        self._method(assembler, *arguments)
        code = self[key] = bytes(assembler.code)
        return code


_KEY_BITS: Final = 20
_KEY_MASK: Final = (1 << _KEY_BITS) - 1

_FORMS: Final[dict[tuple[Callable[..., None], tuple[int, ...], tuple[int, ...]], _Form]] = {}
"""By method, arguments with 0 in the open slots, and the slots."""

_Piece = tuple[bytes, _Form, tuple[int, ...], int]
"""(code before, the instruction, numbers of the registers to put there, old length)"""
_Cuts = tuple[list[_Piece], list[int], bytes]
"""(pieces, where their instructions start, the code behind them)"""


class Part:
    """The hot or the cold part of a variant."""

    __slots__ = ("_cuts", "code", "holes", "jumps", "relocs", "trace")

    def __init__(
        self, code: bytes, relocs: list[Reloc], holes: list[OpenHole], trace: list[Traced], jumps: list[Jump]
    ) -> None:
        self.code = code
        self.relocs = relocs
        self.holes = holes
        self.trace = trace
        self.jumps = jumps
        self._cuts: _Cuts | None = None

    def _cut(self, sources: Sequence[int]) -> _Cuts:
        """Divide the code. Two threads may do it at once: either's result will do."""
        number_of = {place: number for number, place in enumerate(sources)}
        pieces: list[_Piece] = []
        starts: list[int] = []
        done = 0
        for _, start, end, method, arguments in self.trace:
            registers, base = REGISTER_ARGUMENTS[method]
            slots = [at for at in registers if arguments[at] in number_of]
            numbers = [number_of[arguments[at]] for at in slots]
            if base >= 0 and arguments[base] == RBP and ENV + arguments[base + 1] in number_of:
                slots.append(base + 1)
                numbers.append(number_of[ENV + arguments[base + 1]])
            if slots:
                blank = tuple([0 if at in slots else argument for at, argument in enumerate(arguments)])
                key = (method, blank, tuple(slots))
                form = _FORMS.get(key)
                if form is None:
                    form = _FORMS[key] = _Form(*key)
                pieces.append((self.code[done:start], form, tuple(numbers), end - start))
                starts.append(start)
                done = end
        cuts = self._cuts = (pieces, starts, self.code[done:])
        return cuts

    def encode(self, sources: Sequence[int], targets: Sequence[int]) -> tuple[bytes, Moved | None]:
        """The code with each place of `sources` replaced by that of `targets`, and what moved if anything did."""
        pieces, starts, tail = self._cuts or self._cut(sources)
        parts: list[bytes] = []
        shift = 0
        shifts = [0]
        same = True
        for before, form, numbers, length in pieces:
            key = 0
            for register in numbers:
                key = key << _KEY_BITS | targets[register]
            code = form[key]
            parts += (before, code)
            growth = len(code) - length
            if growth:
                shift += growth
                same = False
            shifts.append(shift)
        parts.append(tail)
        return b"".join(parts), None if same else Moved(starts, shifts)


Jump = tuple[int, int]
"""(offset of the rel32 field, offset of the place that it leads to) within one part."""


class Moved:
    """Where the places of a part are after some of its instructions have become longer or shorter."""

    __slots__ = ("_shifts", "_starts")

    def __init__(self, starts: list[int], shifts: list[int]) -> None:
        self._starts = starts
        """Where the instructions that were encoded anew started, ascending."""
        self._shifts = shifts
        """How far all that stands behind the first n of them has moved, for each n."""

    def place(self, offset: int) -> int:
        """The new offset of a place, or of a field at the end of an instruction."""
        return offset + self._shifts[bisect_left(self._starts, offset)]


class Variant(template.Variant):
    """One variant of a template, from which those with other registers are made."""

    __slots__ = ("cold_part", "hot_part")

    def __init__(self, hot: Part, cold: Part, fixups: bytes, traits: int) -> None:
        super().__init__(hot.code, cold.code, fixups, traits)
        self.hot_part = hot
        self.cold_part = cold

    @classmethod
    def compiled(cls, hot: Part, cold: Part, effects: tuple[int, int, int, bool], by_kind: bool) -> Variant:
        """``effects`` are the flags that it defines and uses, what the host's flags hold afterwards, and `ends`."""
        return cls(hot, cold, _fixups(hot, cold), pack_traits(*effects, by_kind))

    def renamed(self, sources: Sequence[int], targets: Sequence[int]) -> Variant:
        """The variant with other registers: `sources` are the places as values have them, `targets` host registers and
        offsets in the state."""
        hot, cold = self.hot_part, self.cold_part
        hot_code, hot_moved = hot.encode(sources, targets)
        cold_code, cold_moved = cold.encode(sources, targets) if cold.code else (b"", None)
        hot_relocs, cold_relocs = hot.relocs, cold.relocs
        hot_holes, cold_holes = hot.holes, cold.holes
        fixups = self.fixups
        if hot_moved is not None or cold_moved is not None:
            hot_relocs = _move_relocs(hot_relocs, hot_moved, cold_moved, _COLD)
            cold_relocs = _move_relocs(cold_relocs, cold_moved, hot_moved, _HOT)
        if hot_moved is not None:
            hot_holes = [(hot_moved.place(offset), index, addend, kind) for offset, index, addend, kind in hot_holes]
            hot_code = _move_jumps(hot_code, hot.jumps, hot_moved)
        if cold_moved is not None:
            cold_holes = [(cold_moved.place(offset), index, addend, kind) for offset, index, addend, kind in cold_holes]
            cold_code = _move_jumps(cold_code, cold.jumps, cold_moved)
        new_hot = Part(hot_code, hot_relocs, hot_holes, [], [])
        new_cold = Part(cold_code, cold_relocs, cold_holes, [], [])
        if hot_moved is not None or cold_moved is not None:
            fixups = _fixups(new_hot, new_cold)
        return Variant(new_hot, new_cold, fixups, self.traits)


def _fixups(hot: Part, cold: Part) -> bytes:
    return pack_fixups(0, hot.relocs, hot.holes) + pack_fixups(1, cold.relocs, cold.holes)


def _move_relocs(relocs: list[Reloc], own: Moved | None, other: Moved | None, crossing: int) -> list[Reloc]:
    """`crossing` is the kind whose value is an offset in the other part."""
    return [
        (
            kind,
            offset if own is None else own.place(offset),
            other.place(value) if kind == crossing and other is not None else value,
        )
        for kind, offset, value in relocs
    ]


def _move_jumps(code: bytes, jumps: list[Jump], moved: Moved) -> bytes:
    if not jumps:
        return code
    patched = bytearray(code)
    for field, target in jumps:
        at = moved.place(field)
        _PATCH(patched, at, (moved.place(target) - at - 4) & _M32)
    return bytes(patched)


def part(
    code: bytes,
    buffer: bytearray,
    relocs: list[Reloc],
    holes: list[OpenHole],
    trace: list[Traced],
    jumps: list[tuple[bytearray, int, Label]],
) -> Part:
    """The part that an emitter left in `buffer`."""
    return Part(
        code,
        relocs,
        holes,
        [traced for traced in trace if traced[0] is buffer],
        [(offset, label.position) for at, offset, label in jumps if at is buffer],
    )
