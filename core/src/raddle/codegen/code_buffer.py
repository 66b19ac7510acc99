# SPDX-License-Identifier: Apache-2.0
"""A buffer of machine code under construction, with labels: what assemblers of all hosts have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any


class EncodingError(ValueError):
    """An operand that the instruction cannot hold, or a label used and never bound."""


class Label:
    """A place in one buffer's code. `CodeBuffer.label` makes it; jumps to it may come before or after `bind`."""

    __slots__ = ("position", "waiting")

    def __init__(self) -> None:
        self.position = -1  # offset in the code, -1 until bound
        self.waiting: list[tuple[int, Any]] = []  # (offset, field) of jumps that wait for the position


class CodeBuffer:
    """Machine code under construction, in `code`. One thread uses it at a time."""

    __slots__ = ("_waiting", "code")

    def __init__(self) -> None:
        self.start_code()

    def start_code(self) -> None:
        """Begin again: the code is empty, and there are no labels."""
        self.code = bytearray()
        self._waiting = 0  # fields that wait for a label

    @abstractmethod
    def aim(self, offset: int, field: Any, position: int) -> None:
        """Fill in the field at `offset`, of a host-specific kind, for a jump to `position`. Raises EncodingError if
        that is out of reach.
        """

    def label(self) -> Label:
        """A new label, not bound yet."""
        return Label()

    def bind(self, label: Label) -> None:
        """Bind `label` to the end of the code. Raises EncodingError if it is bound, or out of a jump's reach."""
        if label.position >= 0:
            raise EncodingError(f"label bound twice, at {label.position:#x} and {len(self.code):#x}")
        position = label.position = len(self.code)
        for offset, field in label.waiting:
            self.aim(offset, field, position)
        self._waiting -= len(label.waiting)
        label.waiting.clear()

    def refer_at(self, label: Label, offset: int, field: Any) -> None:
        """Aim the field at `offset`, which is in the code and still empty, at the label: now, or when it is bound."""
        if label.position >= 0:
            self.aim(offset, field, label.position)
        else:
            label.waiting.append((offset, field))
            self._waiting += 1

    def finish(self) -> bytes:
        """The code. Raises EncodingError if a label was used and never bound."""
        if self._waiting:
            raise EncodingError(f"{self._waiting} uses of labels that were never bound")
        return bytes(self.code)
