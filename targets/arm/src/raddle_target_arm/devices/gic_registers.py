# SPDX-License-Identifier: Apache-2.0
"""The interrupt controller's registers (ARM IHI 0048B, chapter 4): the distributor's and a CPU interface's. Their rules
are in raddle_target_arm.devices.gic.

There are no Security Extensions, so every access is what the manual calls a Secure one: it sees both groups. SGIR.NSATT
and GICC_CTLR.EOImodeNS, which belong to them, are absent, as are GICC_CTLR's bypass bits: the board has no such inputs.
"""

from __future__ import annotations

from typing import ClassVar, Final

from raddle.devices.base import MASK, Device, Register
from raddle_target_arm.devices.gic import Gic
from raddle_target_arm.devices.gic_layout import (
    ABPR,
    ABPR_MIN,
    ACTIVE,
    APR,
    BPR,
    CTLR,
    CTLR_ACKNOWLEDGE,
    CTLR_COMMON_POINT,
    CTLR_EOI_MODE,
    CTLR_FIQ,
    DISTRIBUTOR_CTLR,
    EDGE,
    ENABLED,
    GROUP,
    GROUP_ENABLES,
    INTERFACE,
    INTERFACE_WORDS,
    INTERRUPTS,
    LATCHED,
    NSAPR,
    PMR,
    PRIORITY,
    PRIVATE,
    SGI_EDGES,
    SGI_SOURCES,
    SGIS,
    TARGETS,
    WORDS,
)

__all__ = ["CpuInterface", "Distributor"]


INTERFACE_CTLR: Final = GROUP_ENABLES | CTLR_ACKNOWLEDGE | CTLR_FIQ | CTLR_COMMON_POINT | CTLR_EOI_MODE


class Distributor(Device):
    """The distributor's registers (IHI 0048B, 4.3)."""

    NAME = "gic-distributor"
    SIZE = 0x1_0000
    REGISTERS: ClassVar = (
        Register(0x000, "CTLR", writable=GROUP_ENABLES),
        Register(0x004, "TYPER"),
        Register(0x008, "IIDR", reset=0x43B),
        Register(0x080, "IGROUPR", count=WORDS, writable=MASK),
        Register(0x100, "ISENABLER", count=WORDS, writable=MASK),
        Register(0x180, "ICENABLER", count=WORDS, writable=MASK),
        Register(0x200, "ISPENDR", count=WORDS, writable=MASK),
        Register(0x280, "ICPENDR", count=WORDS, writable=MASK),
        Register(0x300, "ISACTIVER", count=WORDS, writable=MASK),
        Register(0x380, "ICACTIVER", count=WORDS, writable=MASK),
        Register(0x400, "IPRIORITYR", count=INTERRUPTS // 4, writable=MASK),
        Register(0x800, "ITARGETSR", count=INTERRUPTS // 4, writable=MASK),
        Register(0xC00, "ICFGR", count=INTERRUPTS // 16, writable=MASK),
        Register(0xF00, "SGIR", readable=0, writable=MASK),
        Register(0xF10, "CPENDSGIR", count=4, writable=MASK),
        Register(0xF20, "SPENDSGIR", count=4, writable=MASK),
        *(
            Register(0xFD0 + 4 * n, f"ID{n}", reset=value)
            for n, value in enumerate((4, 0, 0, 0, 0x90, 0xB4, 0x2B, 0, 0x0D, 0xF0, 0x05, 0xB1))
        ),
    )

    def __init__(self, gic: Gic) -> None:
        super().__init__()
        self._gic = gic

    def _index(self, word: int) -> int:
        """The word of the bit arrays with the initiator's 32 interrupts `word`."""
        return 7 + word if word else self._gic.space.initiator

    # --- the controller as a whole

    def read_CTLR(self, _: int) -> int:
        return self._gic.words[DISTRIBUTOR_CTLR // 4]

    def write_CTLR(self, _: int, value: int, mask: int) -> None:
        place = DISTRIBUTOR_CTLR // 4
        self._gic.words[place] = self._gic.words[place] & ~mask | value
        self._gic.update()

    def read_TYPER(self, _: int) -> int:
        return self._gic.cpus - 1 << 5 | WORDS - 1

    # --- one bit per interrupt

    def read_IGROUPR(self, word: int) -> int:
        return self._gic.words[GROUP // 4 + self._index(word)]

    def write_IGROUPR(self, word: int, value: int, mask: int) -> None:
        place = GROUP // 4 + self._index(word)
        self._gic.words[place] = self._gic.words[place] & ~mask | value
        self._gic.update()

    def read_ISENABLER(self, word: int) -> int:
        return self._gic.words[ENABLED // 4 + self._index(word)]

    read_ICENABLER = read_ISENABLER

    def write_ISENABLER(self, word: int, value: int, mask: int) -> None:
        self._gic.words[ENABLED // 4 + self._index(word)] |= value
        self._gic.refresh(self._index(word))

    def write_ICENABLER(self, word: int, value: int, mask: int) -> None:
        if word == 0:
            value &= ~SGI_EDGES  # SGIs are always enabled
        self._gic.words[ENABLED // 4 + self._index(word)] &= ~value
        self._gic.refresh(self._index(word))

    def read_ISPENDR(self, word: int) -> int:
        return self._gic.pending_word(self._index(word))

    read_ICPENDR = read_ISPENDR

    def write_ISPENDR(self, word: int, value: int, mask: int) -> None:
        if word == 0:
            value &= ~SGI_EDGES  # only SGIR and SPENDSGIR make SGIs pending
        self._gic.words[LATCHED // 4 + self._index(word)] |= value
        self._gic.refresh(self._index(word))

    def write_ICPENDR(self, word: int, value: int, mask: int) -> None:
        if word == 0:
            value &= ~SGI_EDGES
        self._gic.words[LATCHED // 4 + self._index(word)] &= ~value
        self._gic.refresh(self._index(word))

    def read_ISACTIVER(self, word: int) -> int:
        return self._gic.words[ACTIVE // 4 + self._index(word)]

    read_ICACTIVER = read_ISACTIVER

    def write_ISACTIVER(self, word: int, value: int, mask: int) -> None:
        self._gic.words[ACTIVE // 4 + self._index(word)] |= value
        self._gic.refresh(self._index(word))

    def write_ICACTIVER(self, word: int, value: int, mask: int) -> None:
        self._gic.words[ACTIVE // 4 + self._index(word)] &= ~value
        self._gic.refresh(self._index(word))

    # --- two bits per interrupt: the upper one is 1 for an edge

    def read_ICFGR(self, n: int) -> int:
        edges = self._gic.words[EDGE // 4 + self._index(n // 2)] >> 16 * (n % 2)
        return sum(2 << 2 * bit for bit in range(16) if edges >> bit & 1)

    def write_ICFGR(self, n: int, value: int, mask: int) -> None:
        if n == 0:
            return  # SGIs are edges
        place = EDGE // 4 + self._index(n // 2)
        edges = self._gic.words[place]
        for bit in range(16):
            if mask >> 2 * bit & 2:
                chosen = 1 << (bit + 16 * (n % 2))
                edges = edges | chosen if value >> 2 * bit & 2 else edges & ~chosen
        self._gic.words[place] = edges
        self._gic.refresh(self._index(n // 2))

    # --- a byte per interrupt

    def _priorities(self, n: int) -> int:
        return PRIORITY + (0x100 + 4 * n - PRIVATE if n >= 8 else 32 * self._gic.space.initiator + 4 * n)

    def read_IPRIORITYR(self, n: int) -> int:
        place = self._priorities(n)
        return int.from_bytes(self._gic.bytes[place : place + 4], "little")

    def write_IPRIORITYR(self, n: int, value: int, mask: int) -> None:
        place = self._priorities(n)
        new = self.read_IPRIORITYR(n) & ~mask | value
        self._gic.bytes[place : place + 4] = new.to_bytes(4, "little")
        self._gic.update()

    def read_ITARGETSR(self, n: int) -> int:
        if self._gic.cpus == 1:
            return 0
        if n < 8:  # private interrupts go to the CPU that reads
            return 0x0101_0101 << self._gic.space.initiator
        place = TARGETS + 4 * n - PRIVATE
        return int.from_bytes(self._gic.bytes[place : place + 4], "little")

    def write_ITARGETSR(self, n: int, value: int, mask: int) -> None:
        if n < 8 or self._gic.cpus == 1:
            return
        for byte in range(4):
            if mask >> 8 * byte & 0xFF:
                self._gic.set_targets(4 * n + byte, value >> 8 * byte & 0xFF)

    # --- software-generated interrupts

    def write_SGIR(self, _: int, value: int, mask: int) -> None:
        me = self._gic.space.initiator
        everyone = (1 << self._gic.cpus) - 1
        targets = {0: value >> 16 & 0xFF, 1: everyone & ~(1 << me), 2: 1 << me}.get(value >> 24 & 3, 0)
        self._gic.send(me, value & 15, targets)

    def _sgi_sources(self, n: int) -> int:
        return SGI_SOURCES + SGIS * self._gic.space.initiator + 4 * n

    def read_SPENDSGIR(self, n: int) -> int:
        place = self._sgi_sources(n)
        return int.from_bytes(self._gic.bytes[place : place + 4], "little")

    read_CPENDSGIR = read_SPENDSGIR

    def write_SPENDSGIR(self, n: int, value: int, mask: int) -> None:
        self._set_sgi_sources(n, self.read_SPENDSGIR(n) | value)

    def write_CPENDSGIR(self, n: int, value: int, mask: int) -> None:
        self._set_sgi_sources(n, self.read_SPENDSGIR(n) & ~value)

    def _set_sgi_sources(self, n: int, sources: int) -> None:
        everyone = (1 << self._gic.cpus) - 1
        for byte in range(4):
            one = sources >> 8 * byte & everyone
            self._gic.set_sgi_sources(self._gic.space.initiator, 4 * n + byte, one)


class CpuInterface(Device):
    """The CPU interface's registers (IHI 0048B, 4.4), those of the CPU that makes the access."""

    NAME = "gic-cpu-interface"
    SIZE = 0x1_0000
    REGISTERS: ClassVar = (
        Register(0x00, "CTLR", writable=INTERFACE_CTLR),
        Register(0x04, "PMR", readable=0xFF, writable=0xFF),
        Register(0x08, "BPR", readable=7, writable=7),
        Register(0x0C, "IAR"),
        Register(0x10, "EOIR", readable=0, writable=0x1FFF),
        Register(0x14, "RPR"),
        Register(0x18, "HPPIR"),
        Register(0x1C, "ABPR", readable=7, writable=7),
        Register(0x20, "AIAR"),
        Register(0x24, "AEOIR", readable=0, writable=0x1FFF),
        Register(0x28, "AHPPIR"),
        Register(0xD0, "APR", count=4, writable=MASK),
        Register(0xE0, "NSAPR", count=4, writable=MASK),
        Register(0xFC, "IIDR", reset=0x0002_043B),
        Register(0x1000, "DIR", readable=0, writable=0x1FFF),
    )

    def __init__(self, gic: Gic) -> None:
        super().__init__()
        self._gic = gic

    def _place(self, register: int) -> int:
        return INTERFACE // 4 + INTERFACE_WORDS * self._gic.space.initiator + register

    def _write(self, register: int, value: int, mask: int) -> None:
        place = self._place(register)
        self._gic.words[place] = self._gic.words[place] & ~mask | value
        self._gic.update_cpu(self._gic.space.initiator)

    def read_CTLR(self, _: int) -> int:
        return self._gic.words[self._place(CTLR)]

    def write_CTLR(self, _: int, value: int, mask: int) -> None:
        self._write(CTLR, value, mask)

    def read_PMR(self, _: int) -> int:
        return self._gic.words[self._place(PMR)]

    def write_PMR(self, _: int, value: int, mask: int) -> None:
        self._write(PMR, value, mask)

    def read_BPR(self, _: int) -> int:
        return self._gic.words[self._place(BPR)]

    def write_BPR(self, _: int, value: int, mask: int) -> None:
        self._write(BPR, value, mask)

    def read_ABPR(self, _: int) -> int:
        return self._gic.words[self._place(ABPR)]

    def write_ABPR(self, _: int, value: int, mask: int) -> None:
        self._write(ABPR, max(value, ABPR_MIN), mask)

    def read_IAR(self, _: int) -> int:
        return self._gic.acknowledge(self._gic.space.initiator)

    def read_AIAR(self, _: int) -> int:
        return self._gic.acknowledge(self._gic.space.initiator, alias=True)

    def write_EOIR(self, _: int, value: int, mask: int) -> None:
        self._gic.end(self._gic.space.initiator, value & 0x3FF)

    def write_AEOIR(self, _: int, value: int, mask: int) -> None:
        self._gic.end(self._gic.space.initiator, value & 0x3FF, alias=True)

    def read_RPR(self, _: int) -> int:
        return self._gic.running_priority(self._gic.space.initiator)

    def read_HPPIR(self, _: int) -> int:
        return self._gic.pending(self._gic.space.initiator)

    def read_AHPPIR(self, _: int) -> int:
        return self._gic.pending(self._gic.space.initiator, alias=True)

    def read_APR(self, n: int) -> int:
        return self._gic.words[self._place(APR + n)]

    def write_APR(self, n: int, value: int, mask: int) -> None:
        self._write_active(APR + n, value, mask)

    def read_NSAPR(self, n: int) -> int:
        return self._gic.words[self._place(NSAPR + n)]

    def write_NSAPR(self, n: int, value: int, mask: int) -> None:
        self._write_active(NSAPR + n, value, mask)

    def _write_active(self, register: int, value: int, mask: int) -> None:
        place, cpu = self._place(register), self._gic.space.initiator
        self._gic.words[place] = self._gic.words[place] & ~mask | value
        self._gic.update_running(cpu)
        self._gic.update_cpu(cpu)

    def write_DIR(self, _: int, value: int, mask: int) -> None:
        self._gic.deactivate(self._gic.space.initiator, value & 0x3FF)
