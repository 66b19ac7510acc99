# SPDX-License-Identifier: Apache-2.0
"""8254 programmable interval timer (Intel, 8254 data sheet) as personal computers use it: channel 0 interrupts, channel
2 has a gate and an output in port 0x61. Channel 1 counts, and nobody sees its output.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar, Final

from raddle.devices.base import MASK, WORD, Device, Register
from raddle.ir.builder import Builder, Value, native
from raddle.ir.types import Condition, Type
from raddle.machine.clock import Clock
from raddle.machine.lines import Line
from raddle.memory import HostMemory
from raddle.stateful import Stateful

__all__ = ["FREQUENCY", "I8254"]

FREQUENCY: Final = 1_193_182
"""Ticks a second of the three counters."""
SECOND_NS: Final = 1_000_000_000

CHANNELS: Final = 3
SPEAKER: Final = 2
"""The channel with a gate."""


class Mode(IntEnum):
    """What a counter does (data sheet, "Mode definitions")."""

    ONCE = 0
    ONE_SHOT = 1
    RATE = 2
    SQUARE = 3
    SOFTWARE_STROBE = 4
    HARDWARE_STROBE = 5


READ_BACK: Final = 3
"""In place of a channel's number in the control word."""
BACK_NO_COUNT, BACK_NO_STATUS = 0x20, 0x10

PORT_GATE, PORT_SPEAKER, PORT_REFRESH, PORT_OUTPUT = 0x01, 0x02, 0x10, 0x20
NOT_NATIVE: Final = 0xFFFF_FFFF
REFRESH_NS: Final = 15_085
"""Half a period of the refresh bit, which programs poll to wait for a while."""


class _Channel(Stateful):
    """A counter. Its state at any time follows from the tick at which it was loaded."""

    STATE: ClassVar = ("mode", "access", "bcd", "gate", "start", "count", "held", "_low", "_latched", "_second_byte")

    def __init__(self, ticks: Clock) -> None:
        self._clock = ticks
        self.reset()

    def reset(self) -> None:
        self.mode, self.access, self.bcd = Mode.RATE, 3, False
        self.gate = True
        self.start: int | None = None
        """The tick at which the count began; None while it has not, or the gate holds it."""
        self.count = 0x10000
        self.held = 0
        """Ticks that had been counted when the gate closed (modes 0 and 4)."""
        self._low: int | None = None
        """The first byte of a count of two, until the second one comes."""
        self._latched: list[int] = []
        """Bytes that reads return before they see the counter."""
        self._second_byte = False

    def ticks(self) -> int:
        return self._clock.clock_ns() * FREQUENCY // SECOND_NS

    def control(self, word: int) -> None:
        self.access, self.bcd = word >> 4 & 3, bool(word & 1)
        mode = word >> 1 & 7
        self.mode = Mode(mode if mode < 6 else mode - 4)
        self.start, self._low, self._latched, self._second_byte, self.held = None, None, [], False, 0

    def write(self, value: int) -> None:
        if self.access < 3:
            self._load(value << 8 * (self.access - 1))
        elif self._low is None:
            self._low = value
            if self.mode is Mode.ONCE:
                self.start = None  # the first byte stops the count
        else:
            low, self._low = self._low, None
            self._load(value << 8 | low)

    def _load(self, count: int) -> None:
        if self.bcd:
            self.count = sum((count >> 4 * n & 0xF) * 10**n for n in range(4)) or 10_000
        else:
            self.count = count or 0x10000
        self.held = 0
        if self.mode in (Mode.ONE_SHOT, Mode.HARDWARE_STROBE):
            return  # the gate starts it
        self.start = self.ticks() if self.gate else None

    def set_gate(self, gate: bool) -> None:
        if gate == self.gate:
            return
        self.gate = gate
        if gate:
            self.start = self.ticks() - self.held
        elif self.mode in (Mode.ONCE, Mode.SOFTWARE_STROBE):
            self.held, self.start = self.passed(), None
        elif self.mode in (Mode.RATE, Mode.SQUARE):
            self.held, self.start = 0, None

    def passed(self) -> int:
        """Ticks since the count began."""
        return self.held if self.start is None else self.ticks() - self.start

    def value(self) -> int:
        """What the counter shows."""
        passed = self.passed()
        match self.mode:
            case Mode.RATE:
                left = self.count - passed % self.count
            case Mode.SQUARE:
                left = self.count - 2 * passed % self.count
            case _:
                left = self.count - passed
        limit = 10_000 if self.bcd else 0x10000
        left %= limit
        return sum(left // 10**n % 10 << 4 * n for n in range(4)) if self.bcd else left

    def output(self) -> bool:
        passed, runs = self.passed(), self.start is not None
        match self.mode:
            case Mode.ONCE:
                return (runs or self.held > 0) and passed >= self.count
            case Mode.ONE_SHOT:
                return not runs or passed >= self.count
            case Mode.RATE:
                return not runs or passed % self.count != self.count - 1
            case Mode.SQUARE:
                return not runs or passed % self.count < (self.count + 1) // 2
            case _:
                return passed != self.count

    def change(self) -> int | None:
        """The tick after now at which the output changes next; None if it does not."""
        if self.start is None:
            return None
        passed = self.passed()
        match self.mode:
            case Mode.RATE:
                place = passed % self.count
                wait = self.count - 1 - place if place < self.count - 1 else 1
            case Mode.SQUARE:
                place, half = passed % self.count, (self.count + 1) // 2
                wait = half - place if place < half else self.count - place
            case Mode.SOFTWARE_STROBE | Mode.HARDWARE_STROBE if passed == self.count:
                wait = 1
            case _:
                wait = self.count - passed
                if wait <= 0:
                    return None
        return self.start + passed + wait

    def latch(self) -> None:
        if not self._latched:
            value = self.value()
            self._latched = {1: [value & 0xFF], 2: [value >> 8]}.get(self.access, [value & 0xFF, value >> 8])

    def latch_status(self) -> None:
        loaded = 0 if self.start is not None or self.held else 0x40
        self._latched.insert(0, self.output() << 7 | loaded | self.access << 4 | self.mode << 1 | self.bcd)

    def read(self) -> int:
        if self._latched:
            return self._latched.pop(0)
        value = self.value()
        if self.access < 3:
            return value >> 8 * (self.access - 1) & 0xFF
        self._second_byte = not self._second_byte
        return value & 0xFF if self._second_byte else value >> 8


class I8254(Device):
    """The registers are the four ports of the timer, and port 0x61."""

    NAME = "i8254"
    SIZE = 5
    REGISTERS: ClassVar = (
        Register(0, "COUNTER", size=1, writable=0xFF, count=CHANNELS),
        Register(3, "CONTROL", size=1, readable=0, writable=0xFF),
        Register(4, "PORT", size=1, writable=PORT_GATE | PORT_SPEAKER),
    )
    STATE: ClassVar = ("_line", "_channels", "_timer")

    def __init__(self, clock: Clock, line: Line | None = None) -> None:
        """`clock` is the machine's; `line` is channel 0's output, None if nothing is wired to it."""
        super().__init__()
        self._clock = clock
        self._line = line
        self._channels = tuple(_Channel(clock) for _ in range(CHANNELS))
        self._channels[SPEAKER].gate = False
        self._timer = clock.timer(self._drive)
        self._shown = HostMemory(3 * WORD, self.NAME)
        """For native code: the port less what follows from the clock, or NOT_NATIVE; the nanosecond of the machine's
        clock at which channel 2's output rises, the lower half first. Written under the big lock."""
        self._show_port()

    def reset(self) -> None:
        super().reset()
        for channel in self._channels:
            channel.reset()
        self._channels[SPEAKER].gate = False
        self._timer.cancel()
        if self._line is not None:
            self._line.set(False)
        self._show_port()

    def restored(self) -> None:
        self._show_port()

    def _show_port(self) -> None:
        """After a change of channel 2, or of the port. In mode 0 the output rises once, which programs poll for."""
        channel = self._channels[SPEAKER]
        native = channel.mode is Mode.ONCE and channel.start is not None
        self._shown.words[0] = self.value("PORT") if native else NOT_NATIVE
        if channel.start is not None:
            rises = -(-(channel.start + channel.count) * SECOND_NS // FREQUENCY)
            self._shown.words[1], self._shown.words[2] = rises & MASK, rises >> 32 & MASK

    def serve(self, b: Builder, offset: Value, how: Value, value: Value) -> None:
        """Read the port while channel 2 is in mode 0."""
        with b.if_(b.and_(b.eq(offset, 4), b.eq(how, 1))):
            shown, low, high = (
                b.call(native("host_load32"), b.const(self._shown.address + WORD * n, Type.I64), type=Type.I64)
                for n in range(3)
            )
            with b.if_(b.ne(shown, NOT_NATIVE)):
                now = b.call(native("clock_ns"), type=Type.I64)
                refresh = b.shl(b.and_(b.udiv(now, REFRESH_NS), 1), PORT_REFRESH.bit_length() - 1)
                risen = b.icmp(Condition.UGE, now, b.or_(low, b.shl(high, 32)))
                b.ret(b.or_(b.or_(shown, refresh), b.select(risen, PORT_OUTPUT, 0, Type.I64)))

    def read_COUNTER(self, index: int) -> int:
        return self._channels[index].read()

    def write_COUNTER(self, index: int, value: int, mask: int) -> None:
        self._channels[index].write(value)
        if index == 0:
            self._drive()
        self._show_port()

    def write_CONTROL(self, _: int, value: int, mask: int) -> None:
        number = value >> 6
        if number == READ_BACK:
            for index, channel in enumerate(self._channels):
                if value >> 1 + index & 1:
                    if not value & BACK_NO_COUNT:
                        channel.latch()
                    if not value & BACK_NO_STATUS:
                        channel.latch_status()
        elif value & 0x30:
            self._channels[number].control(value)
            if number == 0:
                self._drive()
        else:
            self._channels[number].latch()
        self._show_port()

    def read_PORT(self, _: int) -> int:
        refresh = PORT_REFRESH if self._clock.clock_ns() // REFRESH_NS & 1 else 0
        output = PORT_OUTPUT if self._channels[SPEAKER].output() else 0
        return self.value("PORT") | refresh | output

    def write_PORT(self, _: int, value: int, mask: int) -> None:
        self.store("PORT", value)
        self._channels[SPEAKER].set_gate(bool(value & PORT_GATE))
        self._show_port()

    def _drive(self) -> None:
        """Bring channel 0's line up to date, and wait for its next change."""
        if self._line is None:
            return
        self._line.set(self._channels[0].output())
        change = self._channels[0].change()
        if change is None:
            self._timer.cancel()
        else:
            self._timer.set(-(-change * SECOND_NS // FREQUENCY))
