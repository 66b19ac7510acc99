# SPDX-License-Identifier: Apache-2.0
"""A machine for the tiny guest: RAM from address 0 on, a console and a power switch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Final

from raddle.devices.base import MASK, Device, Register
from raddle.errors import UsageError
from raddle.machine.board import Board, BoardOptions
from raddle.machine.chardev import CharDevice
from raddle.machine.clock import MachineClock

ENTRY: Final = 0x1000
"""Where the program is loaded, and where every CPU starts with its number to tell it from the others."""

PANEL: Final = 0xF000_0000


class Panel(Device):
    """Two registers: a byte written to OUT appears on the console, a number written to POWER ends the machine."""

    NAME = "panel"
    REGISTERS: ClassVar = (
        Register(0, "OUT", readable=0, writable=0xFF),
        Register(4, "POWER", readable=0, writable=MASK),
    )

    def __init__(self, console: CharDevice, power_off: Callable[[int], None]) -> None:
        super().__init__()
        self._console = console
        self._power_off = power_off

    def write_OUT(self, _: int, value: int, mask: int) -> None:
        self._console.write(bytes([value]))

    def write_POWER(self, _: int, value: int, mask: int) -> None:
        self._power_off(value)


class Desk(Board):
    """The only board there is. The kernel is a raw image that starts at ENTRY."""

    NAME = "desk"
    STATE = ("panel",)

    def __init__(self, options: BoardOptions, consoles: Sequence[CharDevice], clock: MachineClock) -> None:
        super().__init__(options, consoles, clock)
        if options.kernel is None:
            raise UsageError("machine desk needs a program: -kernel FILE")
        try:
            self._program = options.kernel.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read program {options.kernel}: {error.strerror}") from None
        if ENTRY + len(self._program) > options.memory:
            raise UsageError(f"program {options.kernel} does not fit into {options.memory >> 20} MiB of RAM")
        self.memory.add_ram("RAM", 0, options.memory)
        self.panel = Panel(consoles[0], lambda status: self.power.request_stop(status))
        self.memory.add_io("panel", PANEL, Panel.SIZE, self.panel)

    def reset(self) -> None:
        self.memory.write(ENTRY, self._program)
        for cpu in self.cpus:
            cpu.power_on(ENTRY, 0)
