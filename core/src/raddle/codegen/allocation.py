# SPDX-License-Identifier: Apache-2.0
"""Register allocation in one pass: a value has one location for its whole life, from its definition to its last use.

Lives are in the order of the list, extended round loops (`raddle.codegen.values`), so control flow needs no moves.
Locations are numbers: a host register's, a frame slot's or a place in the guest's state, see there. A host may have
kinds of its own besides, below 0: condition flags, say.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Final

from raddle.codegen.values import SPILL, ValueAnalysis
from raddle.ir.opcodes import Op

if TYPE_CHECKING:
    from collections.abc import Collection

    from raddle.ir.builder import Instruction

FREED: Final = -2
"""Last use of a value whose register was given back."""
FRAME_SLOTS: Final = 64
"""Slots of 8 bytes in the frame: slot 0 is the host's own, locals and spilled values follow."""


class CodegenError(Exception):
    """IR that a back end cannot compile; says which operation and why."""


class Allocator(ValueAnalysis):
    """Gives values their registers and frame slots. A mixin, as `ValueAnalysis`."""

    value_registers: tuple[int, ...]
    """Registers that values can have, the first ones first."""
    preserved: Collection[int] = ()
    """Those that calls leave alone, in the order in which they are given, where values may be kept in them."""
    scratch: int
    """A register that no value outlives an operation in: for what nobody needs, and for what goes to a slot."""
    free: list[int]
    preserved_used: set[int]
    """Registers that the code must save and restore."""
    frame_used: int
    pending: int
    """The register that is to be stored to the frame slot of the instruction at hand, -1 for none."""
    position: int
    """Of the instruction at hand."""

    def begin_allocation(self, locals: int) -> None:
        """Before a function with so many locals is emitted."""
        self.free = list(self.value_registers)
        self.preserved_used = set()
        self.frame_used = 1 + locals
        self.pending = -1

    def release(self, ins: Instruction, position: int) -> None:
        """Give back the registers of operands that die at `position`, where `ins` is, and of a result nobody needs."""
        for arg in ins.args:
            if arg.last_use == position and 0 <= arg.location < SPILL and arg.op > Op.HOLE:
                self._free(arg)
        if ins.last_use < 0 and 0 <= ins.location < SPILL:
            self._free(ins)

    def _free(self, value: Instruction) -> None:
        """Give the register of a value that dies here back, once: `define` may hand it out again at the same place."""
        register = value.location
        value.last_use = FREED
        if value not in self.hints and register in self.value_registers and register not in self.free:
            self.free.append(register)

    @abstractmethod
    def store_slot(self, slot: int, register: int) -> None:
        """Store all of the register to a frame slot; no effect on the host's flags."""

    def settle(self, ins: Instruction) -> None:
        """Right after the host instruction that computed `ins`: bring it to its frame slot, if that is its location."""
        if self.pending >= 0:
            self.store_slot(ins.location - SPILL, self.pending)
            self.pending = -1

    def slot(self) -> int:
        """A new frame slot. Raises CodegenError when the frame is full."""
        slot = self.frame_used
        if slot >= FRAME_SLOTS:
            raise CodegenError("one instruction needs more values at a time than the frame has slots for")
        self.frame_used = slot + 1
        return slot

    def _crosses_call(self, ins: Instruction) -> bool:
        last = ins.last_use
        return any(ins.position < call < last for call in self.calls)

    def define(self, ins: Instruction) -> int:
        """The register to compute `ins` in; what is spilled goes to its slot after the operation.

        Operands that die here are free for it: read them before writing the result, or check for equality.
        """
        hint = self.hints.get(ins)
        if hint is not None:
            ins.location = hint
            return hint
        if ins.last_use < 0:
            ins.location = self.scratch
            return self.scratch
        if self.calls and self._crosses_call(ins):
            for register in self.preserved:
                if register in self.free:
                    self.free.remove(register)
                    self.preserved_used.add(register)
                    ins.location = register
                    return register
        else:
            position = self.position
            for arg in ins.args:
                if arg.last_use == position and arg.op > Op.HOLE and 0 <= arg.location < SPILL:
                    self._free(arg)
            free = self.free
            if free:
                if ins.args and ins.args[0].op > Op.HOLE and ins.args[0].location in free:
                    register = ins.args[0].location
                    free.remove(register)
                else:
                    register = free.pop(0)
                if register in self.preserved:
                    self.preserved_used.add(register)
                ins.location = register
                return register
        ins.location = SPILL + self.slot()
        self.pending = self.scratch
        return self.scratch
