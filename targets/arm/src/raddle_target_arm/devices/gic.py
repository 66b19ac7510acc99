# SPDX-License-Identifier: Apache-2.0
"""GICv2 interrupt controller (ARM IHI 0048B) for 1 to 8 CPUs, without Security Extensions: both interrupt groups, which
every access sees; one distributor and a CPU interface for each CPU, 288 interrupts.

Its state is in the block that raddle_target_arm.devices.gic_layout describes. The rules here are the reference for the
native ones in raddle_target_arm.devices.gic_routines.

A CPU's interface sees only the most urgent pending interrupt of both groups. So one whose group is disabled hides less
urgent ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, Protocol

from raddle.machine.lines import Line
from raddle.memory import AddressSpace, HostMemory
from raddle.stateful import Stateful
from raddle_target_arm.devices.gic_layout import (
    ABPR,
    ABPR_MIN,
    ACTIVE,
    APR,
    ASSERTED,
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
    IDLE_PRIORITY,
    INTERFACE,
    INTERFACE_WORDS,
    INTERRUPTS,
    LATCHED,
    LEVEL,
    MAX_CPUS,
    NSAPR,
    OTHER_GROUP,
    PMR,
    PRIORITY,
    PRIVATE,
    READY,
    READY_SUMMARY,
    READY_WORDS,
    RUNNING,
    SGI_EDGES,
    SGI_SOURCES,
    SGIS,
    SPURIOUS,
    STATE_SIZE,
    TARGETED,
    TARGETS,
)

__all__ = ["FIQ", "IRQ", "Gic", "InterruptTarget"]

IRQ: Final = 1 << 0
FIQ: Final = 1 << 1
"""The bits of `interrupt_set` that are the CPU's lines."""


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

    def restore(self, level: bool) -> None:
        """The controller restores the block."""


class Gic(Stateful):
    """The controller's state and rules. Its registers are in raddle_target_arm.devices.gic_registers."""

    STATE: ClassVar = ("memory",)

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
        self.reset()

    def connect(self, targets: Sequence[InterruptTarget]) -> None:
        """Wire the lines of interface n to vCPU n, which native code relies on."""
        self._targets = targets
        self.update()

    def disconnect(self) -> None:
        """The machine is closed: drop the vCPUs and the lines, which refer back to the controller."""
        self._targets = ()
        self._lines.clear()

    def reset(self) -> None:
        """Power-on state. Input lines keep their levels: they belong to the devices."""
        kept = [(start, bytes(self.bytes[start : start + size])) for start, size in ((LEVEL, 0x40), (ASSERTED, 0x20))]
        self.bytes[:] = bytes(STATE_SIZE)
        for start, data in kept:
            self.bytes[start : start + len(data)] = data
        for cpu in range(MAX_CPUS):
            self.words[EDGE // 4 + cpu] = SGI_EDGES
            self.words[ENABLED // 4 + cpu] = SGI_EDGES
            self.words[self._interface(cpu) + ABPR] = ABPR_MIN
            self.words[RUNNING // 4 + cpu] = IDLE_PRIORITY
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
        """The input's line, the same one at each call."""
        place = self.place(cpu, interrupt)
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
    def place(cpu: int, interrupt: int) -> tuple[int, int]:
        """The word of a bit array, and the bit in it."""
        word = interrupt >> 5
        return (7 + word if word else cpu), 1 << (interrupt & 31)

    # --- what is to be taken

    def pending_word(self, index: int) -> int:
        """The pending interrupts of one word of the bit arrays."""
        words = self.words
        return words[LATCHED // 4 + index] | words[LEVEL // 4 + index] & ~words[EDGE // 4 + index]

    def refresh(self, index: int) -> None:
        """Bring READY and the CPUs' lines up to date after word `index` of the bit arrays has changed."""
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

    def group(self, cpu: int, interrupt: int) -> int:
        """The group, 0 or 1, of an interrupt of `cpu`."""
        index, bit = self.place(cpu, interrupt)
        return 1 if self.words[GROUP // 4 + index] & bit else 0

    def running_priority(self, cpu: int) -> int:
        """The group priority of the most urgent interrupt that is active on `cpu`, or 0xFF."""
        return self.words[RUNNING // 4 + cpu]

    def update_running(self, cpu: int) -> None:
        """Bring the running priority up to date after APR or NSAPR has changed."""
        words, base = self.words, self._interface(cpu)
        for n in range(4):
            bits = words[base + APR + n] | words[base + NSAPR + n]
            if bits:
                words[RUNNING // 4 + cpu] = 64 * n + 2 * ((bits & -bits).bit_length() - 1)
                return
        words[RUNNING // 4 + cpu] = IDLE_PRIORITY

    def group_mask(self, cpu: int, group: int) -> int:
        """The bits of a priority that decide about preemption: BPR's for group 0, ABPR's for group 1 unless CBPR."""
        words, base = self.words, self._interface(cpu)
        if group and not words[base + CTLR] & CTLR_COMMON_POINT:
            return 0xFF << words[base + ABPR] & 0xFF
        return 0xFF << (words[base + BPR] + 1) & 0xFF

    def forwarded(self, cpu: int) -> tuple[int, int]:
        """The most urgent interrupt, if its group is enabled and the mask lets it through, and its priority."""
        words, base = self.words, self._interface(cpu)
        enables = words[base + CTLR] & words[DISTRIBUTOR_CTLR // 4] & GROUP_ENABLES
        if not words[READY_SUMMARY // 4 + cpu] or not enables:
            return SPURIOUS, 0x100
        interrupt, priority = self.best(cpu)
        if priority < words[base + PMR] and enables >> self.group(cpu, interrupt) & 1:
            return interrupt, priority
        return SPURIOUS, 0x100

    def to_take(self, cpu: int) -> tuple[int, int]:
        """The interrupt that `cpu`'s lines signal now, and its priority: (1023, 256) for none."""
        interrupt, priority = self.forwarded(cpu)
        if interrupt == SPURIOUS:
            return interrupt, priority
        running = self.running_priority(cpu)
        if running != IDLE_PRIORITY and priority & self.group_mask(cpu, self.group(cpu, interrupt)) >= running:
            return SPURIOUS, 0x100
        return interrupt, priority

    def update(self) -> None:
        """Set every CPU's lines as the state requires."""
        for cpu in range(self.cpus):
            self.update_cpu(cpu)

    def update_cpu(self, cpu: int) -> None:
        """Set a CPU's lines as the state requires: at most one is up."""
        interrupt = self.to_take(cpu)[0]
        wanted = 0
        if interrupt != SPURIOUS:
            by_fiq = self.words[self._interface(cpu) + CTLR] & CTLR_FIQ and not self.group(cpu, interrupt)
            wanted = FIQ if by_fiq else IRQ
        asserted = self.words[ASSERTED // 4 + cpu]
        if wanted != asserted and self._targets:
            self.words[ASSERTED // 4 + cpu] = wanted
            if asserted:
                self._targets[cpu].interrupt_clear(asserted)
            if wanted:
                self._targets[cpu].interrupt_set(wanted)

    def _interface(self, cpu: int) -> int:
        return INTERFACE // 4 + INTERFACE_WORDS * cpu

    # --- acknowledge and end; `alias` selects the registers for group 1: AIAR, AEOIR, AHPPIR

    def visible(self, cpu: int, interrupt: int, alias: bool) -> int:
        """What a read of IAR or HPPIR, or of an alias, returns for this interrupt: its number, 1022 or 1023."""
        if interrupt == SPURIOUS:
            return SPURIOUS
        group = self.group(cpu, interrupt)
        if alias:
            return interrupt if group else SPURIOUS
        acknowledges = not group or self.words[self._interface(cpu) + CTLR] & CTLR_ACKNOWLEDGE
        return interrupt if acknowledges else OTHER_GROUP

    def acknowledge(self, cpu: int, alias: bool = False) -> int:
        """Take the interrupt and return what IAR reads. Bits 12:10 have an SGI's source CPU."""
        interrupt, priority = self.to_take(cpu)
        shown = self.visible(cpu, interrupt, alias)
        if shown >= INTERRUPTS:
            return shown
        words = self.words
        index, bit = self.place(cpu, interrupt)
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
        group = self.group(cpu, interrupt)
        running = priority & self.group_mask(cpu, group)
        words[self._interface(cpu) + (NSAPR if group else APR) + (running >> 6)] |= 1 << (running >> 1 & 31)
        words[RUNNING // 4 + cpu] = running  # whatever was active before is less urgent
        self.refresh(index)  # also lowers this CPU's line: the interrupt is ready no more
        return interrupt | source << 10

    def end(self, cpu: int, interrupt: int, alias: bool = False) -> None:
        """Do what a write to EOIR does: drop the priority and, unless that is left to DIR, deactivate."""
        if interrupt >= INTERRUPTS or self.running_priority(cpu) == IDLE_PRIORITY:
            return  # nothing is active on this CPU
        group = self.group(cpu, interrupt)
        if alias and not group:
            return
        base = self._interface(cpu) + (NSAPR if group else APR)
        for n in range(4):
            bits = self.words[base + n]
            if bits:
                self.words[base + n] = bits & (bits - 1)
                break
        self.update_running(cpu)
        if not self.words[self._interface(cpu) + CTLR] & CTLR_EOI_MODE:
            self._clear_active(cpu, interrupt)
        self.update_cpu(cpu)

    def pending(self, cpu: int, alias: bool = False) -> int:
        """What HPPIR reads: the interrupt that is forwarded, whatever the running priority."""
        interrupt = self.visible(cpu, self.forwarded(cpu)[0], alias)
        if interrupt < SGIS:
            sources = self.bytes[SGI_SOURCES + SGIS * cpu + interrupt]
            interrupt |= (sources & -sources).bit_length() - 1 << 10
        return interrupt

    def deactivate(self, cpu: int, interrupt: int) -> None:
        """Do what a write to DIR does."""
        if interrupt < INTERRUPTS and self.words[self._interface(cpu) + CTLR] & CTLR_EOI_MODE:
            self._clear_active(cpu, interrupt)

    def _clear_active(self, cpu: int, interrupt: int) -> None:
        index, bit = self.place(cpu, interrupt)
        self.words[ACTIVE // 4 + index] &= ~bit
        self.refresh(index)

    # --- software-generated interrupts

    def send(self, source: int, interrupt: int, targets: int) -> None:
        """Make SGI `interrupt` pending on each CPU of the mask `targets`, whatever its group is there."""
        for cpu in range(self.cpus):
            if targets >> cpu & 1:
                self.bytes[SGI_SOURCES + SGIS * cpu + interrupt] |= 1 << source
                self.words[LATCHED // 4 + cpu] |= 1 << interrupt
                self.refresh(cpu)

    def set_sgi_sources(self, cpu: int, interrupt: int, sources: int) -> None:
        """Set which CPUs have sent SGI `interrupt` to `cpu` (SPENDSGIR, CPENDSGIR)."""
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
