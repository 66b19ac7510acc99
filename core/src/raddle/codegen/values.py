# SPDX-License-Identifier: Apache-2.0
"""The values of one function: where each is live, and what changes in the guest's state meanwhile.

The analysis runs once, before a function is emitted. Of the host it knows only the operations that are emitted as calls
(`ValueAnalysis.call_operations`) and the guest's fields that are kept in registers (`ValueAnalysis.pinned`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raddle.codegen.variants import ENDS, FAULTS
from raddle.ir.builder import Callee, Instruction, Label
from raddle.ir.opcodes import Op
from raddle.ir.types import Field

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from raddle.codegen.locations import Register
    from raddle.ir.types import StateLayout

EVERYWHERE: Final = 1 << 20
"""No offset in the guest's state or the header is as large."""
BY_INDEX: Final = frozenset({Op.GET_AT, Op.SET_AT})
FLAG_READERS: Final = frozenset({Op.CARRY_OF, Op.OVERFLOW_OF, Op.SET_NZCV})
"""Operations that read the flags of the operation that yields their operand."""
_EXACT: Final = FAULTS | ENDS | {Op.LABEL}
_EXTENDS: Final = frozenset({Op.ZEXT, Op.SEXTRACT})
_NOT_DIRECT: Final = frozenset({Op.CONST, Op.HOLE, Op.GET, Op.LOCAL_GET})


class ValueAnalysis:
    """Analyses a function, and sets its instructions' `position`, `last_use`, `uses` and `location`.

    A mixin for a host's emitter, which has its attributes.
    """

    function: Sequence[Instruction]
    call_operations: Collection[Op]
    """Operations that the host emits as calls of C functions."""
    state_layout: StateLayout
    pinned: Mapping[int, Register]
    """Host registers that hold fields of the guest's state, by the fields' offsets."""
    calls: list[int]
    """Positions of calls."""
    flag_readers: dict[Instruction, list[Instruction]]
    """The readers of an operation's flags, by operation."""
    state_writes: list[tuple[int, int, int]]
    """(position, first offset, end offset) of each write to the guest's state."""
    hints: dict[Instruction, Register]
    """Values to compute in the register of the field that they are stored to, with that register."""

    def analyse(self, function: Sequence[Instruction]) -> None:
        self.function = function
        self.calls = []
        self.flag_readers = {}
        self.state_writes = []
        self._extend_over(self._scan(function))
        self.hints = {}
        if self.pinned:
            for ins in function:
                if ins.op is Op.SET:
                    self._hint(ins)

    def _scan(self, function: Sequence[Instruction]) -> list[tuple[int, int]]:
        """Note positions, uses, calls, writes and readers of flags; returns the loops, by first and last position."""
        calls, readers, writes = self.calls, self.flag_readers, self.state_writes
        call_operations, nzcv = self.call_operations, self.state_layout.nzcv or ()
        label_at: dict[Label, int] = {}
        loops: list[tuple[int, int]] = []
        for position, ins in enumerate(function):
            op = ins.op
            ins.position = position
            ins.last_use = -1
            ins.uses = 0
            ins.location = None
            for arg in ins.args:
                arg.last_use = position
                arg.uses += 1
            if op is Op.SET:
                field = ins.aux
                assert isinstance(field, Field)
                writes.append((position, field.offset, field.offset + field.type.size))
            elif op in call_operations:
                calls.append(position)
                callee = ins.aux
                if op is Op.CALL and isinstance(callee, Callee) and not callee.pure_state:
                    writes.append((position, -EVERYWHERE, EVERYWHERE))
            elif op is Op.SET_NZCV or op is Op.SET_NZ:
                for field in nzcv[: 4 if op is Op.SET_NZCV else 2]:
                    writes.append((position, field.offset, field.offset + 1))
            elif op is Op.SET_AT:
                writes.append((position, -EVERYWHERE, EVERYWHERE))
            elif op is Op.LABEL:
                assert isinstance(ins.aux, Label)
                label_at[ins.aux] = position
            elif op is Op.BR:
                assert isinstance(ins.aux, Label)
                if ins.aux in label_at:
                    loops.append((label_at[ins.aux], position))
            elif op is Op.BRCOND:
                assert isinstance(ins.aux, tuple)
                loops += [(label_at[target], position) for target in ins.aux if target in label_at]
            if op in FLAG_READERS:
                readers.setdefault(ins.args[0], []).append(ins)
        return loops

    def _extend_over(self, loops: list[tuple[int, int]]) -> None:
        """A value that is defined before a loop and used in it is live until the loop's end."""
        for start, end in loops:
            for ins in self.function[:start]:
                if ins.last_use >= start:
                    ins.last_use = max(ins.last_use, end)
            for value, served in self.flag_readers.items():
                # Flags are captured where they arise, which may be before the loop.
                for reader in served:
                    if value.position < start <= reader.last_use:
                        reader.last_use = max(reader.last_use, end)

    def _hint(self, store: Instruction) -> None:
        """Compute the value that `store` writes to a pinned field in the field's register, if nothing can tell."""
        field = store.aux
        assert isinstance(field, Field)
        register = self.pinned.get(field.offset)
        value = store.args[0]
        if register is None or value.op in _NOT_DIRECT or value in self.hints:
            return
        # Extending it with zeros does nothing where it is, and with its sign takes one instruction anywhere.
        extended = value.args[0] if value.op in _EXTENDS else value
        if extended.op is Op.SUB and extended.args[1].op is Op.GET and extended.args[1].aux is field:
            extended = value  # there it would need a copy of what it subtracts
        if extended.uses != 1 or extended.op in _NOT_DIRECT or extended.op in FLAG_READERS or extended in self.hints:
            extended = value
        start, end = extended.position, store.position
        for ins in self.function[start + 1 : end]:
            if ins.op in _EXACT or ins.op in BY_INDEX or (ins.op in (Op.GET, Op.SET) and ins.aux is field):
                return
        for ins in self.function[:start]:
            if ins.last_use > start and ((ins.op is Op.GET and ins.aux is field) or self.hints.get(ins) is register):
                return
        if value.last_use > end:
            for position, low, high in self.state_writes:
                if end < position <= value.last_use and low <= field.offset < high:
                    return
        self.hints[value] = self.hints[extended] = register
        self.state_writes.append((start, field.offset, field.offset + field.type.size))

    def written(self, field: Field, start: int, end: int) -> bool:
        """Whether something after position `start` and before `end` writes the bytes of `field`.

        Every call overwrites the header's argument fields, before it has read its last operand.
        """
        low, high = field.offset, field.offset + field.type.size
        # Loops: most lists are short, and then a generator costs more than what it looks at.
        if low < 0:
            for call in self.calls:
                if start < call <= end:
                    return True
        for position, first, behind in self.state_writes:
            if start < position < end and low < behind and first < high:
                return True
        return False
