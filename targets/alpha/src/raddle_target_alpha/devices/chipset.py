# SPDX-License-Identifier: Apache-2.0
"""The 21272 chipset's registers: Cchip (interrupts), Dchip and Pchip (a PCI bus). See `raddle_target_alpha.tsunami`.

What PALcode and system code access all the time is served without Python: MISC, and the registers that are `hot`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from raddle.devices.base import MASK, WORD, WRITE, Device, Register
from raddle.ir.builder import Builder, Value, native
from raddle.ir.header import COMMON
from raddle.ir.types import Condition, Type
from raddle.machine.board import BoardCpu
from raddle.machine.lines import Line
from raddle.memory import HostMemory
from raddle_target_alpha import tsunami

__all__ = ["Cchip", "Dchip", "Pchip"]

QUAD: Final = 8
ALL: Final = (1 << 64) - 1
MISC_REVISION: Final = 8
"""MISC bits 39:32: a Typhoon."""
MOST_OWED: Final = 1024
"""The most interrupts of the interval timer that a CPU gets later: of a second."""
CPU_BITS: Final = (1 << tsunami.MAX_CPUS) - 1


def _quad(offset: int, name: str, reset: int = 0, writable: int = 0, hot: bool = False) -> Register:
    return Register(offset, name, reset, writable=writable, size=QUAD, hot=hot)


class Cchip(Device):
    """The system controller: interrupts from devices, the interval timer and other CPUs go to CPUs from here."""

    NAME = "cchip"
    SIZE = 0x2000
    REGISTERS: ClassVar = (
        _quad(tsunami.CSC, "CSC", writable=ALL),
        _quad(0x040, "MTR", writable=ALL),
        _quad(tsunami.MISC, "MISC", writable=ALL),
        _quad(0x0C0, "MPD", writable=ALL),
        *(_quad(0x100 + 0x40 * n, f"AAR{n}", writable=ALL) for n in range(4)),
        *(_quad(offset, f"DIM{n}", writable=ALL, hot=True) for n, offset in enumerate(tsunami.DIM)),
        *(_quad(offset, f"DIR{n}", hot=True) for n, offset in enumerate(tsunami.DIR)),
        _quad(tsunami.DRIR, "DRIR", hot=True),
        _quad(0x340, "PRBEN", writable=ALL),
        _quad(0x380, "IIC0", writable=ALL),
        _quad(0x3C0, "IIC1", writable=ALL),
        _quad(0x700, "IIC2", writable=ALL),
        _quad(0x740, "IIC3", writable=ALL),
    )
    STATE: ClassVar = ("_owed",)

    def __init__(self, cpus: int, aars: Sequence[int]) -> None:
        """`aars` are the values of the array address registers, which say what memory there is."""
        super().__init__()
        self._count = cpus
        self._arrays = aars
        self._cpus: Sequence[BoardCpu] = ()
        self._owed = HostMemory(WORD * tsunami.MAX_CPUS, self.NAME)
        """By CPU: how many interrupts of the interval timer it gets when it has acknowledged the present one. Changed
        under the big lock."""
        self.isa = Line(self._isa)
        """The interrupt request of the 8259s."""

    def connect(self, cpus: Sequence[BoardCpu]) -> None:
        self._cpus = cpus

    def disconnect(self) -> None:
        self._cpus = ()

    def reset(self) -> None:
        super().reset()
        for number, value in enumerate(self._arrays):
            self.store(f"AAR{number}", value)
        self._owed.bytes[:] = bytes(self._owed.size)
        for cpu in self._cpus:
            cpu.interrupt_clear(tsunami.LINES)

    # --- interrupts of devices

    def _isa(self, level: bool) -> None:
        bit = 1 << tsunami.ISA_INTERRUPT
        self.store("DRIR", self.value("DRIR") & ~bit | (bit if level else 0))
        self._deliver()

    def _deliver(self) -> None:
        """A request, or a mask, has changed."""
        for number, cpu in enumerate(self._cpus):
            requests = self.value("DRIR") & self.value(f"DIM{number}")
            self.store(f"DIR{number}", requests)
            (cpu.interrupt_set if requests else cpu.interrupt_clear)(tsunami.LINE_DEVICE)

    def _write_dim(self, number: int, value: int, mask: int) -> None:
        self.store(f"DIM{number}", self.value(f"DIM{number}") & ~mask | value)
        self._deliver()

    def write_DIM0(self, _: int, value: int, mask: int) -> None:
        self._write_dim(0, value, mask)

    def write_DIM1(self, _: int, value: int, mask: int) -> None:
        self._write_dim(1, value, mask)

    def write_DIM2(self, _: int, value: int, mask: int) -> None:
        self._write_dim(2, value, mask)

    def write_DIM3(self, _: int, value: int, mask: int) -> None:
        self._write_dim(3, value, mask)

    # --- the interval timer, and interrupts from other CPUs

    def tick(self, b: Builder) -> None:
        """Routine(count): the interval timer interrupts every CPU, `count` times. Systems count these interrupts to
        know the time, so a CPU that is late gets them one after the other. The big lock is held.
        """
        count = b.get(COMMON["arg0"])
        stored = b.const(self.address("MISC"), Type.I64)
        misc = b.call(native("host_load32"), stored, type=Type.I64)
        for cpu in range(self._count):
            place = b.const(self._owed.address + WORD * cpu, Type.I64)
            owed = b.call(native("host_load32"), place, type=Type.I64)
            is_late = b.zext(b.bit(misc, tsunami.MISC_TIMER + cpu), Type.I64)
            later = b.sub(b.add(b.add(owed, count), is_late), 1)
            most = b.icmp(Condition.ULT, later, MOST_OWED)
            b.call(native("host_store32"), place, b.select(most, later, MOST_OWED, Type.I64))
        b.call(native("host_store32"), stored, b.or_(misc, (1 << self._count) - 1 << tsunami.MISC_TIMER))
        for cpu in range(self._count):
            b.call(native("interrupt_set"), b.const(cpu, Type.I64), b.const(tsunami.LINE_TIMER, Type.I64))
        b.ret()

    def serve(self, b: Builder, offset: Value, how: Value, value: Value) -> None:
        """MISC: its low word is the number of the CPU that reads it, and what interrupts which CPU; written, it ends
        those interrupts and sends others.
        """
        stored = b.const(self.address("MISC"), Type.I64)

        def bits(word: Value, first: int) -> Value:
            return b.extract(word, first, tsunami.MAX_CPUS)

        with b.if_(b.eq(offset, tsunami.MISC)):
            now = b.call(native("host_load32"), stored, type=Type.I64)
            with b.if_(b.eq(b.and_(how, WRITE), 0)):
                number = b.zext(b.get(COMMON["cpu_index"]), Type.I64)
                word = b.or_(now, number)
                b.ret(b.select(b.eq(how, WORD), word, b.or_(word, MISC_REVISION << 32)))
            ends = b.and_(value, CPU_BITS << tsunami.MISC_TIMER | CPU_BITS << tsunami.MISC_IPI)
            requests = b.and_(bits(value, tsunami.MISC_IPI_REQUEST), (1 << self._count) - 1)
            left = b.or_(b.and_(now, b.not_(ends)), b.shl(requests, tsunami.MISC_IPI))
            b.call(native("host_store32"), stored, left)
            for cpu in range(self._count):
                with b.if_(b.bit(ends, tsunami.MISC_IPI + cpu)):
                    b.call(native("interrupt_clear"), b.const(cpu, Type.I64), b.const(tsunami.LINE_IPI, Type.I64))
                with b.if_(b.bit(ends, tsunami.MISC_TIMER + cpu)):
                    self._end_tick(b, cpu, stored)
                with b.if_(b.bit(requests, cpu)):
                    line = tsunami.LINE_IPI
                    b.call(native("interrupt_set"), b.const(cpu, Type.I64), b.const(line, Type.I64))
            b.ret(b.const(0, Type.I64))

    def _end_tick(self, b: Builder, cpu: int, misc: Value) -> None:
        """The CPU has acknowledged the interval timer: it is interrupted again if one is owed to it."""
        place = b.const(self._owed.address + WORD * cpu, Type.I64)
        owed = b.call(native("host_load32"), place, type=Type.I64)
        with b.if_(b.eq(owed, 0)):
            b.call(native("interrupt_clear"), b.const(cpu, Type.I64), b.const(tsunami.LINE_TIMER, Type.I64))
        with b.if_(b.ne(owed, 0)):
            b.call(native("host_store32"), place, b.sub(owed, 1))
            shown = b.call(native("host_load32"), misc, type=Type.I64)
            b.call(native("host_store32"), misc, b.or_(shown, 1 << tsunami.MISC_TIMER + cpu))


class Dchip(Device):
    """The data switch: what it says of itself."""

    NAME = "dchip"
    SIZE = 0x2000
    REGISTERS: ClassVar = (
        _quad(0x800, "DSC", reset=0x4343_4343_4343_4343),
        _quad(0x840, "STR", reset=0x2525_2525_2525_2525),
        _quad(0x880, "DREV", reset=0x0101_0101_0101_0101),
    )


class Pchip(Device):
    """The bridge to the PCI bus. No device on it accesses memory, so that its windows are storage."""

    NAME = "pchip"
    SIZE = 0x2000
    REGISTERS: ClassVar = (
        *(_quad(0x000 + 0x40 * n, f"WSBA{n}", writable=ALL) for n in range(4)),
        *(_quad(0x100 + 0x40 * n, f"WSM{n}", writable=ALL) for n in range(4)),
        *(_quad(0x200 + 0x40 * n, f"TBA{n}", writable=ALL) for n in range(4)),
        _quad(0x300, "PCTL", writable=ALL),
        _quad(0x340, "PLAT", writable=MASK),
        _quad(0x3C0, "PERROR", writable=ALL),
        _quad(0x400, "PERRMASK", writable=ALL),
        _quad(0x440, "PERRSET", writable=ALL),
        _quad(0x480, "TLBIV", writable=ALL),
        _quad(0x4C0, "TLBIA", writable=ALL),
        _quad(0x500, "PMONCTL", writable=ALL),
        _quad(0x540, "PMONCNT"),
    )

    def write_PERROR(self, _: int, value: int, mask: int) -> None:
        """Bits that are written with 1 are cleared; no error is ever set."""

    def write_TLBIV(self, _: int, value: int, mask: int) -> None:
        """The bridge keeps no translations."""

    def write_TLBIA(self, _: int, value: int, mask: int) -> None:
        """Likewise."""
