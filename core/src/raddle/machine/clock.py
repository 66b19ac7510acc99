# SPDX-License-Identifier: Apache-2.0
"""The machine's clock as devices see it, from before the engine that keeps it is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from raddle import kinds

__all__ = ["END_OF_TIME", "Clock", "MachineClock", "Timer"]

END_OF_TIME: Final = (1 << 64) - 2
"""The last nanosecond. Counted time can reach it, since guests choose deadlines and idle time is skipped: then the
clock stands still, and no timer's deadline comes any more."""


class Timer(Protocol):
    """Calls a function or a routine once, under the big lock, when the machine's clock reaches a deadline."""

    @property
    def number(self) -> int:
        """What IR gives to `timer_set` and `timer_cancel`; known once the machine has been built."""

    def set(self, deadline_ns: int) -> None:
        """Set or change the timer's deadline. A deadline at END_OF_TIME or beyond never comes."""

    def cancel(self) -> None:
        """Remove the timer's deadline."""

    def save(self) -> int | None:
        """The deadline in nanoseconds; None if there is none."""

    def restore(self, deadline_ns: int | None) -> None:
        """Take over a deadline that `save` has returned."""


class Clock(Protocol):
    """Virtual time: it stands still while the machine is paused, and counts instructions with `-icount`."""

    def clock_ns(self) -> int:
        """Nanoseconds since the machine was started. May be called from any thread."""

    def timer(self, callback: Callable[[], None]) -> Timer:
        """A new timer, without a deadline."""

    def native_timer(self, routine: str) -> Timer:
        """A new timer, without a deadline, that runs an IR routine, without the GIL and with the timer's number as
        argument. The routine belongs to no vCPU: it uses nothing of one's state, and calls no Python.
        """


class _LateTimer:
    """A timer that was made before the engine's clock; it gets no deadline before that exists."""

    def __init__(self, make: Callable[[Clock], Timer]) -> None:
        self._make: Callable[[Clock], Timer] | None = make
        """None once the timer is made, because what the timer calls refers to this object."""
        self.timer: Timer | None = None

    def connect(self, clock: Clock) -> None:
        if self._make is not None:
            self.timer, self._make = self._make(clock), None

    @property
    def number(self) -> int:
        assert self.timer is not None, "a timer's number is asked for before the machine has a clock"
        return self.timer.number

    def set(self, deadline_ns: int) -> None:
        assert self.timer is not None, "a timer is set before the machine has a clock"
        self.timer.set(deadline_ns)

    def cancel(self) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def save(self) -> int | None:
        return None if self.timer is None else self.timer.save()

    def restore(self, deadline_ns: int | None) -> None:
        if deadline_ns is None:
            self.cancel()
        else:
            self.set(deadline_ns)


class MachineClock:
    """The clock that devices are built with. It is 0 until `connect` connects it to the engine's."""

    def __init__(self) -> None:
        self._clock: Clock | None = None
        self._late: list[_LateTimer] = []

    def connect(self, clock: Clock) -> None:
        self._clock = clock
        for late in self._late:
            late.connect(clock)
        self._late.clear()

    def clock_ns(self) -> int:
        return self._clock.clock_ns() if self._clock else 0

    def timer(self, callback: Callable[[], None]) -> Timer:
        kinds.function("what a timer calls", callback)
        return self._made(lambda clock: clock.timer(callback))

    def native_timer(self, routine: str) -> Timer:
        kinds.text("the routine of a timer", routine)
        return self._made(lambda clock: clock.native_timer(routine))

    def _made(self, make: Callable[[Clock], Timer]) -> Timer:
        if self._clock:
            return make(self._clock)
        late = _LateTimer(make)
        self._late.append(late)
        return late
