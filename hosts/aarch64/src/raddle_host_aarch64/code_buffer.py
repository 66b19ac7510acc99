# SPDX-License-Identifier: Apache-2.0
"""A buffer of machine code under construction, with labels."""

from __future__ import annotations

from typing import Final, NamedTuple


class EncodingError(ValueError):
    """An operand that the instruction cannot hold, or a label used and never bound."""


class Reach(NamedTuple):
    """The field of a jump that holds the distance from the jump itself, in instructions."""

    at: int
    """Its lowest bit."""
    width: int

    def encode(self, distance: int) -> int:
        """The field for a distance in bytes. EncodingError when it cannot reach so far."""
        words = distance >> 2
        if distance & 3 or not -1 << self.width - 1 <= words < 1 << self.width - 1:
            raise EncodingError(f"a jump of {self.width} bits cannot reach {distance} bytes")
        return (words & (1 << self.width) - 1) << self.at


BRANCH26: Final = Reach(0, 26)
BRANCH19: Final = Reach(5, 19)
BRANCH14: Final = Reach(5, 14)


class Label:
    """A place in one buffer's code: made by `CodeBuffer.label`, jumped to before or after `CodeBuffer.bind`."""

    __slots__ = ("position", "waiting")

    def __init__(self) -> None:
        self.position = -1  # offset in the code, -1 until bound
        self.waiting: list[tuple[int, Reach]] = []  # jumps, by their offsets, that wait for the position


class CodeBuffer:
    """Machine code under construction, in `code`. One thread uses it at a time."""

    __slots__ = ("_waiting", "code")

    def __init__(self) -> None:
        self.code = bytearray()
        self._waiting = 0  # jumps that wait for a label

    def label(self) -> Label:
        """A new label, not bound yet."""
        return Label()

    def bind(self, label: Label) -> None:
        """Let `label` be the end of the code so far. EncodingError when it is bound or a jump cannot reach it."""
        if label.position >= 0:
            raise EncodingError(f"label bound twice, at {label.position:#x} and {len(self.code):#x}")
        position = label.position = len(self.code)
        for offset, reach in label.waiting:
            self._aim(offset, reach, position)
        self._waiting -= len(label.waiting)
        label.waiting.clear()

    def finish(self) -> bytes:
        """The code. EncodingError when a label was used and never bound."""
        if self._waiting:
            raise EncodingError(f"{self._waiting} uses of labels that were never bound")
        return bytes(self.code)

    def refer(self, label: Label, reach: Reach) -> None:
        """Aim the jump that is the last instruction of the code, and has distance 0, at the label."""
        offset = len(self.code) - 4
        if label.position >= 0:
            self._aim(offset, reach, label.position)
        else:
            label.waiting.append((offset, reach))
            self._waiting += 1

    def _aim(self, offset: int, reach: Reach, position: int) -> None:
        code = self.code
        word = int.from_bytes(code[offset : offset + 4], "little") | reach.encode(position - offset)
        code[offset : offset + 4] = word.to_bytes(4, "little")
