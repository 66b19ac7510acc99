# SPDX-License-Identifier: Apache-2.0
"""Branches within a function and out of it, code that seldom runs, and patterns of several operations around a branch.

Code that is rare, or leaves the block, goes to the cold part.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from raddle.codegen.barriers import BarrierMerging
from raddle.codegen.code_parts import L
from raddle.codegen.variants import FAULTS
from raddle.ir.builder import Label
from raddle.ir.opcodes import Op
from raddle.ir.types import Field, Type

if TYPE_CHECKING:
    from raddle.codegen.fields import FieldKind
    from raddle.codegen.locations import Register
    from raddle.ir.builder import Instruction

T = TypeVar("T")
"""How a host's branches test a condition: a condition code, a register, or a class of its own."""

_INDIRECT: Final = frozenset({Op.GOTO_INDIRECT, Op.EXIT_MAIN})
_HAS_BRANCHES: Final = frozenset({Op.LABEL, Op.BR, Op.BRCOND, Op.GOTO, Op.RET})
_MOST_IN_VAIN: Final = 3
"""Most operations in the body of a `ConditionalSet`."""


class ConditionalSet(NamedTuple):
    """A conditional store to a pinned field, with nothing else under the condition."""

    body: Sequence[Instruction]
    """What computes the value, in order; at most three operations."""
    store: Instruction
    target: Register
    """The field's register."""
    span: range
    """Positions of all this, from the label that the branch leads to."""


def never_cold(call_operations: Iterable[Op]) -> frozenset[Op]:
    """Operations that cannot go to the cold part: branches, and those that have a cold part, or a chainable exit, of
    their own.
    """
    return _HAS_BRANCHES | (FAULTS | frozenset(call_operations)) - {Op.CALL}


class Branches(BarrierMerging[L], Generic[L, T]):
    """Emits branches. A mixin."""

    handlers: Mapping[Op, Callable[[Any, Instruction], None]]
    """The host's, by opcode."""
    pinned_fields: Sequence[tuple[Field, Register]]
    """The fields that the host keeps in registers; none in a routine."""
    kind: int
    """What the host's flags hold of the guest's; see `raddle.codegen.template.pack_traits`."""
    touched: bool
    """Whether they have been changed."""
    never_cold: frozenset[Op]
    """`never_cold`, for the host's calls."""
    _rare_branches: list[tuple[Label, FieldKind, int]]
    """(label, kind of the field, its offset) of each branch from the hot part to a rare label."""
    _rare_end: Label | None
    """While rare code is emitted: the label where it ends."""

    def begin_branches(self) -> None:
        """Call this before emitting a function."""
        self.done = set()
        self._rare_branches, self._rare_end = [], None

    # -- rare code -----------------------------------------------------------------------------------------------------

    def place(self, label: Label) -> None:
        """Bind the label here. A template's rare code goes to the cold part, from its label to where it ends."""
        if label is self._rare_end:
            if self.function[self.position - 1].op not in _INDIRECT:
                self.return_to_hot()
            self.code, self._rare_end = self.hot, None
        elif self._is_apart(label):
            end = self.function[self.position - 1].aux
            assert isinstance(end, Label)
            self._rare_end = end
            self.code = self.cold
            for target, kind, at in self._rare_branches:
                if target is label:
                    self.hot_relocs.append((kind, at, len(self.cold)))
        self.bind(self.host_label(label))

    def _is_apart(self, label: Label) -> bool:
        return label.rare and not self.routine

    def finish_ahead(self, position: int) -> None:
        """Finish the operation at ``position``, which has been emitted ahead of its turn."""
        ins = self.function[position]
        self.settle(ins)
        self.release(ins, position)
        self.done.add(position)

    # -- branches ------------------------------------------------------------------------------------------------------

    @abstractmethod
    def inverted(self, test: T) -> T:
        """The test that holds if ``test`` does not."""

    @abstractmethod
    def branch_to(self, test: T, label: L) -> None:
        """Branch to a label of the same part if the test holds."""

    @abstractmethod
    def branch_to_cold(self, test: T) -> None:
        """Branch to the end of the cold part so far if the test holds."""

    @abstractmethod
    def return_to_hot(self) -> None:
        """Jump from the cold part to the end of the hot part so far."""

    def branch_to_exit(self, test: T, leave: Instruction) -> None:
        """Leave by ``leave``, a `GOTO`, if the test holds: from the cold part, unless the host can chain conditional
        branches.
        """
        self.branch_to_cold(test)
        hot, self.code = self.code, self.cold
        self.handlers[Op.GOTO](self, leave)
        self.code = hot

    @abstractmethod
    def jump_to(self, label: L) -> None:
        """Jump to a label of the same part."""

    def branch(self, test: T, if_true: Label, if_false: Label) -> None:
        """Emit the `BRCOND` at hand, and ahead of its turn what it leaves the block for."""
        if self._is_apart(if_false) and not self.in_cold:
            test, if_true, if_false = self.inverted(test), if_false, if_true
        if self._is_apart(if_true) and not self.in_cold:
            self.branch_to_cold(test)
            kind, at, _ = self.hot_relocs.pop()  # it has no place yet
            self._rare_branches.append((if_true, kind, at))
            self.go_to(if_false)
            return
        span = leave = None
        if not self.in_cold:
            span, leave = self.leaves_if(if_true, if_false), self.exits_if(if_true, if_false)
        if span is not None:
            self.branch_to_cold(test)
            self.emit_in_cold(span)
        elif leave is not None:
            self.branch_to_exit(test, leave)
            self.done.add(leave.position)
        elif self.is_next(if_true):
            self.branch_to(self.inverted(test), self.host_label(if_false))
        else:
            self.branch_to(test, self.host_label(if_true))
            self.go_to(if_false)

    def go_to(self, label: Label) -> None:
        """Jump to the label unless it is next."""
        if not self.is_next(label):
            self.jump_to(self.host_label(label))

    def is_next(self, label: Label) -> bool:
        """Whether the label is next in the part at hand: behind rare code, too, which is in the cold part."""
        following = self.next_is(Op.LABEL)
        if following is None:
            return False
        assert isinstance(following.aux, Label)
        return following.aux is label or self._is_apart(following.aux)

    # -- patterns ------------------------------------------------------------------------------------------------------

    def next_is(self, op: Op, ahead: int = 1) -> Instruction | None:
        """The instruction ``ahead`` places further if it is an ``op``."""
        position = self.position + ahead
        if position < len(self.function) and self.function[position].op is op:
            return self.function[position]
        return None

    def fuses(self, ins: Instruction) -> bool:
        """Whether the truth value ``ins`` can stay in the host's flags: its one use follows at once."""
        if ins.uses != 1 or ins.last_use != self.position + 1:
            return False
        user = self.function[self.position + 1]
        return user.op in (Op.BRCOND, Op.SELECT) and user.args[0] is ins

    def is_target(self, label: Label) -> bool:
        """Whether a branch other than the current one leads to ``label``."""
        own = self.function[self.position]
        return any(
            ins is not own and (ins.aux is label or (isinstance(ins.aux, tuple) and label in ins.aux))
            for ins in self.function
            if ins.op is Op.BR or ins.op is Op.BRCOND
        )

    def leaves_if(self, if_true: Label, if_false: Label) -> range | None:
        """The positions, from its label on, of code that leaves the block if the current branch's condition holds: an
        exception, mostly. None if it cannot all go to the cold part. See `emit_in_cold`.
        """
        function = self.function
        start = end = self.position + 1
        if start >= len(function) or function[start].op is not Op.LABEL or function[start].aux is not if_true:
            return None
        while True:
            end += 1
            if end + 1 >= len(function) or function[end].op in self.never_cold:
                return None
            if function[end].op in _INDIRECT:
                break
        after = function[end + 1]
        if after.op is not Op.LABEL or after.aux is not if_false or self.routine or self.is_target(if_true):
            return None
        return range(start, end + 1)

    def emit_in_cold(self, span: range) -> None:
        """Emit what `leaves_if` has found, at the end of the cold part. The host has emitted the jump there."""
        self.done.add(span.start)
        hot, kind, touched, flags_value = self.code, self.kind, self.touched, self.flags_value
        self.code = self.cold
        for position in span[1:]:
            self.position = position
            if position not in self.done:
                ins = self.function[position]
                if ins.op in self.behind_barriers:
                    self.keep_order(ins)
                self.handlers[ins.op](self, ins)
                self.finish_ahead(position)
        self.code, self.kind, self.touched, self.flags_value = hot, kind, touched, flags_value

    def exits_if(self, if_true: Label, if_false: Label) -> Instruction | None:
        """The `GOTO`, if the current branch leads to nothing else when taken: a conditional branch of the guest."""
        following, leave, after = self.next_is(Op.LABEL), self.next_is(Op.GOTO, 2), self.next_is(Op.LABEL, 3)
        if following is None or leave is None or after is None or self.is_target(if_true):
            return None
        return leave if following.aux is if_true and after.aux is if_false else None

    def sets_if(self, if_true: Label, if_false: Label, computes: frozenset[Op]) -> ConditionalSet | None:
        """The store to a pinned field of integers, if the current branch leads to nothing else when taken: a host can
        emit it as a conditional move, which is never mispredicted. ``computes`` are operations that may run in vain.
        """
        if not self.pinned:
            return None
        function = self.function
        start = end = self.position + 2
        while end < len(function) and function[end].op in computes:
            end += 1
        if end + 1 >= len(function) or end - start > _MOST_IN_VAIN:
            return None
        before, store, after = function[start - 1], function[end], function[end + 1]
        if (
            before.aux is not if_true
            or before.op is not Op.LABEL
            or after.aux is not if_false
            or store.op is not Op.SET
        ):
            return None
        field = store.aux
        assert isinstance(field, Field)
        target, body = self.pinned.get(field.offset), function[start:end]
        if target is None or field.type is Type.F64 or any(ins.uses != 1 for ins in body) or self.is_target(if_true):
            return None
        return ConditionalSet(body, store, target, range(start - 1, end + 1))
