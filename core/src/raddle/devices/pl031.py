# SPDX-License-Identifier: Apache-2.0
"""PL031 real-time clock (ARM DDI 0224C): seconds since 1970, and an alarm."""

from __future__ import annotations

from typing import ClassVar, Final

from raddle.devices.base import MASK, WORD, Device, Register
from raddle.ir.builder import Builder, Value, native
from raddle.ir.types import Condition, Type
from raddle.machine.clock import Clock
from raddle.machine.lines import Line
from raddle.machine.time_of_day import SECOND_NS, RtcOptions, TimeOfDay
from raddle.memory import HostMemory

__all__ = ["PL031"]

PERIPHERAL_ID: Final = (0x31, 0x10, 0x14, 0x00, 0x0D, 0xF0, 0x05, 0xB1)


class PL031(Device):
    """Shows a time of day, and lets the guest set it: the guest's time is a number of whole seconds ahead of it."""

    NAME = "pl031"
    REGISTERS: ClassVar = (
        Register(0x000, "DR"),
        Register(0x004, "MR", writable=MASK),
        Register(0x008, "LR", writable=MASK),
        Register(0x00C, "CR", reset=1, readable=1, writable=1),
        Register(0x010, "IMSC", readable=1, writable=1),
        Register(0x014, "RIS"),
        Register(0x018, "MIS"),
        Register(0x01C, "ICR", readable=0, writable=1),
        *(Register(0xFE0 + 4 * n, f"ID{n}", reset=value) for n, value in enumerate(PERIPHERAL_ID)),
    )
    STATE: ClassVar = ("_line", "_time", "_alarm", "_rings_at", "_offset")

    def __init__(self, clock: Clock, line: Line, time_of_day: TimeOfDay | None = None) -> None:
        """`clock` is the machine's. The default for the time of day is the host's."""
        super().__init__()
        self._clock = clock
        self._line = line
        self._time = TimeOfDay(RtcOptions(), clock) if time_of_day is None else time_of_day
        self._alarm = clock.timer(self._look)
        self._rings_at = 0
        """The time of day, in nanoseconds, that an armed alarm waits for."""
        self._offset = 0  # seconds that the guest has added by setting the time
        self._shift = HostMemory(2 * WORD, self.NAME)
        """For native code: how many seconds DR is ahead of the machine's clock, and the nanosecond within each second
        of that clock at which DR advances. Written under the big lock."""

    def reset(self) -> None:
        super().reset()
        self._show_shift()
        self._alarm.cancel()
        self._update()

    def restored(self) -> None:
        self._show_shift()

    def _shown(self, now: int) -> int:
        """What DR shows at a time of day."""
        return now // SECOND_NS + self._offset & MASK

    @property
    def is_native(self) -> bool:
        """Whether DR can be read without Python; not if it shows the host's time of day."""
        return self._time.is_the_machines

    def _show_shift(self) -> None:
        seconds, rest = divmod(self._time.ahead_ns, SECOND_NS)
        self._shift.words[0] = seconds + self._offset & MASK
        self._shift.words[1] = SECOND_NS - rest

    def serve(self, b: Builder, offset: Value, how: Value, value: Value) -> None:
        """Emit a read of DR, which a guest may poll in a loop; no sum overflows at the end of time."""
        if not self.is_native:
            return
        with b.if_(b.and_(b.eq(offset, 0), b.eq(how, WORD))):
            now = b.call(native("clock_ns"), type=Type.I64)
            ahead, carries_at = (
                b.call(native("host_load32"), b.const(self._shift.address + WORD * n, Type.I64), type=Type.I64)
                for n in range(2)
            )
            seconds = b.udiv(now, SECOND_NS)
            rest = b.sub(now, b.mul(seconds, SECOND_NS))
            carry = b.zext(b.icmp(Condition.UGE, rest, carries_at), Type.I64)
            b.ret(b.and_(b.add(b.add(seconds, ahead), carry), MASK))

    def read_DR(self, _: int) -> int:
        return self._shown(self._time.now_ns())

    def write_LR(self, _: int, value: int, mask: int) -> None:
        self.store("LR", self.value("LR") & ~mask | value)
        self._offset += self.value("LR") - self._shown(self._time.now_ns())
        self._show_shift()
        self._set_alarm()

    def write_MR(self, _: int, value: int, mask: int) -> None:
        self.store("MR", self.value("MR") & ~mask | value)
        self._set_alarm()

    def write_CR(self, _: int, value: int, mask: int) -> None:
        """The clock is started from the beginning, and cannot be stopped."""

    def write_IMSC(self, _: int, value: int, mask: int) -> None:
        self.store("IMSC", value)
        self._update()

    def read_MIS(self, _: int) -> int:
        return self.value("RIS") & self.value("IMSC")

    def write_ICR(self, _: int, value: int, mask: int) -> None:
        self.store("RIS", self.value("RIS") & ~value)
        self._update()

    def _set_alarm(self) -> None:
        now = self._time.now_ns()
        wait = self.value("MR") - self._shown(now) & MASK
        if wait == 0:
            self._alarm.cancel()
            self._ring()
        else:
            self._rings_at = (now // SECOND_NS + wait) * SECOND_NS
            self._watch(now)

    def _watch(self, now: int) -> None:
        """Wait for the alarm's time; `now` is the time of day."""
        wait = self._rings_at - now
        if not self._time.is_the_machines:  # it goes on while the machine is paused, and the host's time may be set
            wait = min(wait, SECOND_NS)
        self._alarm.set(self._clock.clock_ns() + wait)

    def _look(self) -> None:
        now = self._time.now_ns()
        if now >= self._rings_at:
            self._ring()
        else:
            self._watch(now)

    def _ring(self) -> None:
        self.store("RIS", 1)
        self._update()

    def _update(self) -> None:
        self._line.set(self.read_MIS(0))
