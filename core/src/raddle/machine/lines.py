# SPDX-License-Identifier: Apache-2.0
"""Interrupt lines: one bit from a device to the sink that it is wired to."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Line"]


class Line:
    """A line that its source sets; its sink is called only for changes. Use it under the big lock."""

    __slots__ = ("_sink", "level")

    def __init__(self, sink: Callable[[bool], None] | None = None) -> None:
        self._sink = sink
        self.level = False

    def set(self, level: bool | int) -> None:
        """Raise (true) or lower (false) the line."""
        level = bool(level)
        if level is not self.level:
            self.level = level
            if self._sink is not None:
                self._sink(level)

    def save(self) -> bool:
        return self.level

    def restore(self, level: bool) -> None:
        """Take over a level without a call of the sink, which restores what it knows of the line by itself."""
        self.level = level

    def pulse(self) -> None:
        """Raise the line and lower it again: an event for an edge-triggered sink."""
        self.set(True)
        self.set(False)
