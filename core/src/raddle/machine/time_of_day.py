# SPDX-License-Identifier: Apache-2.0
"""The time of day that a machine's clock chip shows: where it starts, and which clock it follows (`-rtc`)."""

from __future__ import annotations

import time
from enum import Enum
from typing import Final, NamedTuple

from raddle.errors import UsageError, unknown
from raddle.machine.clock import Clock

__all__ = ["SECOND_NS", "RtcClock", "RtcOptions", "TimeOfDay", "parse_rtc"]

SECOND_NS: Final = 1_000_000_000

COUNTED_START: Final = 946_684_800
"""`-icount`: the time of day at power-on, the start of the year 2000; the host's would be different in every run."""

SECONDS_END: Final = 1 << 32
"""The first second that a counter of 32 bits cannot show, in 2106."""

_FORMATS: Final = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%d")


class RtcClock(Enum):
    """The clock that the time of day follows."""

    HOST = "host"
    """The host's time of day, also if that is set, or the machine is paused."""
    RT = "rt"
    """Real time since power-on, also while the machine is paused."""
    VM = "vm"
    """The machine's clock: the time of day stands still while the machine is paused."""


class RtcOptions(NamedTuple):
    """The start of the time of day: the host's time (`utc`), the host's local time, or a number of seconds after
    1970.
    """

    base: str | int = "utc"
    clock: RtcClock = RtcClock.HOST


def parse_rtc(text: str | None, counted: bool) -> RtcOptions:
    """Read the value of `-rtc`, None for the default: the host's time of day, and with counted instructions a time that
    is the same in each run. Raises UsageError.
    """
    if text is not None and not isinstance(text, str):
        raise UsageError(f"rtc is a string such as base=utc,clock=vm, and not {text!r}")
    base: str | int = COUNTED_START if counted else "utc"
    clock = RtcClock.VM if counted else RtcClock.HOST
    seen: set[str] = set()
    for part in text.split(",") if text is not None else ():
        key, _, value = part.partition("=")
        if key not in ("base", "clock", "driftfix"):
            raise unknown("-rtc setting", key, ("base", "clock", "driftfix"))
        if not value:
            raise UsageError(f"-rtc {key} needs a value: {key}=...")
        if key in seen:
            raise UsageError(f"-rtc gives {key} twice")
        seen.add(key)
        match key:
            case "base":
                base = value if value in ("utc", "localtime") else _seconds(value)
            case "clock":
                clock = _clock(value, counted)
            case _:
                if value != "none":
                    raise UsageError(f"-rtc driftfix={value} is not supported; the nearest that is: driftfix=none")
    return RtcOptions(base, clock)


def _clock(value: str, counted: bool) -> RtcClock:
    try:
        clock = RtcClock(value)
    except ValueError:
        raise unknown("-rtc clock", value, [one.value for one in RtcClock]) from None
    if counted and clock is not RtcClock.VM:
        raise UsageError(f"-rtc clock={value} goes on with the host's time, which -icount does not; clock=vm does")
    return clock


def _seconds(value: str) -> int:
    from datetime import UTC, datetime  # late: hardly any machine gets a start time

    for one in _FORMATS if value.isascii() else ():  # strptime accepts the digits of any script
        try:
            seconds = int(datetime.strptime(value, one).replace(tzinfo=UTC).timestamp())
        except (ValueError, OverflowError):
            continue
        if not 0 <= seconds < SECONDS_END:
            raise UsageError(f"-rtc base must be a time from 1970 to 2106, not {value!r}")
        return seconds
    raise UsageError(f"-rtc base must be utc, localtime, or a time such as 2006-06-17T16:01:21, not {value[:60]!r}")


class TimeOfDay:
    """Begins with `begin`, or when it is first read. Read it on any thread; it begins under the big lock or before the
    machine runs.
    """

    def __init__(self, options: RtcOptions, clock: Clock) -> None:
        self._options = options
        sources = {RtcClock.HOST: time.time_ns, RtcClock.RT: time.monotonic_ns, RtcClock.VM: clock.clock_ns}
        self._source = sources[options.clock]
        self.is_the_machines: Final = options.clock is RtcClock.VM
        """Whether it follows the machine's clock."""
        self._shift: int | None = None
        """Written by `begin`, once, and by `restore`."""

    def begin(self) -> None:
        """The machine is powered on. Does nothing the second time: a reset does not change the time of day."""
        if self._shift is not None:
            return
        host = time.time_ns()
        match self._options.base:
            case "utc":
                shown = host
            case "localtime":
                shown = host + SECOND_NS * time.localtime(host // SECOND_NS).tm_gmtoff
            case seconds:
                shown = SECOND_NS * int(seconds)
        self._shift = shown - (host if self._options.clock is RtcClock.HOST else self._source())

    @property
    def ahead_ns(self) -> int:
        """How far it is ahead of the clock that it follows."""
        self.begin()
        assert self._shift is not None
        return self._shift

    def now_ns(self) -> int:
        """Nanoseconds since 1970."""
        return self.ahead_ns + self._source()

    def save(self) -> int:
        """What must be known to go on: how far it is ahead of its clock, or, as real time since power-on has no meaning
        elsewhere, what it shows."""
        return self.now_ns() if self._options.clock is RtcClock.RT else self.ahead_ns

    def restore(self, saved: int) -> None:
        """Go on from what `save` has returned. Real time does not pass in between."""
        if type(saved) is not int:
            raise ValueError("it is a number")
        self._shift = saved - self._source() if self._options.clock is RtcClock.RT else saved
