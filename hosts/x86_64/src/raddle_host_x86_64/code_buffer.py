# SPDX-License-Identifier: Apache-2.0
"""A buffer of machine code under construction, with labels."""

from __future__ import annotations

from struct import Struct
from typing import Final

_REL32: Final = Struct("<i")


class EncodingError(ValueError):
    """An operand that the instruction cannot hold, or a label used and never bound."""


class Label:
    """A place in one buffer's code: made by `CodeBuffer.label`, jumped to before or after `CodeBuffer.bind`."""

    __slots__ = ("fixups", "position")

    def __init__(self) -> None:
        self.position = -1  # offset in the code, -1 until bound
        self.fixups: list[tuple[int, int]] = []  # (offset, bytes) of the relative fields that wait for the position


class CodeBuffer:
    """Machine code under construction, in `code`. One thread uses it at a time."""

    __slots__ = ("_waiting", "code")

    def __init__(self) -> None:
        self.code = bytearray()
        self._waiting = 0  # fields that wait for a label

    def label(self) -> Label:
        """A new label, not bound yet."""
        return Label()

    def bind(self, label: Label) -> None:
        """Let `label` be the end of the code so far. EncodingError when it is bound or a short jump cannot reach it."""
        if label.position >= 0:
            raise EncodingError(f"label bound twice, at {label.position:#x} and {len(self.code):#x}")
        position = label.position = len(self.code)
        for offset, size in label.fixups:
            if size == 4:
                _REL32.pack_into(self.code, offset, position - offset - 4)
            else:
                self.code[offset] = distance8(position - offset - 1)
        self._waiting -= len(label.fixups)
        label.fixups.clear()

    def finish(self) -> bytes:
        """The code. EncodingError when a label was used and never bound."""
        if self._waiting:
            raise EncodingError(f"{self._waiting} uses of labels that were never bound")
        return bytes(self.code)

    def refer_near(self, label: Label) -> None:
        """Append the distance from the end of this four-byte field to the label."""
        offset = len(self.code)
        if label.position >= 0:
            self.code += _REL32.pack(label.position - offset - 4)
        else:
            label.fixups.append((offset, 4))
            self._waiting += 1
            self.code += b"\0\0\0\0"

    def refer_short(self, label: Label) -> None:
        """Append the distance from the end of this byte to the label."""
        offset = len(self.code)
        if label.position >= 0:
            self.code.append(distance8(label.position - offset - 1))
        else:
            label.fixups.append((offset, 1))
            self._waiting += 1
            self.code.append(0)


def distance8(distance: int) -> int:
    """A rel8 field. EncodingError when it cannot reach so far."""
    if not -128 <= distance <= 127:
        raise EncodingError(f"a short jump cannot reach {distance} bytes; use the near form")
    return distance & 0xFF
