# SPDX-License-Identifier: Apache-2.0
"""GICv2 interrupt controller (ARM IHI 0048B) for 1 to 8 CPUs, without interrupt groups: one distributor and a CPU
interface for each CPU, 288 interrupts.

All state is in one block of host memory (`Gic.memory`, offsets below), 32-bit words in the host's byte order, so that
native code (raddle_target_arm.devices.gic_routines) can serve the registers that guests use all the time. It is changed
under the big lock alone. The rules here are the reference for the native ones.

Bit arrays have 16 words: words 0 to 7 hold interrupts 0-31 of CPU 0 to 7 (SGIs and PPIs are banked), words 8 to 15
interrupts 32-287. A CPU's view of 32 interrupts number w is word `cpu` for w = 0 and word 7 + w for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, Protocol

from raddle.devices.base import MASK, Device, Register
from raddle.machine.lines import Line
from raddle.memory import AddressSpace, HostMemory

__all__ = ["IRQ", "CpuInterface", "Distributor", "Gic", "InterruptTarget"]

IRQ: Final = 1 << 0
"""The bit of `interrupt_set` that is the CPU's IRQ line."""

INTERRUPTS: Final = 288
WORDS: Final = INTERRUPTS // 32
MAX_CPUS: Final = 8
SGIS: Final = 16
PRIVATE: Final = 32
"""Interrupts below are a CPU's own: SGIs 0-15, PPIs 16-31."""
SPURIOUS: Final = 1023
IDLE_PRIORITY: Final = 0xFF

# Byte offsets in the block of state.
ENABLED: Final = 0x000
LATCHED: Final = 0x040
"""Pending by itself: an edge has come, ISPENDR was written, or (SGIs) SGI_SOURCES is not 0."""
LEVEL: Final = 0x080
"""The input line is high."""
ACTIVE: Final = 0x0C0
EDGE: Final = 0x100
"""Edge-triggered; the others are pending as long as their line is high."""
TARGETED: Final = 0x140
"""For each CPU 8 words: which of the interrupts 32-287 go to it. Follows from TARGETS."""
PRIORITY: Final = 0x240
"""A byte an interrupt: 32 for each CPU, then 256 for interrupts 32-287."""
TARGETS: Final = 0x440
"""A byte for each of the interrupts 32-287: the CPUs it goes to."""
SGI_SOURCES: Final = 0x540
"""For each CPU a byte an SGI: the CPUs that have sent it and are not acknowledged yet."""
INTERFACE: Final = 0x5C0
"""For each CPU 8 words: CTLR, PMR, BPR, unused, and APR0 to APR3."""
DISTRIBUTOR_CTLR: Final = 0x6C0
READY: Final = 0x700
"""For each CPU 16 words, of which 9 are used, in the CPU's numbering: the interrupts that are pending, enabled, not
active and targeted at it. Follows from the rest; `refresh` keeps it."""
READY_WORDS: Final = 16
READY_SUMMARY: Final = 0x900
"""For each CPU a word: which of its words in READY are not 0."""
ASSERTED: Final = 0x920
"""For each CPU a word: 1 while its IRQ line is up."""
STATE_SIZE: Final = 0x1000

CTLR, PMR, BPR, APR = 0, 1, 2, 4
INTERFACE_WORDS: Final = 8

CTLR_ENABLE: Final = 1 << 0
CTLR_EOI_MODE: Final = 1 << 9
"""EOIR drops the priority only; DIR deactivates."""

SGI_EDGES: Final = 0xFFFF


class InterruptTarget(Protocol):
    """A vCPU, as the controller sees it."""

    def interrupt_set(self, bits: int) -> None: ...

    def interrupt_clear(self, bits: int) -> None: ...


class _Input(Line):
    """An input of the controller. Its level is the bit in the block, which native code changes too."""

    __slots__ = ("_bit", "_gic", "_word")

    def __init__(self, gic: Gic, word: int, bit: int) -> None:
        """Bit mask `bit` of a word of the bit arrays."""
        self._gic, self._word, self._bit = gic, word, bit
        self._sink = None

    @property
    def level(self) -> bool:
        return bool(self._gic.words[LEVEL // 4 + self._word] & self._bit)

    @level.setter
    def level(self, level: bool) -> None:
        self._gic.drive(self._word, self._bit, level)


class Gic:
    """The controller's state and rules; `distributor` and `interface` are its two faces on the bus."""

    def __init__(self, cpus: int, space: AddressSpace) -> None:
        """`space` tells which CPU makes an access (`initiator`): banked registers depend on it."""
        assert 1 <= cpus <= MAX_CPUS
        self.cpus = cpus
        self.space = space
        self.memory = HostMemory(STATE_SIZE, "the interrupt controller")
        self.words = self.memory.words
        self.bytes = self.memory.bytes
        self._targets: Sequence[InterruptTarget] = ()
        self._lines: dict[tuple[int, int], Line] = {}
        self.distributor = Distributor(self)
        self.interface = CpuInterface(self)
        self.reset()

    def connect(self, targets: Sequence[InterruptTarget]) -> None:
        """Wire the IRQ lines to the vCPUs, once they are there; line n to vCPU n, which native code knows."""
        self._targets = targets
        self.update()

    def reset(self) -> None:
        """Power-on state. Input lines keep their levels: they belong to the devices."""
        kept = [(start, bytes(self.bytes[start : start + size])) for start, size in ((LEVEL, 0x40), (ASSERTED, 0x20))]
        self.bytes[:] = bytes(STATE_SIZE)
        for start, data in kept:
            self.bytes[start : start + len(data)] = data
        for cpu in range(MAX_CPUS):
            self.words[EDGE // 4 + cpu] = SGI_EDGES
            self.words[ENABLED // 4 + cpu] = SGI_EDGES
        if self.cpus == 1:  # a uniprocessor's ITARGETSR is 0 and everything goes to its CPU
            self.bytes[TARGETED : TARGETED + 32] = b"\xff" * 32
        for index in range(2 * MAX_CPUS):
            self.refresh(index)
        self.update()

    # --- input lines

    def spi(self, number: int) -> Line:
        """The input of shared interrupt `number` (0-255), which is interrupt 32 + number."""
        return self._line(0, PRIVATE + number)

    def ppi(self, cpu: int, number: int) -> Line:
        """The input of a CPU's private interrupt `number` (0-15), which is interrupt 16 + number."""
        return self._line(cpu, SGIS + number)

    def _line(self, cpu: int, interrupt: int) -> Line:
        """The input's one line, however often it is asked for."""
        place = self._place(cpu, interrupt)
        if place not in self._lines:
            self._lines[place] = _Input(self, *place)
        return self._lines[place]

    def drive(self, word: int, bit: int, level: bool) -> None:
        """Change the level of the input that is `bit` of a word of the bit arrays."""
        words = self.words
        if level:
            words[LEVEL // 4 + word] |= bit
            if words[EDGE // 4 + word] & bit:
                words[LATCHED // 4 + word] |= bit
        else:
            words[LEVEL // 4 + word] &= ~bit
        self.refresh(word)

    @staticmethod
    def _place(cpu: int, interrupt: int) -> tuple[int, int]:
        """The word of a bit array, and the bit in it."""
        word = interrupt >> 5
        return (7 + word if word else cpu), 1 << (interrupt & 31)

    # --- what is to be taken

    def pending_word(self, index: int) -> int:
        """The pending interrupts of one word of the bit arrays."""
        words = self.words
        return words[LATCHED // 4 + index] | words[LEVEL // 4 + index] & ~words[EDGE // 4 + index]

    def refresh(self, index: int) -> None:
        """Bring READY and the IRQ lines up to date after word `index` of the bit arrays has changed."""
        words = self.words
        bits = (
            (words[LATCHED // 4 + index] | words[LEVEL // 4 + index] & ~words[EDGE // 4 + index])
            & words[ENABLED // 4 + index]
            & ~words[ACTIVE // 4 + index]
        )
        if index < MAX_CPUS:
            if index < self.cpus:
                self._set_ready(index, 0, bits)
            return
        word = index - 7
        for cpu in range(self.cpus):
            self._set_ready(cpu, word, bits & words[TARGETED // 4 + 8 * cpu + word - 1])

    def _set_ready(self, cpu: int, word: int, bits: int) -> None:
        place = READY // 4 + READY_WORDS * cpu + word
        if self.words[place] != bits:
            self.words[place] = bits
            if bits:
                self.words[READY_SUMMARY // 4 + cpu] |= 1 << word
            else:
                self.words[READY_SUMMARY // 4 + cpu] &= ~(1 << word)
            self.update_cpu(cpu)

    def best(self, cpu: int) -> tuple[int, int]:
        """The highest-priority interrupt that could be forwarded to `cpu`, and its priority: (1023, 256) for none."""
        words, priorities = self.words, self.bytes
        interrupt, priority = SPURIOUS, 0x100
        summary = words[READY_SUMMARY // 4 + cpu]
        while summary:
            word = (summary & -summary).bit_length() - 1
            summary &= summary - 1
            bits = words[READY // 4 + READY_WORDS * cpu + word]
            base = PRIORITY + (0xE0 + 32 * word if word else 32 * cpu)
            while bits:
                number = (bits & -bits).bit_length() - 1
                bits &= bits - 1
                if priorities[base + number] < priority:
                    priority = priorities[base + number]
                    interrupt = 32 * word + number
        return interrupt, priority

    def running_priority(self, cpu: int) -> int:
        """The group priority of the most urgent interrupt that is active on `cpu`, or 0xFF."""
        base = self._interface(cpu) + APR
        for n in range(4):
            bits = self.words[base + n]
            if bits:
                return 64 * n + 2 * ((bits & -bits).bit_length() - 1)
        return IDLE_PRIORITY

    def group_mask(self, cpu: int) -> int:
        """The bits of a priority that decide about preemption (BPR)."""
        return 0xFF << (self.words[self._interface(cpu) + BPR] + 1) & 0xFF

    def forwarded(self, cpu: int) -> tuple[int, int]:
        """The best interrupt that `cpu`'s interface lets through: it is enabled and the priority mask allows it."""
        words, base = self.words, self._interface(cpu)
        if not words[READY_SUMMARY // 4 + cpu] or not words[base + CTLR] & words[DISTRIBUTOR_CTLR // 4] & CTLR_ENABLE:
            return SPURIOUS, 0x100
        interrupt, priority = self.best(cpu)
        return (interrupt, priority) if priority < words[base + PMR] else (SPURIOUS, 0x100)

    def to_take(self, cpu: int) -> tuple[int, int]:
        """The interrupt that `cpu`'s IRQ line stands for now, and its priority: (1023, 256) for none."""
        interrupt, priority = self.forwarded(cpu)
        if interrupt == SPURIOUS:
            return interrupt, priority
        running = self.running_priority(cpu)
        if running != IDLE_PRIORITY and priority & self.group_mask(cpu) >= running:
            return SPURIOUS, 0x100
        return interrupt, priority

    def update(self) -> None:
        """Set every CPU's IRQ line to what follows from the state."""
        for cpu in range(self.cpus):
            self.update_cpu(cpu)

    def update_cpu(self, cpu: int) -> None:
        """Set a CPU's IRQ line to what follows from the state."""
        wanted = self.to_take(cpu)[0] != SPURIOUS
        if wanted != self.words[ASSERTED // 4 + cpu] and self._targets:
            self.words[ASSERTED // 4 + cpu] = wanted
            target = self._targets[cpu]
            (target.interrupt_set if wanted else target.interrupt_clear)(IRQ)

    def _interface(self, cpu: int) -> int:
        return INTERFACE // 4 + INTERFACE_WORDS * cpu

    # --- acknowledge and end

    def acknowledge(self, cpu: int) -> int:
        """Take the interrupt: what IAR reads. An SGI's source CPU is in bits 12:10."""
        interrupt, priority = self.to_take(cpu)
        if interrupt == SPURIOUS:
            return SPURIOUS
        words = self.words
        index, bit = self._place(cpu, interrupt)
        source = 0
        if interrupt < SGIS:
            place = SGI_SOURCES + SGIS * cpu + interrupt
            sources = self.bytes[place]
            self.bytes[place] = sources & (sources - 1)
            source = (sources & -sources).bit_length() - 1
            if not self.bytes[place]:
                words[LATCHED // 4 + index] &= ~bit
        else:
            words[LATCHED // 4 + index] &= ~bit
        words[ACTIVE // 4 + index] |= bit
        level = (priority & self.group_mask(cpu)) >> 1
        words[self._interface(cpu) + APR + (level >> 5)] |= 1 << (level & 31)
        self.refresh(index)  # also lowers this CPU's line: the interrupt is ready no more
        return interrupt | source << 10

    def end(self, cpu: int, interrupt: int) -> None:
        """What writing EOIR does: drop the priority and, unless DIR is to do it, deactivate."""
        if interrupt >= INTERRUPTS:
            return
        base = self._interface(cpu) + APR
        for n in range(4):
            bits = self.words[base + n]
            if bits:
                self.words[base + n] = bits & (bits - 1)
                break
        else:
            return  # nothing is active on this CPU
        if not self.words[self._interface(cpu) + CTLR] & CTLR_EOI_MODE:
            self._clear_active(cpu, interrupt)
        self.update_cpu(cpu)

    def deactivate(self, cpu: int, interrupt: int) -> None:
        """What writing DIR does."""
        if interrupt < INTERRUPTS and self.words[self._interface(cpu) + CTLR] & CTLR_EOI_MODE:
            self._clear_active(cpu, interrupt)

    def _clear_active(self, cpu: int, interrupt: int) -> None:
        index, bit = self._place(cpu, interrupt)
        self.words[ACTIVE // 4 + index] &= ~bit
        self.refresh(index)

    # --- software-generated interrupts

    def send(self, source: int, interrupt: int, targets: int) -> None:
        """Make SGI `interrupt` pending on each CPU of the mask `targets`."""
        for cpu in range(self.cpus):
            if targets >> cpu & 1:
                self.bytes[SGI_SOURCES + SGIS * cpu + interrupt] |= 1 << source
                self.words[LATCHED // 4 + cpu] |= 1 << interrupt
                self.refresh(cpu)

    def set_sgi_sources(self, cpu: int, interrupt: int, sources: int) -> None:
        """Change who has sent SGI `interrupt` to `cpu` (SPENDSGIR, CPENDSGIR)."""
        self.bytes[SGI_SOURCES + SGIS * cpu + interrupt] = sources
        if sources:
            self.words[LATCHED // 4 + cpu] |= 1 << interrupt
        else:
            self.words[LATCHED // 4 + cpu] &= ~(1 << interrupt)
        self.refresh(cpu)

    def set_targets(self, interrupt: int, mask: int) -> None:
        """Send interrupt `interrupt` (32-287) to the CPUs of `mask`."""
        mask &= (1 << self.cpus) - 1
        self.bytes[TARGETS + interrupt - PRIVATE] = mask
        word, bit = (interrupt >> 5) - 1, 1 << (interrupt & 31)
        for cpu in range(self.cpus):
            place = TARGETED // 4 + 8 * cpu + word
            if mask >> cpu & 1:
                self.words[place] |= bit
            else:
                self.words[place] &= ~bit
        self.refresh(7 + (interrupt >> 5))


class Distributor(Device):
    """The distributor's registers (IHI 0048B, 4.3)."""

    NAME = "gic-distributor"
    SIZE = 0x1_0000
    REGISTERS: ClassVar = (
        Register(0x000, "CTLR", writable=CTLR_ENABLE),
        Register(0x004, "TYPER"),
        Register(0x008, "IIDR", reset=0x43B),
        Register(0x080, "IGROUPR", count=WORDS, readable=0, writable=MASK),
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
        """Where the initiator's view of 32 interrupts is in the bit arrays."""
        return 7 + word if word else self._gic.space.initiator

    # --- the controller as a whole

    def read_CTLR(self, _: int) -> int:
        return self._gic.words[DISTRIBUTOR_CTLR // 4]

    def write_CTLR(self, _: int, value: int, mask: int) -> None:
        self._gic.words[DISTRIBUTOR_CTLR // 4] = value
        self._gic.update()

    def read_TYPER(self, _: int) -> int:
        return self._gic.cpus - 1 << 5 | WORDS - 1

    def write_IGROUPR(self, _: int, value: int, mask: int) -> None:
        """There are no groups: every interrupt stays in group 0."""

    # --- one bit an interrupt

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
            value &= ~SGI_EDGES  # SGIs are made pending by SGIR and SPENDSGIR
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

    # --- two bits an interrupt: the upper one is 1 for an edge

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

    # --- a byte an interrupt

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
        if n < 8:  # private interrupts go to the CPU that asks
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
        Register(0x00, "CTLR", writable=CTLR_ENABLE | CTLR_EOI_MODE),
        Register(0x04, "PMR", readable=0xFF, writable=0xFF),
        Register(0x08, "BPR", readable=7, writable=7),
        Register(0x0C, "IAR"),
        Register(0x10, "EOIR", readable=0, writable=0x1FFF),
        Register(0x14, "RPR"),
        Register(0x18, "HPPIR"),
        Register(0xD0, "APR", count=4, writable=MASK),
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

    def read_IAR(self, _: int) -> int:
        return self._gic.acknowledge(self._gic.space.initiator)

    def write_EOIR(self, _: int, value: int, mask: int) -> None:
        self._gic.end(self._gic.space.initiator, value & 0x3FF)

    def read_RPR(self, _: int) -> int:
        return self._gic.running_priority(self._gic.space.initiator)

    def read_HPPIR(self, _: int) -> int:
        cpu = self._gic.space.initiator
        interrupt = self._gic.forwarded(cpu)[0]
        if interrupt < SGIS:
            sources = self._gic.bytes[SGI_SOURCES + SGIS * cpu + interrupt]
            interrupt |= (sources & -sources).bit_length() - 1 << 10
        return interrupt

    def read_APR(self, n: int) -> int:
        return self._gic.words[self._place(APR + n)]

    def write_APR(self, n: int, value: int, mask: int) -> None:
        self._write(APR + n, value, mask)

    def write_DIR(self, _: int, value: int, mask: int) -> None:
        self._gic.deactivate(self._gic.space.initiator, value & 0x3FF)
