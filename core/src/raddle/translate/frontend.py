# SPDX-License-Identifier: Apache-2.0
"""What a guest front end provides: the protocol between a target package and the core."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from raddle.ir.builder import Builder
from raddle.ir.header import NO_RESERVATION
from raddle.ir.types import Field, FloatRules, Hole, StateLayout, Type

if TYPE_CHECKING:
    from raddle.translate.decode import Pattern
    from raddle.translate.sharing import Sharing

RoutineBuilder = Callable[[Builder], None]
"""Builds the body of an IR routine. The routine's arguments are the common fields ``arg0`` … ``arg3``, all I64, which
it reads first."""

PythonHelper = Callable[..., "int | None"]
"""A Python helper, called as ``helper(cpu, *args)`` with the GIL held, on the vCPU's thread. Its result is the call's
result; None stands for 0."""


class View(NamedTuple):
    """A register that is kept in several fields of the state."""

    get: Callable[[Any], int]
    """Returns the register's value in a vCPU that is paused, or that the calling thread runs."""
    set: Callable[[Any, int], None]
    """Writes the register, with a number from 0 to 2**bits - 1. Raises ValueError for values it cannot have."""
    bits: int
    """The register's width."""


FAULT_ALIGNMENT = 1 << 16
"""The code that ``fault`` gets for an access that violates its MemOp's alignment."""
FAULT_BUS = 1 << 17
"""The code that ``fault`` gets for an access to a physical address without memory or device."""

ACCESS_READ, ACCESS_WRITE, ACCESS_FETCH = 0, 1, 2
"""Kinds of access: the low byte of the argument ``access`` of ``tlb_fill`` and ``fault``."""


class Halves(Enum):
    """Which half of a 32-bit instruction comes first in memory, in a set with 16-bit and 32-bit instructions."""

    HIGH_FIRST = 0
    """Bits 31:16 lie at the lower address, as in T32."""
    LOW_FIRST = 1
    """Bits 15:0 lie at the lower address, as in RISC-V."""


class Wide:
    """Which 16-bit units begin an instruction of two units, and how the two units make one word. Immutable.

    A unit begins such an instruction if bit ``unit >> shift & 31`` of the set ``firsts`` is 1. The pictures of 32-bit
    instructions in a decode table show the word that ``halves`` describes.
    """

    __slots__ = ("firsts", "halves", "shift")

    def __init__(self, shift: int, firsts: int, halves: Halves) -> None:
        """Raises ValueError for a set that no guest can have."""
        if not 0 <= shift <= 15 or not 0 < firsts < 1 << 32:
            raise ValueError(
                f"Wide({shift}, {firsts:#x}, ...): the shift is 0 to 15, and the set of first units has 32 bits that "
                "are not all 0"
            )
        if halves is Halves.HIGH_FIRST and firsts & 1:
            # The unit 0 with a second half h would be the word h, which is the 16-bit instruction h as well.
            raise ValueError(
                f"Wide({shift}, {firsts:#x}, ...): with the high half first, no unit whose bits {shift + 4}:{shift} "
                "are 0 can begin a 32-bit instruction"
            )
        self.shift, self.firsts, self.halves = shift, firsts, halves

    def begins(self, unit: int) -> bool:
        """Whether ``unit`` is the first half of an instruction of two units."""
        return bool(self.firsts >> (unit >> self.shift & 31) & 1)

    def word(self, first: int, second: int) -> int:
        """The word of two units; ``first`` lies at the lower address."""
        return first | second << 16 if self.halves is Halves.LOW_FIRST else first << 16 | second


class InstructionSet(ABC):
    """One encoding space of a guest (A32, T32 …): how to find, decode and translate its instructions."""

    unit: int
    """Bytes of the smallest instruction, 2 or 4; units are little-endian."""

    wide: Wide | None = None
    """Which instructions have two units of 2 bytes; None if all have one unit."""

    def word_at(self, data: bytes, position: int = 0) -> tuple[int, int] | None:
        """The instruction word that begins at ``position`` of ``data``, and its size in bytes; None if ``data`` ends
        within it."""
        end = position + self.unit
        if end > len(data):
            return None
        word = int.from_bytes(data[position:end], "little")
        if self.wide is None or not self.wide.begins(word):
            return word, self.unit
        if end + self.unit > len(data):
            return None
        return self.wide.word(word, int.from_bytes(data[end : end + self.unit], "little")), 2 * self.unit

    def encoded(self, word: int, size: int) -> bytes:
        """The bytes in memory of an instruction word of ``size`` bytes."""
        data = word.to_bytes(size, "little")
        if size > self.unit and self.wide is not None and self.wide.halves is Halves.HIGH_FIRST:
            return data[self.unit :] + data[: self.unit]
        return data

    @abstractmethod
    def decode(self, word: int, size: int) -> Pattern | None:
        """The pattern of an instruction word of ``size`` bytes; None if the word is undefined."""

    @abstractmethod
    def translate(
        self,
        b: Builder,
        pattern: Pattern | None,
        word: int,
        decode_state: int,
        mode: int,
        operands: Mapping[str, int | Hole] | None = None,
    ) -> int:
        """Emit the IR of one instruction, and return the decode state of the next one. If ``pattern`` is None, emit an
        undefined-instruction exception.

        The code may depend only on the bits of ``word`` in ``pattern.key_mask``, on ``decode_state`` and on ``mode``;
        if ``pattern`` is None, not on ``word``. ``operands`` replaces the values of operands that ``sharing`` names.
        """

    def sharing(self, pattern: Pattern) -> Sharing | None:
        """How the words of ``pattern`` share templates; None if each choice of registers has a template of its own."""
        return None

    def disassemble(self, word: int, size: int, pc: int) -> str:
        """Assembly text for logs; need not be exact. By default, the pattern's name and its operands."""
        pattern = self.decode(word, size)
        if pattern is None:
            return f".word {word:#0{2 * size + 2}x}"
        return f"{pattern.name} {' '.join(f'{name}={value}' for name, value in pattern.values(word).items())}".rstrip()


_CLEARED: Final = ("fp_rounding", "fp_flush", "fp_default_nan", "fp_flags", "event", "insn_extra")
_ALL_LINES: Final = (1 << 32) - 1
LINE_REGISTERS: Final = 4
"""Registers in a line of `register_lines`."""


def register_lines(registers: Iterable[tuple[str, int]], digits: int) -> list[str]:
    """Names and values of registers, four in a line, with so many hexadecimal digits: for `FrontEnd.describe`."""
    shown = [f"{name:>4}={value:0{digits}x}" for name, value in registers]
    return [" ".join(shown[first : first + LINE_REGISTERS]) for first in range(0, len(shown), LINE_REGISTERS)]


class FrontEnd(ABC):
    """A guest architecture, as the core uses it. Immutable once made; shared by all vCPUs of a machine.

    These attributes must be set: ``name``, ``word``, ``page_bits``, ``mmu_indices``, ``state``, ``routines`` and
    ``python_helpers``. The others have defaults.
    """

    name: str
    word: Type
    """The type of guest addresses: I32 or I64."""
    page_bits: int
    """log2 of the guest's smallest page in bytes; 12 to 31."""
    mmu_indices: int
    """How many MMU indices translations use; at most raddle.ir.types.MMU_INDICES."""
    fetch_index_shift: int = 0
    """The position of the MMU index of instruction fetches, two bits, in the block mode."""
    linear_indices: Sequence[int] = ()
    """The MMU indices at which code mostly reaches memory through one linear mapping, such as a kernel's. On some hosts
    loads from there take less time, and loads from elsewhere at these indices more."""
    floats: FloatRules = FloatRules()
    """What IEEE 754 leaves to the architecture. The IR's floating-point operations follow it."""
    state: StateLayout
    """The guest's own state."""
    registers: Sequence[Field | None] = ()
    """The registers, at most 64 of all banks, by the register numbers that ``InstructionSet.sharing`` uses. None stands
    for a number that is always zero (RISC-V's x0): semantics functions may check for that number, and words that name
    it have templates of their own."""
    register_names: Sequence[str] = ()
    """The registers that ``dir(cpu.regs)`` shows besides pc: names of state fields and of ``views``. Empty for all
    fields. Fields that are not listed can be read by their names, too."""
    views: Mapping[str, View] = MappingProxyType({})
    """Registers that are kept in several fields, by their names."""
    mode_masks: Sequence[int] = ()
    """For each class of instructions, at most two, the bits of the block mode that they depend on: see ``Sharing``."""
    routines: Mapping[str, RoutineBuilder]
    """IR routines by name. A board's devices may add routines, and replace those here, which then have the same name
    (``AddressSpace.add_routines``). The runtime calls three names, each of which is here or in ``python_helpers``:

    ``tlb_fill(address, access | mmu_index << 8, size)`` translates, calls ``tlb_set`` and returns 0, or returns a fault
    code;
    ``fault(address, access | mmu_index << 8, code)`` enters the guest's exception; pc and insn_extra are exact;
    ``interrupt(pending)`` enters an interrupt, if the guest's state allows it, and returns 1 if it did, else 0; pc is
    exact.
    """
    python_helpers: Mapping[str, PythonHelper]
    """Helpers in Python, by name."""

    @abstractmethod
    def instruction_set(self, mode: int) -> InstructionSet:
        """The instruction set of blocks in this mode."""

    def initial_decode_state(self, mode: int) -> int:
        """The decode state of a block's first instruction (ARM: ITSTATE after a return into an IT block)."""
        return 0

    def prologue(self, b: Builder, mode: int) -> None:
        """Emit what blocks of this mode do before their first instruction; most front ends emit nothing."""

    def epilogue(self, b: Builder, mode: int, decode_state: int) -> None:
        """Emit what a block does last if it ends, at its page's end or at its greatest length, before an instruction
        whose decode state is ``decode_state``, which is not 0.
        """

    @abstractmethod
    def reset(self, cpu: Any, entry: int, argument: int) -> None:
        """Put the vCPU into its reset state, and set its pc to ``entry`` (``cpu[name]`` reads and writes fields).

        ``argument`` goes into the register of a function's first argument. Sets the common fields pc and mode, and all
        others that the guest changes, since nothing else resets them: `clear` does most of it. Called at each power-on,
        also at the first one. Leave interrupt_request alone: its lines are the devices'.
        """

    def power_down_reset(self, cpu: Any, entry: int, argument: int) -> None:
        """Reset a vCPU that was suspended and powered down. Parts that are always on, such as its timers, may keep
        their state.
        """
        self.reset(cpu, entry, argument)

    def clear(self, cpu: Any, kept: Container[str] = ()) -> None:
        """For `reset`: set the guest's own fields, but for those in ``kept``, and the common ones of floating point and
        events to 0, let every interrupt line wake the vCPU (``interrupt_mask``), and end the reservation.
        """
        for name in (*self.state.fields, *_CLEARED):
            if name not in kept:
                cpu[name] = 0
        cpu["interrupt_mask"] = _ALL_LINES
        cpu["exclusive_address"] = NO_RESERVATION

    def connect(self, engine: Any) -> None:
        """Called once, after the machine's vCPUs are made: make native timers, and whatever else needs the vCPUs."""

    def describe(self, cpu: Any) -> str:
        """The registers as the architecture's users print them, for logs and the monitor."""
        return ""
