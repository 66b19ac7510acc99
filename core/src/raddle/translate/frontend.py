# SPDX-License-Identifier: Apache-2.0
"""What a guest front end provides: the protocol between a target package and the core."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from raddle.ir.builder import Builder
from raddle.ir.types import Field, FloatRules, Hole, StateLayout, Type

if TYPE_CHECKING:
    from raddle.translate.decode import Pattern
    from raddle.translate.sharing import Sharing

RoutineBuilder = Callable[[Builder], None]
"""Builds the body of an IR routine; its arguments are the common fields ``arg0`` … ``arg3``, all I64, read first."""

PythonHelper = Callable[..., "int | None"]
"""A Python helper, called as ``helper(cpu, *args)`` with the GIL held."""


class View(NamedTuple):
    """A register that is kept in several fields of the state."""

    get: Callable[[Any], int]
    """Its value in a vCPU, which is paused or the calling thread's own."""
    set: Callable[[Any, int], None]
    """Write it. Raises ValueError for what it cannot have."""
    bits: int
    """Its width. What `set` is given is not negative, and has no more."""


FAULT_ALIGNMENT = 1 << 16
"""Code that ``fault`` gets for an access that violates its MemOp's alignment."""
FAULT_BUS = 1 << 17
"""Code that ``fault`` gets for a physical address that nothing answers at."""

ACCESS_READ, ACCESS_WRITE, ACCESS_FETCH = 0, 1, 2


class Halves(Enum):
    """Which half of a 32-bit word comes first in memory, where instructions have one or two 16-bit units."""

    HIGH_FIRST = 0
    """Bits 31:16 lie at the lower address, as in T32."""
    LOW_FIRST = 1
    """Bits 15:0 lie at the lower address, as in RISC-V."""


class Wide:
    """Which 16-bit units begin an instruction of two units, and how the two make one word. Immutable.

    A unit begins such an instruction when bit ``unit >> shift & 31`` of the set ``firsts`` is 1. The pictures of 32-bit
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
        """The word of which ``first`` lies at the lower address."""
        return first | second << 16 if self.halves is Halves.LOW_FIRST else first << 16 | second


class InstructionSet(ABC):
    """One encoding space of a guest (A32, T32 …): how to cut, decode and translate its instructions."""

    unit: int
    """Bytes of the smallest instruction, 2 or 4; units are little-endian."""

    wide: Wide | None = None
    """Which instructions have two units of 2 bytes; None: all have one."""

    def word_at(self, data: bytes, position: int = 0) -> tuple[int, int] | None:
        """The instruction word that begins at ``position`` of ``data``, and its size in bytes; None when a part of it
        is not in ``data``."""
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
        """An instruction word of ``size`` bytes as it lies in memory."""
        data = word.to_bytes(size, "little")
        if size > self.unit and self.wide is not None and self.wide.halves is Halves.HIGH_FIRST:
            return data[self.unit :] + data[: self.unit]
        return data

    @abstractmethod
    def decode(self, word: int, size: int) -> Pattern | None:
        """The pattern of an instruction word of ``size`` bytes; None when it is undefined."""

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
        """Emit one instruction (an undefined-instruction exception for None); return the next instruction's decode
        state.

        The emitted code may depend only on the bits of ``word`` in ``pattern.key_mask``, on ``decode_state`` and
        ``mode``; for None not on ``word``. ``operands`` gives other values to the operands that ``sharing`` names.
        """

    def sharing(self, pattern: Pattern) -> Sharing | None:
        """How the words of ``pattern`` share templates; None when each choice of registers has its own."""
        return None

    def disassemble(self, word: int, size: int, pc: int) -> str:
        """Assembly text for logs; need not be exact."""
        return f".word {word:#0{2 * size + 2}x}"


class FrontEnd(ABC):
    """A guest architecture, as the core uses it. Immutable once made; shared by all vCPUs of a machine.

    Attributes that must be set: ``name``; ``word``, the type of addresses; ``page_bits``, log2 of the smallest page, 12
    to 31; ``mmu_indices``, how many translations use; ``state``, the layout of the guest's own state; ``routines`` and
    ``python_helpers``, of which one has ``tlb_fill``, ``fault`` and ``interrupt`` each.

    Attributes with a default: ``fetch_index_shift``, where the block mode has the MMU index of fetches (0); ``floats``,
    the choices in IEEE 754; ``registers``, the fields by register number, for ``InstructionSet.sharing``, None for a
    number that is always zero; ``register_names``, what ``dir(cpu.regs)`` shows besides pc (all fields); ``views``,
    registers that are kept in several fields; ``mode_masks``, bits of the block mode for classes of instructions.
    """

    name: str
    word: Type
    """I32 or I64: type of guest addresses."""
    page_bits: int
    """log2 of the guest's smallest page; at least 12."""
    mmu_indices: int
    """How many MMU indices translations use (at most raddle.ir.types.MMU_INDICES)."""
    fetch_index_shift: int = 0
    """The two bits of the block mode from this one on are the MMU index of instruction fetches."""
    floats: FloatRules = FloatRules()
    """What IEEE 754 leaves to the architecture. The IR's floating-point operations follow it."""
    state: StateLayout
    registers: Sequence[Field | None] = ()
    """The registers by number, at most 64 of all banks, as the numbers of ``InstructionSet.sharing`` mean them. None
    stands for a number that is always zero (RISC-V's x0): semantics functions may ask for that number, and words that
    name it have templates of their own."""
    register_names: Sequence[str] = ()
    """What a user calls a register (`dir(cpu.regs)`), besides pc: names of state fields, and of `views`. Empty for all
    fields; others can be read by their names, too."""
    views: Mapping[str, View] = MappingProxyType({})
    """Registers that are kept in several fields, by their names."""
    mode_masks: Sequence[int] = ()
    """Bits of the block mode that classes of instructions depend on, at most two classes: see ``Sharing``."""
    routines: Mapping[str, RoutineBuilder]
    """IR routines by name; a board's devices may bring others, and replace one by its name
    (``AddressSpace.add_routines``). Names that the runtime calls, as routines or as Python helpers:

    ``tlb_fill(address, access | mmu_index << 8, size) -> 0, or a fault code``: translate and call ``tlb_set``;
    ``fault(address, access | mmu_index << 8, code)``: enter the guest's exception; pc and insn_extra are exact;
    ``interrupt(pending) -> 1 if one was taken``: enter it if the state lets it in; pc is exact.
    """
    python_helpers: Mapping[str, PythonHelper]

    @abstractmethod
    def instruction_set(self, mode: int) -> InstructionSet:
        """The instruction set of blocks in this mode."""

    def initial_decode_state(self, mode: int) -> int:
        """Context of the first instruction of a block in this mode (ARM: ITSTATE on return into an IT block)."""
        return 0

    def prologue(self, b: Builder, mode: int) -> None:
        """Emit what blocks of this mode do before their first instruction; most emit nothing."""

    def epilogue(self, b: Builder, mode: int, decode_state: int) -> None:
        """Emit what a block that ends where it need not does last, before an instruction in ``decode_state``."""

    @abstractmethod
    def reset(self, cpu: Any, entry: int, argument: int) -> None:
        """Put the vCPU into its reset state (``cpu[name]`` reads and writes fields), about to run from ``entry``.

        ``argument`` goes into the register of a first argument. Sets the common fields pc and mode too.
        """

    def power_down_reset(self, cpu: Any, entry: int, argument: int) -> None:
        """The same for a vCPU that was suspended and powered down: what is always on, such as its timers, may stay."""
        self.reset(cpu, entry, argument)

    def connect(self, engine: Any) -> None:
        """Called once when the machine's vCPUs exist: make the native timers and whatever else needs them."""

    def describe(self, cpu: Any) -> str:
        """Registers in the manner of the architecture, for logs and the monitor."""
        return ""
