# SPDX-License-Identifier: Apache-2.0
"""PL031 real-time clock (ARM DDI 0224C): seconds since 1970, and an alarm."""

from __future__ import annotations

import time
from typing import ClassVar, Final

from raddle.devices.base import MASK, Device, Register
from raddle.machine.clock import Clock
from raddle.machine.lines import Line

__all__ = ["PL031"]

SECOND: Final = 1_000_000_000
PERIPHERAL_ID: Final = (0x31, 0x10, 0x14, 0x00, 0x0D, 0xF0, 0x05, 0xB1)


class PL031(Device):
    """Starts at the host's time of day, or where it is told to, and goes on with the machine's clock."""

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

    def __init__(self, clock: Clock, line: Line, start_seconds: int | None = None) -> None:
        super().__init__()
        self._clock = clock
        self._line = line
        self._start = int(time.time()) if start_seconds is None else start_seconds
        self._alarm = clock.timer(self._ring)
        self._offset = 0  # what the guest has added by setting the time

    def reset(self) -> None:
        super().reset()
        self._alarm.cancel()
        self._update()

    def _now(self) -> int:
        return self._start + self._offset + self._clock.clock_ns() // SECOND & MASK

    def read_DR(self, _: int) -> int:
        return self._now()

    def write_LR(self, _: int, value: int, mask: int) -> None:
        self.store("LR", self.value("LR") & ~mask | value)
        self._offset += self.value("LR") - self._now()
        self._arm()

    def write_MR(self, _: int, value: int, mask: int) -> None:
        self.store("MR", self.value("MR") & ~mask | value)
        self._arm()

    def write_CR(self, _: int, value: int, mask: int) -> None:
        """Once started, which it is from the beginning, the clock cannot be stopped."""

    def write_IMSC(self, _: int, value: int, mask: int) -> None:
        self.store("IMSC", value)
        self._update()

    def read_MIS(self, _: int) -> int:
        return self.value("RIS") & self.value("IMSC")

    def write_ICR(self, _: int, value: int, mask: int) -> None:
        self.store("RIS", self.value("RIS") & ~value)
        self._update()

    def _arm(self) -> None:
        wait = self.value("MR") - self._now() & MASK
        if wait == 0:
            self._alarm.cancel()
            self._ring()
        else:
            whole = self._clock.clock_ns() // SECOND * SECOND
            self._alarm.set(whole + wait * SECOND)

    def _ring(self) -> None:
        self.store("RIS", 1)
        self._update()

    def _update(self) -> None:
        self._line.set(self.read_MIS(0))
