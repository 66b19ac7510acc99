# SPDX-License-Identifier: Apache-2.0
"""Register allocation in one pass: a value has one location for its whole life, from its definition to its last use.

Lives follow the order of the list, and extend over loops (`raddle.codegen.values`), so control flow needs no moves.
Registers come from pools, one for each of the host's register classes (`raddle.codegen.locations`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from raddle.codegen.locations import FRAME_SLOTS, SLOTS, Register, RegisterClass, Slot
from raddle.codegen.values import ValueAnalysis
from raddle.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from raddle.ir.builder import Instruction

FREED: Final = -2
"""Last use of a value whose register or slot was given back."""
_SLOT_SIZE: Final = 8
_KEPT_SLOTS: Final = 24
"""Slots that `Allocation.SPILLING` leaves for values that need one."""


class CodegenError(MachineError):
    """IR that a back end cannot compile; says which operation and why."""


class Allocation(IntEnum):
    """How `Allocator.define` chooses. All choices but the usual one are for tests: they reveal an emitter that reads an
    operand after it has written the result, or that works only with the usual choice.
    """

    USUAL = 0
    SHARING = 1
    """A result takes the register of the last operand that it may share one with."""
    APART = 2
    """A result shares no register with an operand."""
    SPILLING = 3
    """Results have frame slots, as long as there are any."""


class RegisterPool:
    """The registers of one class that values can have."""

    __slots__ = ("free", "preserved", "register_class", "registers", "scratch")

    def __init__(
        self, register_class: RegisterClass, registers: Iterable[int], scratch: int, preserved: Iterable[int] = ()
    ) -> None:
        """Registers are given by number. Values get ``registers``, the first ones first; fields of the guest's state
        are pinned to others. ``preserved`` are those of them that calls preserve, in the order in which values that
        live across a call get them. ``scratch`` is for results that nothing uses or that go to a slot; no value stays
        there after its operation.
        """
        self.register_class = register_class
        self.registers = tuple([register_class[number] for number in registers])
        self.scratch = register_class[scratch]
        self.preserved = tuple([register_class[number] for number in preserved])
        self.free = list(self.registers)

    def is_free(self, number: int) -> bool:
        """Whether the register is one that no value has."""
        return self.register_class[number] in self.free


class Allocator(ValueAnalysis):
    """Gives values their registers and frame slots. A mixin, like `ValueAnalysis`."""

    pools: Mapping[RegisterClass, RegisterPool]
    """Of all classes that values can be in."""
    allocation: Allocation
    """`CodegenConfig.allocation`."""
    preserved_used: set[Register]
    """Registers that the code must save and restore."""
    frame_used: int
    free_slots: list[Slot]
    """Slots below `frame_used` whose values are dead."""
    pending: Register | None
    """The register to store to the frame slot of the current instruction."""
    position: int
    """Of the current instruction."""

    @abstractmethod
    def pool(self, ins: Instruction) -> RegisterPool:
        """The pool that `ins` gets its register from, by type or operation."""

    def begin_allocation(self, locals: int) -> None:
        """Call this before emitting a function with this many locals."""
        for pool in self.pools.values():
            pool.free = list(pool.registers)
        self.preserved_used = set()
        self.frame_used = 1 + locals
        self.free_slots = []
        self.pending = None

    def release(self, ins: Instruction, position: int) -> None:
        """Free the places of operands that die at `position`, where `ins` is, and of a result that nothing uses."""
        for arg in ins.args:
            if arg.last_use == position and arg.location is not None:
                self._free(arg)
        # Flags that wait in a slot stay there: a loop may come back to what reads them.
        if ins.last_use < 0 and isinstance(ins.location, Register):
            self._free(ins)

    def _free(self, value: Instruction) -> None:
        """Free the register or the slot of a value that dies here, only once: `define` may hand it out again at the
        same place.
        """
        place = value.location
        if isinstance(place, Register):
            value.last_use = FREED
            pool = self.pools[place.register_class]
            if place in pool.registers and place not in pool.free:
                pool.free.append(place)
        elif isinstance(place, Slot) and value.type.size <= _SLOT_SIZE:
            value.last_use = FREED
            self.free_slots.append(place)

    @abstractmethod
    def store_slot(self, slot: Slot, register: Register) -> None:
        """Store all of the register to a frame slot; no effect on the host's flags."""

    def settle(self, ins: Instruction) -> None:
        """Right after the host instruction that computed `ins`: store it to its frame slot, if that is its location."""
        if self.pending is not None:
            assert isinstance(ins.location, Slot)
            self.store_slot(ins.location, self.pending)
            self.pending = None

    def slot(self, size: int = _SLOT_SIZE) -> Slot:
        """A frame slot that no value has, for `size` bytes. Raises CodegenError when the frame is full."""
        if self.free_slots and size <= _SLOT_SIZE:
            return self.free_slots.pop()
        number = self.frame_used
        self.frame_used = number + (size + _SLOT_SIZE - 1) // _SLOT_SIZE
        if self.frame_used > FRAME_SLOTS:
            raise CodegenError("one instruction needs more values at a time than the frame has slots for")
        return SLOTS[number]

    def _crosses_call(self, ins: Instruction) -> bool:
        first, last = ins.position, ins.last_use
        for call in self.calls:  # noqa: SIM110  # most lists are short, and then a generator costs more
            if first < call < last:
                return True
        return False

    def define(self, ins: Instruction, consumed: Sequence[Instruction] = ()) -> int:
        """The number of the register to compute `ins` in, in the class of its `pool`.

        It may be the register of an operand in `consumed`, and of no other operand. The emitter must not read those
        operands after the host instruction that first writes the result; that instruction may read them itself.

        A spilled value is computed in the pool's scratch register and goes to its slot after the operation.
        """
        pool = self.pool(ins)
        hint = self.hints.get(ins)
        if hint is not None:
            if hint.register_class is pool.register_class and self._may_overwrite(hint, ins, consumed):
                ins.location = hint
                return hint.number
            del self.hints[ins]
        if ins.last_use < 0:
            ins.location = pool.scratch
            return pool.scratch.number
        register = None
        free = pool.free
        if self.calls and self._crosses_call(ins):
            register = next((preserved for preserved in pool.preserved if preserved in free), None)
        elif self.allocation:
            register = self._choose_otherwise(pool, consumed)
        else:
            position = self.position
            for arg in consumed:
                if arg.last_use == position:
                    self._free(arg)
            if free:
                first = ins.args[0].location if ins.args else None
                register = first if isinstance(first, Register) and first in free else free[0]
        if register is None:
            ins.location = self.slot(ins.type.size)
            self.pending = pool.scratch
            return pool.scratch.number
        free.remove(register)
        if register in pool.preserved:
            self.preserved_used.add(register)
        ins.location = register
        return register.number

    def _may_overwrite(self, register: Register, ins: Instruction, consumed: Sequence[Instruction]) -> bool:
        apart = self.allocation is Allocation.APART
        if consumed is ins.args and not apart:
            return True
        return not any(arg.location is register and (apart or arg not in consumed) for arg in ins.args)

    def _choose_otherwise(self, pool: RegisterPool, consumed: Sequence[Instruction]) -> Register | None:
        """For tests: a free register, or that of an operand that dies here; None to use none."""
        free = pool.free
        if self.allocation is Allocation.SPILLING and self.frame_used < FRAME_SLOTS - _KEPT_SLOTS:
            return None
        if self.allocation is Allocation.SHARING:
            for arg in reversed(consumed):
                if arg.last_use == self.position:
                    self._free(arg)
                    if arg.location in free:
                        assert isinstance(arg.location, Register)
                        return arg.location
        return free[0] if free else None
