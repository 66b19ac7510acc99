# SPDX-License-Identifier: Apache-2.0
"""A timer of virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raddle import kinds
from raddle.runtime._native import lib

if TYPE_CHECKING:
    from raddle.threads.engine import Engine


class Timer:
    """Calls a function or an IR routine once, under the big lock, when virtual time reaches a deadline.

    Methods: any thread. They raise MachineError when the engine is closed.
    """

    def __init__(self, engine: Engine, number: int) -> None:
        self._engine = engine
        self.number = number

    def set(self, deadline_ns: int) -> None:
        """Set or change the timer's deadline. A deadline at the end of time or beyond never comes."""
        kinds.number("the deadline of a timer", deadline_ns)
        lib.raddle_timer_set(self._engine.context, self.number, min(max(0, deadline_ns), lib.RADDLE_END_OF_TIME + 1))

    def cancel(self) -> None:
        """Remove the timer's deadline."""
        lib.raddle_timer_cancel(self._engine.context, self.number)

    def save(self) -> int | None:
        """The deadline in nanoseconds, None if there is none. A timer whose function waits for the big lock has its
        deadline still.
        """
        deadline = int(lib.raddle_timer_deadline(self._engine.context, self.number))
        return None if deadline > lib.RADDLE_END_OF_TIME else deadline

    def restore(self, deadline_ns: int | None) -> None:
        """Take over a deadline that `save` has returned."""
        if deadline_ns is None:
            self.cancel()
        else:
            self.set(deadline_ns)
