# SPDX-License-Identifier: Apache-2.0
"""MC146818 real-time clock and CMOS RAM (Motorola, MC146818 data sheet), behind an index and a data port."""

from __future__ import annotations

import calendar
import time
from typing import TYPE_CHECKING, ClassVar, Final

from raddle.devices.base import MASK, WORD, WRITE, Device, Register
from raddle.ir.builder import Builder, Value, native, routine
from raddle.ir.header import COMMON
from raddle.ir.types import Condition, Type
from raddle.machine.clock import Clock
from raddle.machine.lines import Line
from raddle.machine.time_of_day import SECOND_NS, RtcOptions, TimeOfDay
from raddle.memory import HostMemory

if TYPE_CHECKING:
    from raddle.translate.frontend import RoutineBuilder

__all__ = ["MC146818"]

CENTURY: Final = 0x32
"""The byte of RAM in which personal computers keep the century."""
BYTES: Final = 128

SECONDS, SECONDS_ALARM, MINUTES, MINUTES_ALARM, HOURS, HOURS_ALARM, WEEKDAY, DAY, MONTH, YEAR = range(10)
A, B, C, D = 10, 11, 12, 13
TIME: Final = (SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR)

A_UPDATING, A_DIVIDER, A_RATE = 0x80, 0x70, 0x0F
A_RUNNING: Final = 0x20
"""The divider's value with the usual crystal of 32 768 Hz; all others stop the clock."""
B_SET, B_PERIODIC, B_ALARM, B_UPDATE, B_SQUARE_WAVE, B_BINARY, B_24_HOURS = 0x80, 0x40, 0x20, 0x10, 0x08, 0x04, 0x02
C_ANY, C_PERIODIC, C_ALARM, C_UPDATE = 0x80, 0x40, 0x20, 0x10
D_VALID: Final = 0x80
PM: Final = 0x80
"""In hours of the 12-hour format."""
ANY: Final = 0xC0
"""In an alarm's byte: it matches every value."""

NOT_NATIVE: Final = 0xFFFF_FFFF
CRYSTAL_HZ: Final = 32_768
PERIOD_ROUTINE: Final = "mc146818_period"
PERIOD_BITS, LINE_TIMER, NEXT = range(3)
"""Words of `_native`."""
UPDATE_NS: Final = 2_228_000
"""How long before the end of a second UIP is set: 244 µs of warning and 1984 µs of update. It is cleared when the new
second has begun."""


class MC146818(Device):
    """Shows a time of day, and lets the guest set it: the guest's time is a number of nanoseconds ahead of it.

    The periodic interrupt follows the machine's clock, the alarm and the end of an update the time of day. The board
    adds `routines` to the machine's. The end of a period needs no Python if the last one's flag is still set in
    register C, since the line stays as it is then. Systems for which it is the interval timer (`tick`) do not read
    register C.
    """

    NAME = "mc146818"
    SIZE = 2
    REGISTERS: ClassVar = (
        Register(0, "INDEX", size=1, readable=0, writable=BYTES - 1),
        Register(1, "DATA", size=1, writable=0xFF),
    )
    STATE: ClassVar = (
        "_line",
        "_time",
        "_ahead",
        "_stopped",
        "_ram",
        "_next_period",
        "_update_timer",
        "_looked",
    )

    def __init__(
        self,
        clock: Clock,
        line: Line,
        time_of_day: TimeOfDay | None = None,
        tick: str | None = None,
        first_year: int | None = None,
    ) -> None:
        """`clock` is the machine's. The default for the time of day is the host's. `tick` is the name of a routine that
        is called with each periodic interrupt that is enabled, also if the last one has not been acknowledged, for
        boards that take it for their interval timer. Its argument is 1, or, if the machine was held up, how many
        periods have ended. `first_year` is the one that systems take 0 in the year's byte for; None: the century is in
        `CENTURY`.
        """
        super().__init__()
        self._clock = clock
        self._line = line
        self._time = TimeOfDay(RtcOptions(), clock) if time_of_day is None else time_of_day
        self._tick = tick
        self._first_year = first_year
        self._ahead = 0
        """Nanoseconds that the guest's time is ahead of the time of day, while the clock runs."""
        self._stopped: int | None = None
        """The guest's time while it does not run (SET, or the divider held in reset)."""
        self._ram = HostMemory(BYTES, self.NAME)
        self.cmos = self._ram.bytes
        """By index. Native code sets a flag in register C; under the big lock, like all changes."""
        self.cmos[A], self.cmos[B] = A_RUNNING | 6, B_24_HOURS
        self._periodic = clock.native_timer(PERIOD_ROUTINE)
        self._native = HostMemory(4 * WORD, self.NAME)
        """For native code: log2 of the cycles of a period, or NOT_NATIVE while nobody is told of their ends; the number
        of `_line_timer`; the number of the period that ends next, its lower half first. Native code writes only the
        last one; both sides do so under the big lock."""
        self._line_timer = clock.timer(self._update)
        """Set by native code when the line must change."""
        self._update_timer = clock.timer(self._look)
        self._shown_a = HostMemory(2 * WORD, self.NAME)
        """For native code: register A without UIP, or NOT_NATIVE; the nanosecond within each second of the machine's
        clock at which an update begins. Written under the big lock."""
        self._looked = 0
        """The guest's second when the alarm and the end of an update were last looked for."""

        self._show_a()

    def reset(self) -> None:
        """The reset pin: interrupts are off, the time and the RAM stay."""
        super().reset()
        self.cmos[B] &= ~(B_PERIODIC | B_ALARM | B_UPDATE | B_SQUARE_WAVE)
        self.cmos[C] = 0
        self._set_periodic()
        self._line_timer.cancel()
        self._update_timer.cancel()
        self._line.set(False)
        self._show_a()

    def restored(self) -> None:
        self._show_a()
        self._set_periodic()
        if self._line.level != bool(self._flags() & C_ANY):
            self._line_timer.set(0)  # as native code had done

    def _show_a(self) -> None:
        """After a change of register A, or of the time."""
        native = self._time.is_the_machines and self._stopped is None
        self._shown_a.words[0] = self.cmos[A] if native else NOT_NATIVE
        if native:
            self._shown_a.words[1] = (SECOND_NS - UPDATE_NS - self._time.ahead_ns - self._ahead) % SECOND_NS

    def serve(self, b: Builder, offset: Value, how: Value, value: Value) -> None:
        """The index is written, and register A read, in loops that wait for the end of an update."""
        index = b.const(self.address("INDEX"), Type.I64)
        with b.if_(b.and_(b.eq(offset, 0), b.eq(how, WRITE | 1))):
            b.call(native("host_store32"), index, b.and_(value, BYTES - 1))
            b.ret(b.const(0, Type.I64))
        reads = b.and_(b.eq(offset, 1), b.eq(how, 1))
        with b.if_(b.and_(reads, b.eq(b.call(native("host_load32"), index, type=Type.I64), A))):
            shown, begins = (
                b.call(native("host_load32"), b.const(self._shown_a.address + WORD * n, Type.I64), type=Type.I64)
                for n in range(2)
            )
            with b.if_(b.ne(shown, NOT_NATIVE)):
                now = b.call(native("clock_ns"), type=Type.I64)
                place = b.sub(now, b.mul(b.udiv(now, SECOND_NS), SECOND_NS))
                since = b.sub(b.add(place, SECOND_NS), begins)
                since = b.select(b.icmp(Condition.UGE, since, SECOND_NS), b.sub(since, SECOND_NS), since)
                updating = b.icmp(Condition.ULT, since, UPDATE_NS)
                b.ret(b.or_(shown, b.select(updating, A_UPDATING, 0, Type.I64)))

    # --- the time

    def _now(self) -> int:
        """The guest's time in nanoseconds since 1970."""
        return self._time.now_ns() + self._ahead if self._stopped is None else self._stopped

    def _runs(self) -> bool:
        return self.cmos[A] & A_DIVIDER == A_RUNNING and not self.cmos[B] & B_SET

    def _start_or_stop(self) -> None:
        """After a change of what lets the clock run."""
        if self._runs() == (self._stopped is None):
            return
        if self._stopped is None:
            self._stopped = self._now()
        else:
            self._ahead = self._stopped - self._time.now_ns()
            self._stopped = None
        self._watch()
        self._show_a()

    def _coded(self, number: int) -> int:
        """A number of two digits as the guest reads it."""
        return number if self.cmos[B] & B_BINARY else number // 10 << 4 | number % 10

    def _decoded(self, value: int) -> int:
        return value if self.cmos[B] & B_BINARY else (value >> 4) * 10 + (value & 0xF)

    def _coded_hour(self, hour: int) -> int:
        if self.cmos[B] & B_24_HOURS:
            return self._coded(hour)
        return self._coded((hour + 11) % 12 + 1) | (PM if hour >= 12 else 0)

    def _decoded_hour(self, value: int) -> int:
        if self.cmos[B] & B_24_HOURS:
            return self._decoded(value)
        return self._decoded(value & ~PM) % 12 + (12 if value & PM else 0)

    def _shown(self, index: int) -> int:
        """A byte of the time."""
        now = time.gmtime(self._now() // SECOND_NS)
        if index == HOURS:
            return self._coded_hour(now.tm_hour)
        values = {SECONDS: now.tm_sec, MINUTES: now.tm_min, WEEKDAY: (now.tm_wday + 1) % 7 + 1, DAY: now.tm_mday}
        values |= {MONTH: now.tm_mon, YEAR: (now.tm_year - (self._first_year or 0)) % 100, CENTURY: now.tm_year // 100}
        return self._coded(values[index])

    def _is_time(self, index: int) -> bool:
        return index in TIME or (index == CENTURY and self._first_year is None)

    def _set_time(self, index: int, value: int) -> None:
        """The guest sets a byte of the time. The weekday follows from the date."""
        if index == WEEKDAY:
            return
        shown = self._now()
        now = time.gmtime(shown // SECOND_NS)
        fields = {SECONDS: now.tm_sec, MINUTES: now.tm_min, HOURS: now.tm_hour, DAY: now.tm_mday, MONTH: now.tm_mon}
        first = self._first_year if self._first_year is not None else now.tm_year // 100 * 100
        fields |= {YEAR: now.tm_year - first, CENTURY: first // 100}
        fields[index] = self._decoded_hour(value) if index == HOURS else self._decoded(value)
        year = fields[YEAR] + (100 * fields[CENTURY] if self._first_year is None else first)
        month = min(max(fields[MONTH], 1), 12)
        if not 1970 <= year < 10_000:
            return
        seconds = calendar.timegm((year, month, 1, fields[HOURS], fields[MINUTES], fields[SECONDS]))
        seconds += 86_400 * (fields[DAY] - 1)
        change = (seconds - shown // SECOND_NS) * SECOND_NS
        if self._stopped is None:
            self._ahead += change
            self._watch()
            self._show_a()
        else:
            self._stopped += change

    # --- registers

    def write_INDEX(self, _: int, value: int, mask: int) -> None:
        self.store("INDEX", value)

    def read_DATA(self, _: int) -> int:
        index = self.value("INDEX")
        if self._is_time(index):
            return self._shown(index)
        if index == A:
            return self.cmos[A] | (A_UPDATING if self._is_updating() else 0)
        if index == C:
            flags = self._flags()
            self.cmos[C] = 0
            self._update()
            return flags
        return D_VALID if index == D else self.cmos[index]

    def write_DATA(self, _: int, value: int, mask: int) -> None:
        index = self.value("INDEX")
        if self._is_time(index):
            self._set_time(index, value)
        elif index == A:
            rate = self.cmos[A] & A_RATE
            self.cmos[A] = value & ~A_UPDATING
            self._start_or_stop()
            self._show_a()
            if value & A_RATE != rate:
                self._set_period()
        elif index == B:
            self._write_b(value)
        elif index not in (C, D):
            self.cmos[index] = value
            if index in (SECONDS_ALARM, MINUTES_ALARM, HOURS_ALARM):
                self._watch()

    def _write_b(self, value: int) -> None:
        old = self.cmos[B]
        if value & B_SET:
            value &= ~B_UPDATE
        self.cmos[B] = value
        self._start_or_stop()
        if (old ^ value) & B_PERIODIC:
            self._set_period()
        self._watch()
        self._update()

    def _is_updating(self) -> bool:
        return self._stopped is None and self._now() % SECOND_NS >= SECOND_NS - UPDATE_NS

    # --- interrupts

    def _flags(self) -> int:
        flags = self.cmos[C]
        return flags | (C_ANY if flags & self.cmos[B] else 0)

    def _update(self) -> None:
        self._line.set(self._flags() & C_ANY)

    @property
    def _next_period(self) -> int:
        """The number of the period that ends next; the first one began with the machine's clock."""
        return self._native.words[NEXT] | self._native.words[NEXT + 1] << 32

    @_next_period.setter
    def _next_period(self, number: int) -> None:
        self._native.words[NEXT], self._native.words[NEXT + 1] = number & MASK, number >> 32

    def _period_bits(self) -> int | None:
        """log2 of the cycles of the crystal from one periodic interrupt to the next; None if there are none. The two
        highest rates are those of two lower ones.
        """
        rate = self.cmos[A] & A_RATE
        if rate == 0 or not self.cmos[B] & B_PERIODIC:
            return None
        return rate + 6 if rate <= 2 else rate - 1

    def _periods(self, bits: int) -> int:
        """How many have ended."""
        return self._clock.clock_ns() * CRYSTAL_HZ // SECOND_NS >> bits

    def _set_period(self) -> None:
        """Begin a period, if anyone is told of its end."""
        bits = self._period_bits()
        if bits is not None:
            self._next_period = self._periods(bits) + 1
        self._set_periodic()

    def _set_periodic(self) -> None:
        """Wait for the end of the period, if anyone is told of it."""
        bits = self._period_bits()
        self._native.words[PERIOD_BITS] = NOT_NATIVE if bits is None else bits
        if bits is None:
            self._periodic.cancel()
            return
        self._native.words[LINE_TIMER] = self._line_timer.number
        self._periodic.set(-(-(self._next_period << bits) * SECOND_NS // CRYSTAL_HZ))

    def routines(self) -> dict[str, RoutineBuilder]:
        """For `AddressSpace.add_routines`."""
        return {PERIOD_ROUTINE: self._period}

    def _period(self, b: Builder) -> None:
        """Routine(timer): a period has ended, or several. If the guest has turned the interrupt off since the timer
        fired, there is nothing to do; if it has begun another period, the timer is set again.
        """
        timer = b.get(COMMON["arg0"])
        hertz = b.const(CRYSTAL_HZ, Type.I64)

        def word(number: int) -> Value:
            return b.const(self._native.address + WORD * number, Type.I64)

        def load(number: int) -> Value:
            return b.call(native("host_load32"), word(number), type=Type.I64)

        bits = load(PERIOD_BITS)
        with b.if_(b.eq(bits, NOT_NATIVE)):
            b.ret()
        shift = b.trunc(bits, Type.I32)
        ended = b.shr(b.call(native("clock_ticks"), hertz, type=Type.I64), shift)
        first = b.or_(load(NEXT), b.shl(load(NEXT + 1), 32))
        is_over = b.icmp(Condition.UGE, ended, first)
        following = b.select(is_over, b.add(ended, 1), first)
        b.call(native("host_store32"), word(NEXT), b.and_(following, MASK))
        b.call(native("host_store32"), word(NEXT + 1), b.shr(following, 32))
        deadline = b.call(native("ticks_to_ns"), b.shl(following, shift), hertz, type=Type.I64)
        b.call(native("timer_set"), timer, deadline)
        with b.if_(is_over):
            place = b.const(self._ram.address + C, Type.I64)
            flags = b.call(native("host_load8"), place, type=Type.I64)
            with b.if_(b.eq(b.and_(flags, C_PERIODIC), 0)):
                b.call(native("host_store8"), place, b.or_(flags, C_PERIODIC))
                b.call(native("timer_set"), load(LINE_TIMER), b.const(0, Type.I64))
            if self._tick is not None:
                b.call(routine(self._tick), b.sub(following, first))
        b.ret()

    def _watch(self) -> None:
        """Wait for the next second, if the alarm or the end of an update interrupts."""
        if self._stopped is not None or not self.cmos[B] & (B_ALARM | B_UPDATE):
            self._update_timer.cancel()
            return
        now = self._now()
        self._looked = now // SECOND_NS
        self._update_timer.set(self._clock.clock_ns() + SECOND_NS - now % SECOND_NS)

    def _look(self) -> None:
        """A second has begun, or more: time of the host's may have been set, and goes on in a pause."""
        now = self._now() // SECOND_NS
        if now != self._looked:
            self.cmos[C] |= C_UPDATE
            if any(map(self._matches, range(max(self._looked + 1, now - 86_399), now + 1))):
                self.cmos[C] |= C_ALARM
        self._watch()
        self._update()

    def _matches(self, second: int) -> bool:
        """Whether the alarm is set for this second."""
        now = time.gmtime(second)
        for index, value in ((SECONDS_ALARM, now.tm_sec), (MINUTES_ALARM, now.tm_min)):
            if self.cmos[index] < ANY and self._decoded(self.cmos[index]) != value:
                return False
        hours = self.cmos[HOURS_ALARM]
        return hours >= ANY or self._decoded_hour(hours) == now.tm_hour
