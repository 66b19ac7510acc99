# SPDX-License-Identifier: Apache-2.0
"""The host has an operation's flags right after it, and the IR reads them later: they are captured where they arise.

In IR, the guest's N, Z, C and V of an addition or subtraction, or just its carry or overflow, are operations of their
own: the readers. Right after the host instruction has set the host's flags, all readers are served at once. A store of
flags to the guest's state is done then, if nothing can tell the difference. Otherwise the flags wait in a frame slot or
a register.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from raddle.codegen.allocation import Allocator
from raddle.codegen.locations import InState
from raddle.codegen.values import BY_INDEX
from raddle.codegen.variants import ENDS, FAULTS
from raddle.ir.opcodes import Op
from raddle.ir.types import Field

if TYPE_CHECKING:
    from raddle.codegen.locations import Slot
    from raddle.ir.builder import Instruction


class FlagCapture(Allocator):
    """Serves the readers of an operation's flags. A mixin, like `Allocator`. Abstract methods must not change the
    host's flags, since one reader is served after the other.
    """

    done: set[int]
    """Positions of instructions that have been emitted ahead of their turn."""
    flags_value: Instruction | None
    """The value whose flags are in the host's flags."""

    @abstractmethod
    def store_nzcv(self, subtracted: bool) -> None:
        """Store the host's flags to the guest's; after a subtraction, C is the inverted borrow."""

    @abstractmethod
    def save_nzcv(self, slot: Slot, subtracted: bool) -> None:
        """Store them to the frame slot, from which `Op.SET_NZCV` will take them."""

    @abstractmethod
    def store_flag(self, field: Field, overflow: bool, subtracted: bool) -> None:
        """Store the carry, or the overflow, to a field that is in the guest's state."""

    @abstractmethod
    def flag_to_register(self, register: int, overflow: bool, subtracted: bool) -> None:
        """Set the register to the carry, or the overflow, as a truth value."""

    def capture_flags(self, value: Instruction, subtracted: bool) -> None:
        """Right after the host instruction that computed `value`: serve all readers of its flags."""
        self.flags_value = value
        self.settle(value)
        nzcv = self.state_layout.nzcv or ()
        for reader in self.flag_readers[value]:
            if reader.op is not Op.SET_NZCV:
                self._capture_one(value, reader, subtracted)
            elif self.undisturbed(value.position, reader.position, nzcv):
                self.store_nzcv(subtracted)
                self.done.add(reader.position)
            else:
                slot = self.slot()
                reader.location = slot
                self.save_nzcv(slot, subtracted)

    def _capture_one(self, value: Instruction, reader: Instruction, subtracted: bool) -> None:
        overflow = reader.op is Op.OVERFLOW_OF
        self.done.add(reader.position)
        if reader.last_use < 0:
            return
        store = self.function[reader.last_use]
        if (
            reader.uses == 1
            and store.op is Op.SET
            and isinstance(store.aux, Field)
            and store.aux.offset not in self.pinned
            and self.undisturbed(value.position, store.position, (store.aux,))
        ):
            self.store_flag(store.aux, overflow, subtracted)
            self.done.add(store.position)
            return
        # It is defined here, ahead of its place. So it needs a preserved register if there is a call in between.
        reader.position = value.position
        self.flag_to_register(self.define(reader), overflow, subtracted)
        self.settle(reader)

    def undisturbed(self, start: int, end: int, fields: Sequence[Field]) -> bool:
        """Whether `fields`, which the instruction at `end` writes, may be written at `start` already.

        Nothing in between may fault, leave, or access them, and no value that was read from them may still be there.
        """
        are_flags = any(field in (self.state_layout.nzcv or ()) for field in fields)
        for ins in self.function[start + 1 : end]:
            op = ins.op
            if op in FAULTS or op in ENDS or op in BY_INDEX or op is Op.LABEL:
                return False
            if are_flags and op in (Op.COND, Op.SET_NZ, Op.SET_NZCV):
                return False
            if op in (Op.GET, Op.SET) and ins.aux in fields:
                return False
        for ins in self.function[:start]:
            if ins.op is Op.GET and ins.aux in fields and ins.last_use > start and isinstance(ins.location, InState):
                return False
        return True
