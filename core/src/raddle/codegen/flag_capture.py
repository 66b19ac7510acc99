# SPDX-License-Identifier: Apache-2.0
"""Flags of an operation are there right after it, and are asked for later: they are captured where they arise.

The guest's N, Z, C and V of an addition or subtraction, or only its carry or overflow, are IR operations of their own.
When the host instruction has just set the host's flags, everything that asks for them is served at once: what stores
flags to the guest's state stores them now if nobody can tell the difference. Otherwise they wait in a frame slot or a
register.
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
    """Serves what asks for an operation's flags. A mixin, as `Allocator`; what is abstract changes none of the host's
    flags, since one request is served after the other.
    """

    done: set[int]
    """Positions of instructions that have been emitted ahead of their turn."""
    flags_value: Instruction | None
    """The value whose flags the host's flags are."""

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
        """The carry, or the overflow, as a truth value."""

    def capture_flags(self, value: Instruction, subtracted: bool) -> None:
        """Right after the host instruction that computed `value`: serve everything that asks for its flags."""
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
        # It is defined here, ahead of its place: a call between the two must find it where calls leave values alone.
        reader.position = value.position
        self.flag_to_register(self.define(reader), overflow, subtracted)
        self.settle(reader)

    def undisturbed(self, start: int, end: int, fields: Sequence[Field]) -> bool:
        """Whether `fields`, which `end` writes, may be written at `start` already.

        Nothing between may fault, leave, or touch them; nor may an earlier read of one still be looking at the state.
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
