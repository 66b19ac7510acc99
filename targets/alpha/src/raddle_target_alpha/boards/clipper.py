# SPDX-License-Identifier: Apache-2.0
"""The `clipper` board: a DP264 of the Clipper kind with one PCI bus and the devices of personal computers behind it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import ClassVar, Final

from raddle.devices.i8254 import I8254
from raddle.devices.i8259 import I8259Pair
from raddle.devices.mc146818 import MC146818
from raddle.devices.pci import EmptyConfiguration
from raddle.devices.ports import PortRange, Ports
from raddle.devices.uart16550 import UART16550
from raddle.errors import UsageError
from raddle.layout import MORE_MEMORY, Area, Layout
from raddle.machine.board import Board, BoardCpu, BoardOptions, Power
from raddle.machine.chardev import CharDevice
from raddle.machine.clock import MachineClock
from raddle.machine.files import read_file
from raddle.machine.load import add_loads
from raddle.machine.loaders import load_image
from raddle.machine.time_of_day import TimeOfDay
from raddle_target_alpha import hwrpb, mmu, tsunami
from raddle_target_alpha.devices.chipset import Cchip, Dchip, Pchip

__all__ = ["Clipper"]

RAM_MIN: Final = 8 << 20
RAM_MAX: Final = 4 << 30

KERNEL: Final = 0x31_0000
"""A kernel without an address of its own."""
PARAMETERS: Final = 0x30_A000
"""The page in which a kernel finds its command line and where its initial RAM disk is."""
COMMAND_LINE_BYTES: Final = 256
INITRD_ADDRESS: Final = 0x100
"""Offset in the page of parameters; its size follows."""

PIC_PORTS, ELCR_PORT, PIT_PORT, SPEAKER_PORT, RTC_PORT = (0x20, 0xA0), 0x4D0, 0x40, 0x61, 0x70
UART_PORTS: Final = ((0x3F8, 4), (0x2F8, 3))
"""First port and interrupt."""
PIT_INTERRUPT: Final = 0
KEYBOARD_STATUS: Final = 0x64
RTC_FIRST_YEAR: Final = 1980
"""Of the console's own; systems tell it from others by the year."""
TICK_ROUTINE: Final = "interval_tick"

# What a CPU's slot asks for when CPU 0 halts (Alpha Architecture Reference Manual, III 3.1.3)
COLD_BOOTSTRAP, WARM_BOOTSTRAP = 2, 3


class _Acknowledge:
    """The region in which a read is an acknowledge cycle of the 8259s."""

    def __init__(self, pic: I8259Pair) -> None:
        self._pic = pic

    def read(self, offset: int, size: int) -> int:
        return self._pic.acknowledge()

    def write(self, offset: int, size: int, value: int) -> None:
        pass


class Clipper(Board):
    """1 to 4 CPUs, up to 4 GiB of RAM, the 21272 chipset with an empty PCI bus, 8259s, 8254, MC146818, 16550s. The
    target itself is PALcode and console.
    """

    NAME = "clipper"
    SERIAL_PORTS: ClassVar[int] = len(UART_PORTS)
    TAKES: ClassVar[frozenset[str]] = frozenset({"kernel", "initrd", "append", "loads"})
    STATE: ClassVar[tuple[str, ...]] = ("cchip", "dchip", "pchip", "pic", "pit", "rtc", "uarts")

    def __init__(self, options: BoardOptions, consoles: Sequence[CharDevice], clock: MachineClock) -> None:
        super().__init__(options, consoles, clock)
        size = self.ram_size(RAM_MIN, RAM_MAX)
        self.time_of_day = TimeOfDay(options.rtc, clock)
        self.cchip = Cchip(options.cpus, [size.bit_length() - 24 << 12])
        self.pchip = Pchip()
        self.dchip = Dchip()
        self.pic = I8259Pair(self.cchip.isa)
        self.uarts = [
            UART16550(console, self.pic.inputs[interrupt], clock)
            for console, (_, interrupt) in zip(consoles, UART_PORTS, strict=False)
        ]
        self.ports = self.uarts
        self.pit = I8254(clock)
        self.rtc = MC146818(clock, self.pic.inputs[8], self.time_of_day, TICK_ROUTINE, RTC_FIRST_YEAR)
        self._layout = self._plan(size)
        self._add_regions()
        self.memory.add_ram("RAM", 0, size)

    def _add_regions(self) -> None:
        ranges = [
            PortRange(PIC_PORTS[0], 2, self.pic),
            PortRange(PIC_PORTS[1], 2, self.pic, 2),
            PortRange(ELCR_PORT, 2, self.pic, 4),
            PortRange(PIT_PORT, 4, self.pit),
            PortRange(SPEAKER_PORT, 1, self.pit, 4),
            PortRange(RTC_PORT, 2, self.rtc),
            *(PortRange(port, 8, uart) for uart, (port, _) in zip(self.uarts, UART_PORTS, strict=False)),
        ]
        self.memory.add_routines({TICK_ROUTINE: self.cchip.tick, **self.rtc.routines()})
        ports = Ports(ranges, {KEYBOARD_STATUS: 0})
        empty = EmptyConfiguration()
        for name, start, chip in (
            ("cchip", tsunami.CCHIP, self.cchip),
            ("dchip", tsunami.DCHIP, self.dchip),
            ("pchip", tsunami.PCHIP, self.pchip),
        ):
            self.memory.add_io(name, start, chip.SIZE, chip, chip.routine)
        for name, start, size in (
            ("pci memory", tsunami.PCI_MEMORY, tsunami.PCI_MEMORY_SIZE),
            ("pci configuration", tsunami.PCI_CONFIGURATION, tsunami.PCI_CONFIGURATION_SIZE),
        ):
            self.memory.add_io(name, start, size, empty, empty.routine)
        acknowledge = _Acknowledge(self.pic)
        self.memory.add_io("interrupt acknowledge", tsunami.INTERRUPT_ACKNOWLEDGE, mmu.PAGE_SIZE, acknowledge)
        self.memory.add_io("pci i/o", tsunami.PCI_IO, tsunami.PCI_IO_SIZE, ports, ports.routine)

    def _plan(self, size: int) -> Layout:
        """Where everything goes in RAM. Raises UsageError for bad files, and for RAM that is too small."""
        options = self.options
        if options.kernel is None:
            raise UsageError("there is nothing to boot: give a kernel (-kernel)")
        layout = Layout(Area("RAM", 0, size, RAM_MAX))
        image = load_image(options.kernel, options.target, layout)
        offset = 0 if image.has_addresses else KERNEL
        machine = hwrpb.Machine(options.cpus, options.cpu, size)
        for name, segment in hwrpb.segments(machine, mmu.KSEG + offset + image.entry):
            layout.add(name, *segment)
        parameters = bytearray(mmu.PAGE_SIZE)
        command_line = (options.append or "").encode()
        if len(command_line) >= COMMAND_LINE_BYTES:
            raise UsageError(
                f"-append is longer than the {COMMAND_LINE_BYTES - 1} bytes that kernels of machine clipper take"
            )
        parameters[: len(command_line)] = command_line
        for segment in image.segments:
            layout.add(image.name, offset + segment.address, segment.data, segment.size)
        if options.initrd is not None:
            data = read_file(options.initrd, "initrd", size, MORE_MEMORY)
            start = size - len(data) & -mmu.PAGE_SIZE
            layout.add(f"initrd {options.initrd}", start, data, remedy=MORE_MEMORY)
            where = (mmu.KSEG + start).to_bytes(8, "little") + len(data).to_bytes(8, "little")
            parameters[INITRD_ADDRESS : INITRD_ADDRESS + len(where)] = where
        layout.add("the kernel's parameters", PARAMETERS, bytes(parameters))
        add_loads(options.loads, layout, options.target)
        return layout

    def connect(self, cpus: Sequence[BoardCpu], power: Power, big_lock: AbstractContextManager[object]) -> None:
        super().connect(cpus, power, big_lock)
        self.cchip.connect(cpus)

    def disconnect(self) -> None:
        super().disconnect()
        self.cchip.disconnect()

    def reset(self) -> None:
        for device in (self.cchip, self.dchip, self.pchip, self.pic, self.pit, self.rtc, *self.uarts):
            device.reset()
        self.load(self._layout.segments)
        for cpu in self.cpus:
            self._start(cpu.index)

    def _start(self, cpu: int) -> None:
        """Let a CPU run the console's code."""
        entry = hwrpb.SECONDARY_CODE if cpu else hwrpb.PRIMARY_CODE
        self.cpus[cpu].power_on(entry, mmu.KSEG + hwrpb.slot(cpu))

    # --- for the console; under the big lock

    def halt(self, cpu: int) -> None:
        """A CPU has halted: the first one ends or resets the machine, as its slot says, others wait to be started."""
        if cpu:
            self._start(cpu)
            return
        flags = self.memory.read(hwrpb.slot(0) + hwrpb.FLAGS, 8)
        for one in self.cpus:
            one.power_off()
        if int.from_bytes(flags, "little") >> hwrpb.HALT_REQUEST & 0xFF in (COLD_BOOTSTRAP, WARM_BOOTSTRAP):
            self.power.request_reset()
        else:
            self.power.request_stop(0)

    def wall_time(self) -> int:
        """Nanoseconds since 1970."""
        return self.time_of_day.now_ns()

    def console_write(self, data: bytes) -> None:
        """Write to the first serial port's device, after what the port holds."""
        self.uarts[0].settle()
        self.consoles[0].write(data)

    def console_read(self) -> bytes:
        """At most one byte from there."""
        return self.consoles[0].take(1)

    def console_remap(self, address: int) -> None:
        """The console's code is at a virtual address from now on."""
        segment = hwrpb.procedures(address)
        self.memory.write(segment.address, segment.data)
