# SPDX-License-Identifier: Apache-2.0
"""The clipper board: chipset, interrupts from device to CPU, what is loaded where, halts; bad kernels and options."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from raddle import Machine
from raddle.errors import UsageError
from raddle.machine.board import BoardOptions
from raddle.machine.chardev import MemoryConsole
from raddle.machine.clock import MachineClock
from raddle.machine.time_of_day import RtcClock, RtcOptions
from raddle.testing.device_bench import HandClock, Native
from raddle_target_alpha import hwrpb, tsunami
from raddle_target_alpha.boards.clipper import Clipper
from raddle_target_alpha.devices.chipset import MOST_OWED, Cchip
from raddle_target_alpha.mmu import KSEG
from raddle_target_alpha.plugin import raddle_target

MIB = 1 << 20
TARGET = raddle_target()
MISC, DIM0, DIR0, DIM1, DIR1 = tsunami.MISC, tsunami.DIM[0], tsunami.DIR[0], tsunami.DIM[1], tsunami.DIR[1]
UART, RTC = 0x3F8, 0x70


class Cpu:
    def __init__(self, index: int) -> None:
        self.index = index
        self.lines = 0
        self.calls: list[Any] = []

    def interrupt_set(self, bits: int) -> None:
        self.lines |= bits

    def interrupt_clear(self, bits: int) -> None:
        self.lines &= ~bits

    def power_on(self, entry: int, argument: int) -> None:
        self.calls.append((entry, argument))

    def power_off(self) -> None:
        self.calls.append("off")


class Power:
    def __init__(self) -> None:
        self.requests: list[Any] = []

    def request_stop(self, status: int = 0) -> None:
        self.requests.append(("stop", status))

    def request_reset(self) -> None:
        self.requests.append("reset")


class Lock:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        pass


def elf(address: int, size: int = 0x1800, machine: int = 0x9026, data: bytes = b"code") -> bytes:
    """A program of one segment that is entered at its first byte."""
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, address, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 7, 120, address, address, len(data), size, 4) + data


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def write(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


class Built:
    """A board with CPUs of a test's, and its registers by physical address."""

    def __init__(self, options: BoardOptions, ports: int) -> None:
        clock = MachineClock()
        self.consoles = [MemoryConsole() for _ in range(ports)]
        self.board = Clipper(options, self.consoles, clock)
        self.clock, self.power = HandClock(), Power()
        clock.connect(self.clock)
        self.cpus = [Cpu(index) for index in range(options.cpus)]
        self.clock.routines = self.board.memory.routines
        self.clock.callees |= Lines(self.cpus).callees
        self.board.connect(self.cpus, self.power, Lock())
        self.board.reset()

    def get(self, address: int, size: int) -> int:
        region = self.board.memory.find(address)
        assert region is not None
        assert region.handler is not None
        return region.handler.read(address - region.start, size)

    def put(self, address: int, size: int, value: int) -> None:
        region = self.board.memory.find(address)
        assert region is not None
        assert region.handler is not None
        region.handler.write(address - region.start, size, value)

    def port(self, number: int, value: int | None = None) -> int:
        if value is None:
            return self.get(tsunami.PCI_IO + number, 1)
        self.put(tsunami.PCI_IO + number, 1, value)
        return 0


@pytest.fixture
def build(file: Callable[[str, bytes], Path]) -> Iterator[Callable[..., Built]]:
    made: list[Built] = []

    def build(cpus: int = 2, memory: int = 64 * MIB, ports: int = 1, **options: Any) -> Built:
        options.setdefault("kernel", file("vmlinux", elf(KSEG + 0x31_0000)))
        options.setdefault("rtc", RtcOptions(1_700_000_000, RtcClock.VM))
        given = BoardOptions(cpus, "ev67", memory, TARGET, page_size=8192, **options)
        made.append(Built(given, ports))
        return made[-1]

    yield build
    for one in made:
        one.board.memory.close()


@pytest.fixture
def clipper(build: Callable[..., Built]) -> Built:
    return build()


# --- the chipset


class Lines:
    """The calls of a routine that drive interrupt lines of CPUs."""

    def __init__(self, cpus: list[Cpu]) -> None:
        self.callees = {
            "interrupt_set": lambda cpu, index, lines: cpus[index].interrupt_set(lines),
            "interrupt_clear": lambda cpu, index, lines: cpus[index].interrupt_clear(lines),
        }


@pytest.fixture
def cchip() -> tuple[Cchip, list[Cpu], Native]:
    chip, cpus = Cchip(3, [0x9000]), [Cpu(index) for index in range(3)]
    chip.connect(cpus)
    native = Native(chip, Lines(cpus).callees)
    return chip, cpus, native


def tick(chip: Cchip, cpus: list[Cpu], count: int = 1) -> None:
    """Of the interval timer."""
    clock = HandClock()
    clock.routines, clock.callees = {"tick": chip.tick}, {**clock.callees, **Lines(cpus).callees}
    clock.run("tick", count)


def test_cpus_interrupt_each_other(cchip: tuple[Cchip, list[Cpu], Native]) -> None:
    _, cpus, native = cchip
    native.write(MISC, 8, 0b101 << 12)
    assert [cpu.lines for cpu in cpus] == [tsunami.LINE_IPI, 0, tsunami.LINE_IPI]
    assert native.read(MISC, 8) == 8 << 32 | 0b101 << 8
    native.write(MISC, 8, 0b100 << 8)
    assert [cpu.lines for cpu in cpus] == [tsunami.LINE_IPI, 0, 0]
    assert native.read(MISC, 4) == 0b001 << 8
    assert native.passed == [], "without Python"


def test_a_cpu_that_there_is_not_is_not_interrupted(cchip: tuple[Cchip, list[Cpu], Native]) -> None:
    _, cpus, native = cchip
    native.write(MISC, 8, 0b1000 << 12)
    assert native.read(MISC, 8) == 8 << 32
    assert [cpu.lines for cpu in cpus] == [0, 0, 0]


def test_misc_shows_who_reads_it(cchip: tuple[Cchip, list[Cpu], Native]) -> None:
    _, _, native = cchip
    for number in range(3):
        native.header["cpu_index"] = number
        assert native.read(MISC, 8) & 3 == number


def test_the_interval_timer_interrupts_every_cpu_until_each_acknowledges(
    cchip: tuple[Cchip, list[Cpu], Native],
) -> None:
    chip, cpus, native = cchip
    tick(chip, cpus)
    assert [cpu.lines for cpu in cpus] == [tsunami.LINE_TIMER] * 3
    assert native.read(MISC, 8) & 0xFF0 == 0b111 << 4
    native.write(MISC, 8, 1 << 5)
    assert [cpu.lines for cpu in cpus] == [tsunami.LINE_TIMER, 0, tsunami.LINE_TIMER]
    tick(chip, cpus)
    assert cpus[1].lines == tsunami.LINE_TIMER


def test_a_cpu_that_is_late_gets_each_tick(cchip: tuple[Cchip, list[Cpu], Native]) -> None:
    """One after the other, whether it was itself late or the machine was."""
    chip, cpus, native = cchip
    for count, ticks in (((1, 1, 1), 3), ((4,), 4), ((1, 3), 4), ((100_000,), MOST_OWED + 1)):
        for one in count:
            tick(chip, cpus, one)
        for left in reversed(range(ticks)):
            assert cpus[2].lines == tsunami.LINE_TIMER
            native.write(MISC, 8, 1 << 6)
            assert native.read(MISC, 8) >> 6 & 1 == (left > 0)
        assert cpus[2].lines == 0
        native.write(MISC, 8, 1 << 6)
        assert cpus[2].lines == 0


def test_device_interrupts_go_where_the_masks_let_them(cchip: tuple[Cchip, list[Cpu], Native]) -> None:
    chip, cpus, native = cchip
    bit = 1 << tsunami.ISA_INTERRUPT
    chip.isa.set(True)
    assert native.read(tsunami.DRIR, 8) == bit
    assert [cpu.lines for cpu in cpus] == [0, 0, 0]
    native.write(DIM1, 8, bit)
    assert [cpu.lines for cpu in cpus] == [0, tsunami.LINE_DEVICE, 0]
    assert (native.read(DIR0, 8), native.read(DIR1, 8)) == (0, bit)
    chip.isa.set(False)
    assert cpus[1].lines == 0
    assert native.read(DIR1, 8) == 0
    assert all(how & 0x100 for _, how in native.passed), "reads need no Python"


def test_a_reset_of_the_chipset_lowers_all_lines(cchip: tuple[Cchip, list[Cpu], Native]) -> None:
    chip, cpus, native = cchip
    native.write(MISC, 8, 0b111 << 12)
    tick(chip, cpus)
    chip.reset()
    assert [cpu.lines for cpu in cpus] == [0, 0, 0]
    assert native.read(MISC, 8) == 8 << 32


def test_there_is_no_second_pchip_and_the_first_keeps_its_windows(clipper: Built) -> None:
    assert clipper.get(tsunami.CCHIP + tsunami.CSC, 8) >> 14 & 1 == 0
    for offset in (0x000, 0x100, 0x200, 0x0C0, 0x2C0, 0x300):
        clipper.put(tsunami.PCHIP + offset, 8, 0x1234_5678 + offset)
        assert clipper.get(tsunami.PCHIP + offset, 8) == 0x1234_5678 + offset
    clipper.put(tsunami.PCHIP + 0x4C0, 8, 1)
    assert clipper.get(tsunami.PCHIP + 0x4C0, 8) == 0


# --- devices behind it


def test_the_pci_bus_is_empty(clipper: Built) -> None:
    for slot, size in product(range(32), (1, 2, 4)):
        assert clipper.get(tsunami.PCI_CONFIGURATION + (slot << 11), size) == (1 << 8 * size) - 1
    assert clipper.get(tsunami.PCI_MEMORY + 0xB_8000, 2) == 0xFFFF


def test_the_uart_prints_and_its_interrupt_reaches_cpu_0(clipper: Built) -> None:
    clipper.put(tsunami.CCHIP + DIM0, 8, 1 << tsunami.ISA_INTERRUPT)
    for byte in b"ok":
        clipper.port(UART, byte)
    assert clipper.consoles[0].read() == "ok"
    clipper.port(UART + 1, 2)
    assert clipper.cpus[0].lines == tsunami.LINE_DEVICE
    assert clipper.get(tsunami.INTERRUPT_ACKNOWLEDGE, 4) == 4
    assert clipper.cpus[0].lines == 0
    clipper.port(0x20, 0x20)
    clipper.port(UART + 2)
    assert clipper.get(tsunami.CCHIP + DIR0, 8) == 0


def test_a_second_port_is_there_for_a_second_console(build: Callable[..., Built]) -> None:
    assert build().port(0x2FB) == 0xFF
    two = build(ports=2)
    two.port(0x2F8, ord("x"))
    assert (two.consoles[0].read(), two.consoles[1].read()) == ("", "x")


def test_input_interrupts(clipper: Built) -> None:
    clipper.port(UART + 1, 1)
    clipper.put(tsunami.CCHIP + DIM0, 8, 1 << tsunami.ISA_INTERRUPT)
    clipper.consoles[0].send("q")
    assert clipper.cpus[0].lines == tsunami.LINE_DEVICE
    assert clipper.port(UART) == ord("q")
    assert clipper.cpus[0].lines == 0


def test_the_clock_counts_years_from_1980_and_ticks(clipper: Built) -> None:
    def rtc(index: int, value: int | None = None) -> int:
        clipper.port(RTC, index)
        return clipper.port(RTC + 1, value)

    assert (rtc(9), rtc(8), rtc(7)) == (0x43, 0x11, 0x14)
    assert clipper.board.wall_time() == 1_700_000_000 * 10**9
    rtc(11, 0x42)
    clipper.clock.move(1 / 1024)
    clipper.clock.move(1e-6)
    assert [cpu.lines & tsunami.LINE_TIMER for cpu in clipper.cpus] == [tsunami.LINE_TIMER] * 2
    for cpu in clipper.cpus:
        cpu.interrupt_clear(tsunami.LINE_TIMER)
    clipper.clock.move(1 / 1024)
    assert all(cpu.lines & tsunami.LINE_TIMER for cpu in clipper.cpus), "nobody reads the clock's flags"


def test_the_timer_and_the_speaker_s_port(clipper: Built) -> None:
    clipper.port(0x61, 1)
    clipper.port(0x43, 0xB0)
    clipper.port(0x42, 0xFF)
    clipper.port(0x42, 0xFF)
    assert clipper.port(0x61) & 0x20 == 0
    clipper.clock.move(0.06)
    assert clipper.port(0x61) & 0x20


def test_other_ports_are_empty(clipper: Built) -> None:
    assert [clipper.port(port) for port in (0x0D, 0x60, 0x64, 0xD4, 0xDA)] == [0xFF, 0xFF, 0, 0xFF, 0xFF]
    clipper.port(0xDA, 0)


# --- what is where


def test_every_cpu_begins_in_the_console_with_its_slot(build: Callable[..., Built]) -> None:
    entries = [cpu.calls for cpu in build(cpus=3).cpus]
    slots = [KSEG + hwrpb.slot(cpu) for cpu in range(3)]
    secondary = hwrpb.SECONDARY_CODE
    assert entries == [[(hwrpb.PRIMARY_CODE, slots[0])], [(secondary, slots[1])], [(secondary, slots[2])]]


def test_a_kernel_finds_command_line_and_initial_ram_disk(
    build: Callable[..., Built], file: Callable[[str, bytes], Path]
) -> None:
    initrd = file("initrd", b"ramdisk" * 1000)
    memory = build(append="console=ttyS0", initrd=initrd).board.memory
    assert memory.read(0x31_0000, 4) == b"code"
    assert memory.read(0x30_A000, 14) == b"console=ttyS0\0"
    start, size = struct.unpack("<2Q", memory.read(0x30_A100, 16))
    assert (start, size) == (KSEG + 64 * MIB - 8192, 7000)
    assert memory.read(start - KSEG, 7000) == b"ramdisk" * 1000


def test_without_an_initial_ram_disk_there_is_none(clipper: Built) -> None:
    assert clipper.board.memory.read(0x30_A000, 0x110) == bytes(0x110)


def test_a_raw_kernel_is_entered_at_its_usual_place(
    build: Callable[..., Built], file: Callable[[str, bytes], Path]
) -> None:
    board = build(kernel=file("raw", b"\x01\x02\x03\x04" * 64)).board
    assert board.memory.read(0x31_0000, 4) == b"\x01\x02\x03\x04"
    code = hwrpb.HWRPB + hwrpb.CODE
    assert struct.unpack("<Q", board.memory.read(code, 8)) == (KSEG + 0x31_0000,)


def test_a_reset_loads_everything_anew(clipper: Built) -> None:
    before = clipper.board.memory.read(hwrpb.HWRPB, 0x4000)
    clipper.board.memory.write(0x31_0000, b"gone")
    clipper.board.memory.write(hwrpb.HWRPB, bytes(0x4000))
    clipper.put(tsunami.CCHIP + DIM0, 8, 1)
    clipper.board.reset()
    assert clipper.board.memory.read(0x31_0000, 4) == b"code"
    assert clipper.board.memory.read(hwrpb.HWRPB, 0x4000) == before
    assert clipper.get(tsunami.CCHIP + DIM0, 8) == 0


# --- halts


@pytest.mark.parametrize(
    ("request_", "asked"), [(0, ("stop", 0)), (2, "reset"), (3, "reset"), (4, ("stop", 0)), (5, ("stop", 0))]
)
def test_a_halt_of_the_first_cpu(clipper: Built, request_: int, asked: object) -> None:
    clipper.board.memory.write(hwrpb.slot(0) + hwrpb.FLAGS, (0x1CC | request_ << 16).to_bytes(8, "little"))
    clipper.board.halt(0)
    assert clipper.power.requests == [asked]
    assert [cpu.calls[-1] for cpu in clipper.cpus] == ["off", "off"]


def test_a_halt_of_another_cpu_lets_it_wait_to_be_started(clipper: Built) -> None:
    clipper.board.halt(1)
    assert clipper.power.requests == []
    assert clipper.cpus[1].calls[-1] == (hwrpb.SECONDARY_CODE, KSEG + hwrpb.slot(1))


# --- what cannot be


def test_the_number_of_cpus(file: Callable[[str, bytes], Path]) -> None:
    with pytest.raises(UsageError, match="machine clipper has 1 to 4 CPUs, not 5"):
        Machine("clipper", cpus=5, kernel=file("vmlinux", elf(KSEG + 0x31_0000)))


@pytest.mark.parametrize("memory", [4 * MIB, (4 << 30) + 8192])
def test_the_size_of_ram(build: Callable[..., Built], memory: int) -> None:
    with pytest.raises(UsageError, match="machine clipper has 8 MiB to 4 GiB of RAM, not"):
        build(memory=memory)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (elf(KSEG + 0x31_0000, machine=40), "it is an ELF program for ARM, not for the alpha guest"),
        (elf(KSEG + 0x31_0000)[:100], "its program headers are damaged"),
        (elf(KSEG + 0x31_0000)[:122], "it is truncated"),
        (elf(KSEG + (1 << 36)), r"does not fit into the RAM of 64 MiB at 0x0; give it another address"),
        (elf(KSEG + 128 * MIB), r"does not fit into the RAM of 64 MiB at 0x0; more memory \(-m\) may help"),
        (elf(0x1_2000_0000), r"does not fit into the RAM of 64 MiB at 0x0"),
        (elf(KSEG + 0x4000), r"overlaps"),
        (elf(KSEG + 0x30_A000), r"overlaps"),
        (b"\x1f\x8b\x08damaged", "the gzip data are damaged"),
        (b"", "it is empty"),
    ],
)
def test_bad_kernels(build: Callable[..., Built], file: Callable[[str, bytes], Path], data: bytes, fault: str) -> None:
    with pytest.raises(UsageError, match=fault) as error:
        build(kernel=file("kernel", data))
    assert "\n" not in str(error.value)
    assert "kernel" in str(error.value)


def test_too_little_memory_for_the_initial_ram_disk(
    build: Callable[..., Built], file: Callable[[str, bytes], Path]
) -> None:
    kernel = file("large", elf(KSEG + 0x31_0000, 6 * MIB))
    with pytest.raises(UsageError, match=r"initrd .* overlaps kernel .*; more memory \(-m\) may help"):
        build(memory=10 * MIB, kernel=kernel, initrd=file("initrd", bytes(2 * MIB)))


def test_a_command_line_that_is_too_long(build: Callable[..., Built]) -> None:
    build(append="x" * 255)
    with pytest.raises(UsageError, match="-append is longer than the 255 bytes that kernels of machine clipper take"):
        build(append="é" * 128)


def test_nothing_to_boot(build: Callable[..., Built]) -> None:
    with pytest.raises(UsageError, match=r"there is nothing to boot: give a kernel \(-kernel\)"):
        build(kernel=None)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("-smp", "5"), "5"),
        (("-m", "1M"), "machine clipper has 8 MiB to 4 GiB of RAM"),
        (("-kernel", "/dev/null"), "cannot read kernel /dev/null"),
        (("-dtb", "tree"), "-dtb"),
    ],
)
def test_the_command_says_so_in_one_line(
    file: Callable[[str, bytes], Path], options: tuple[str, ...], line: str
) -> None:
    given = ("-M", "clipper", "-kernel", str(file("vmlinux", elf(KSEG + 0x31_0000))), "-nographic", *options)
    words = [sys.executable, "-m", "raddle", "boot", *given]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=240, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    errors = done.stderr.splitlines()
    assert len(errors) == 1
    assert line in errors[0]
