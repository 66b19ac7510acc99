# SPDX-License-Identifier: Apache-2.0
"""What the emitters of all hosts do: go through a function, note fields, and find patterns of several operations.

A host's emitter inherits `Emitter` next to its assembler, and has a function for each opcode, its *handler*, in a
`Handlers`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Protocol, TypeVar

from raddle.codegen.allocation import CodegenError
from raddle.codegen.barriers import ENDS_ORDER, MAY_LEAVE, MOST_BYTES, HeadBarrier
from raddle.codegen.flag_capture import FlagCapture
from raddle.codegen.locations import Register, in_state
from raddle.codegen.template import HOST_FLAGS_NONE
from raddle.codegen.variants import FAULTS
from raddle.ir.builder import Callee, Instruction, Label, Local, MemAccess
from raddle.ir.opcodes import Op
from raddle.ir.types import Field, FieldArray, Hole, Type
from raddle.ordering import MemoryOrder

if TYPE_CHECKING:
    from raddle.codegen.backend import CodegenConfig
    from raddle.codegen.fields import FieldKind, OpenHole, Reloc
    from raddle.codegen.renaming import Traced

E = TypeVar("E", bound="Emitter[Any, Any]")
Handler = Callable[[E, Instruction], None]


class Handlers(dict[Op, Handler[E]]):
    """A host's handlers, by opcode."""

    def emits(self, *ops: Op) -> Callable[[Handler[E]], Handler[E]]:
        """Register a function as the handler of ``ops``."""

        def register(handler: Handler[E]) -> Handler[E]:
            for op in ops:
                self[op] = handler
            return handler

        return register

    def __missing__(self, op: Op) -> Handler[E]:
        raise CodegenError(f"the host emits no {op.name.lower()}")


class HostLabel(Protocol):
    """A label of the host's assembler."""

    position: int
    """Offset in its part, once it is known."""


L = TypeVar("L", bound=HostLabel)
T = TypeVar("T")
"""How a host's branches test a condition: a condition code, a register, or a class of its own."""

_NOTHING: Final[frozenset[Op]] = frozenset()
_INDIRECT: Final = frozenset({Op.GOTO_INDIRECT, Op.EXIT_MAIN})
_HAS_BRANCHES: Final = frozenset({Op.LABEL, Op.BR, Op.BRCOND, Op.GOTO, Op.RET})
_MOST_IN_VAIN: Final = 3
"""Most operations in the body of a `ConditionalSet`."""
_MOST_ARGUMENTS: Final = 4
"""The header has a field for each."""


class ConditionalSet(NamedTuple):
    """A conditional store to a pinned field, with nothing else under the condition."""

    body: Sequence[Instruction]
    """What computes the value, in order; at most three operations."""
    store: Instruction
    target: Register
    """The field's register."""
    span: range
    """Positions of all this, from the label that the branch leads to."""


class Emitter(FlagCapture, Generic[L, T]):
    """Compiles one function at a time; `run` is the entry. One thread uses it at a time."""

    config: CodegenConfig
    handlers: Handlers[Any]
    pinned_fields: Sequence[tuple[Field, Register]]
    """The fields that the host keeps in registers; none in a routine."""
    code: bytearray
    """What the assembler appends to: the hot part, or the cold part."""
    hot: bytearray
    """The hot part."""
    cold: bytearray
    """The cold part, which lies behind the hot parts of all of the block's instructions."""
    hot_relocs: list[Reloc]
    cold_relocs: list[Reloc]
    hot_holes: list[OpenHole]
    cold_holes: list[OpenHole]
    trace: list[Traced]
    """The host instructions, if the host renames."""
    jumps: list[tuple[bytearray, int, int, L]]
    """(part, shape, offset of the field, label) of each jump within a part, if the host renames."""
    labels: dict[Label, L]
    kind: int
    """What the host's flags hold of the guest's; see `raddle.codegen.template.pack_traits`."""
    kinds_matter: bool
    """Whether the code depends on what they held before."""
    touched: bool
    """Whether they have been changed."""
    behind_barriers: frozenset[Op] = frozenset()
    """Operations before which `run` emits the barriers that `order_before` asks for. `Op.MB` is one of them, and its
    handler emits nothing. A host that leaves this empty emits all barriers in its handlers."""
    kept: int
    """MemoryOrder bits: the orders that barriers of this function keep between all accesses before this place and all
    after it."""
    head_barrier: HeadBarrier | None
    """The barrier at the start of the hot part."""
    _end: L | None
    """Of a routine: `end_label`."""
    _rare_branches: list[tuple[Label, FieldKind, int]]
    """(label, kind of the field, its offset) of each branch from the hot part to a rare label."""
    _rare_end: Label | None
    """While rare code is emitted: the label where it ends."""

    def __init__(
        self,
        config: CodegenConfig,
        routine: bool,
        pin_order: Iterable[Register],
        float_pin_order: Iterable[Register] = (),
    ) -> None:
        """A template's hottest integer fields are pinned to ``pin_order``, the hottest one to the first register, and
        its hottest fields of 64-bit floats to ``float_pin_order``.
        """
        super().__init__()
        self.config = config
        self.routine = routine
        self.wide = config.word is Type.I64
        self.parallel = config.parallel
        if not config.parallel:
            self.behind_barriers = frozenset()
        self.allocation = config.allocation
        self.state_layout = config.state
        hot = () if routine else config.state.hot_fields
        integers = [field for field in hot if field.type in (Type.I32, Type.I64)]
        floats = [field for field in hot if field.type is Type.F64]
        self.pinned_fields = [*zip(integers, pin_order, strict=False), *zip(floats, float_pin_order, strict=False)]
        self.pinned = {field.offset: register for field, register in self.pinned_fields}
        self._not_cold = _HAS_BRANCHES | (FAULTS | frozenset(self.call_operations)) - {Op.CALL}
        """Operations with a cold part or a chainable exit of their own, and branches."""

    # -- the function --------------------------------------------------------------------------------------------------

    def run(self, function: Sequence[Instruction], locals: Sequence[Local], kind: int = HOST_FLAGS_NONE) -> None:
        """Emit ``function``; ``kind`` is what the host's flags hold on entry. Results are left in the attributes."""
        self.start_code()
        self.hot, self.cold = self.code, bytearray()
        self.hot_relocs, self.cold_relocs, self.hot_holes, self.cold_holes = [], [], [], []
        self.labels, self.trace, self.jumps = {}, [], []
        self.kind = kind
        self.kinds_matter = self.touched = False
        self.flags_value = None
        self.done = set()
        self._end = None
        self._rare_branches, self._rare_end = [], None
        self.analyse(function)
        self.begin_allocation(len(locals))
        self.kept, self.head_barrier = 0, None
        followed = _NOTHING
        if not self.behind_barriers.isdisjoint([ins.op for ins in function]):
            followed = self.behind_barriers | MAY_LEAVE
            if not self.routine:
                self._start_with_barrier()
        handlers = self.handlers
        for position, ins in enumerate(function):
            self.position = position
            if position not in self.done:
                if ins.op in followed:
                    self._keep_order(ins)
                handlers[ins.op](self, ins)
                if self.pending is not None:
                    self.settle(ins)
                self.release(ins, position)

    # The assembler has these four (`raddle.codegen.code_buffer.CodeBuffer`).

    @abstractmethod
    def start_code(self) -> None:
        """Begin again: the code is empty, and there are no labels."""

    @abstractmethod
    def finish(self) -> bytes:
        """The hot part. Raises the assembler's error if a label has been used and is not bound."""

    @abstractmethod
    def label(self) -> L:
        """A new label of the assembler's."""

    @abstractmethod
    def bind(self, label: L) -> None:
        """Bind a label to the end of the part at hand."""

    def host_label(self, label: Label) -> L:
        """The host's label for an IR label."""
        host = self.labels.get(label)
        if host is None:
            host = self.labels[label] = self.label()
        return host

    @property
    def in_cold(self) -> bool:
        """Whether the cold part is being emitted, which has no cold part of its own."""
        return self.code is self.cold

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

    # -- barriers ------------------------------------------------------------------------------------------------------

    def order_before(self, ins: Instruction) -> MemoryOrder:
        """The orders that a barrier must keep before ``ins``, which is one of `behind_barriers`; of an `MB`, those that
        it names. Without orders that the host keeps by itself.
        """
        return MemoryOrder.NONE

    def fence(self, order: MemoryOrder) -> MemoryOrder:
        """Emit the weakest barrier that keeps ``order``, which is not empty; returns all orders that it keeps."""
        raise NotImplementedError

    def _order_at(self, position: int) -> MemoryOrder:
        """`order_before` the operation there; none if it is an `MB`, and the next one names all of its orders."""
        ins = self.function[position]
        order = self.order_before(ins)
        if order and ins.op is Op.MB and position + 1 < len(self.function):
            following = self.function[position + 1]
            if following.op is Op.MB and not order & ~self.order_before(following):
                return MemoryOrder.NONE
        return order

    def _start_with_barrier(self) -> None:
        """Emit the first barrier before all else, where the joiner can leave it out. It may precede what accesses no
        memory, but only where it is certain to come.
        """
        behind_barriers = self.behind_barriers
        for position, ins in enumerate(self.function):
            if ins.op in behind_barriers and (order := self._order_at(position)):
                kept = self.fence(order)
                # The joiner leaves out bytes, and not what is filled in there.
                has_fields = self.hot_relocs or self.hot_holes or self.jumps or self.cold
                if len(self.code) <= MOST_BYTES and not has_fields:
                    self.head_barrier = HeadBarrier(len(self.code), order, kept)
                # No more than `order`: where the joiner leaves the barrier out, nothing else may hold.
                self.kept = int(order)
                return
            if ins.op in MAY_LEAVE:
                return

    def _keep_order(self, ins: Instruction) -> None:
        """Emit the barrier that the operation at hand needs before it, unless others keep its orders, and note what it
        does to orders that are kept.
        """
        order = self._order_at(self.position) if ins.op in self.behind_barriers else MemoryOrder.NONE
        # On its way out of the block, or rare code: then nothing is kept since its label, which the hot part has met.
        if self.in_cold:
            if order:
                self.fence(order)
            return
        if order & ~self.kept:
            self.kept |= self.fence(order)
        # Other paths lead to a label; what they have done is not followed.
        self.kept = 0 if ins.op is Op.LABEL else self.kept & ~ENDS_ORDER.get(ins.op, 0)

    # -- fields --------------------------------------------------------------------------------------------------------

    def field(self, kind: FieldKind, offset: int, value: int, literal: Instruction | None = None) -> None:
        """Note a field at ``offset`` of the current part that holds ``value``, plus a `HOLE`'s literal if given."""
        cold = self.code is self.cold
        if literal is None:
            (self.cold_relocs if cold else self.hot_relocs).append((kind, offset, value))
            return
        hole = literal.aux
        assert isinstance(hole, Hole)
        (self.cold_holes if cold else self.hot_holes).append((offset, hole.index, value, kind))

    def last_field(self, kind: FieldKind, value: int, literal: Instruction | None = None) -> None:
        """The same for the field in the last four bytes of the code."""
        self.field(kind, len(self.code) - 4, value, literal)

    # -- values --------------------------------------------------------------------------------------------------------

    @abstractmethod
    def move(self, register: int, value: Instruction) -> None:
        """Load ``value`` into a register; no effect on the host's flags."""

    def use(self, value: Instruction, scratch: int) -> int:
        """The register that has ``value``: its own, or ``scratch`` after a move."""
        location = value.location
        if isinstance(location, Register):
            return location.number
        self.move(scratch, value)
        return scratch

    def stays_in_field(self, get: Instruction, field: Field) -> bool:
        """Give the value of ``get`` the location of its field, if that does as well as a copy.

        Nothing may write the field while the value is needed. A value in the state may be read once only.
        """
        register = self.pinned.get(field.offset)
        if (register is None and get.uses > 1) or self.written(field, get.position, get.last_use):
            return False
        get.location = register or in_state(field.offset)
        return True

    def stays_pinned(self, zext: Instruction) -> bool:
        """Give the value of ``zext`` the register of the pinned field that its operand has, if that does as well as a
        copy: values are zero-extended wherever they are.
        """
        value = zext.args[0]
        if not self.is_pinned(value) or zext.last_use < 0:
            return False
        field = value.aux
        assert isinstance(field, Field)
        if self.pinned[field.offset] is not value.location or self.written(field, zext.position, zext.last_use):
            return False
        zext.location = value.location
        return True

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
            if end + 1 >= len(function) or function[end].op in self._not_cold:
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
                    self._keep_order(ins)
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

    # -- state and flags -----------------------------------------------------------------------------------------------

    def is_pinned(self, value: Instruction) -> bool:
        """Whether the value is what a pinned field holds."""
        return value.op is Op.GET and isinstance(value.aux, Field) and value.aux.offset in self.pinned

    @abstractmethod
    def load_field(self, register: int, offset: int, size: int) -> None:
        """Load a field of 1, 4 or 8 bytes into a general register, zero-extended; no effect on the host's flags."""

    @abstractmethod
    def store_field(self, register: int, offset: int, size: int) -> None:
        """Store to such a field; no effect on the host's flags."""

    def store_elements(self, array: FieldArray) -> None:
        """Before an access by index, which needs all elements in the state: store those that are in registers."""
        for field, register in self._pinned_elements(array):
            self.store_field(register.number, field.offset, field.type.size)

    def load_elements(self, array: FieldArray) -> None:
        """After a store by index: load the elements that are in registers."""
        for field, register in self._pinned_elements(array):
            self.load_field(register.number, field.offset, field.type.size)

    def _pinned_elements(self, array: FieldArray) -> list[tuple[Field, Register]]:
        end = array.offset + len(array) * array.type.size
        return [(field, register) for field, register in self.pinned_fields if array.offset <= field.offset < end]

    def nzcv_fields(self) -> tuple[Field, Field, Field, Field]:
        """The guest's condition flags. Raises CodegenError if it has none."""
        fields = self.config.state.nzcv
        if fields is None:
            raise CodegenError("the target's state layout names no nzcv fields")
        return fields

    def clobber(self) -> None:
        """Note that the host's condition flags no longer hold any of the guest's."""
        self.kind = HOST_FLAGS_NONE
        self.touched = True
        self.flags_value = None

    # -- what only blocks have, and only routines ----------------------------------------------------------------------

    def end_label(self) -> L:
        """The label at the end of a routine, where each `RET` goes."""
        if self._end is None:
            self._end = self.label()
        return self._end

    def callee_number(self, callee: Callee, args: Sequence[Instruction]) -> int:
        """The number by which the runtime calls it. Raises CodegenError for more arguments than it takes."""
        if len(args) > _MOST_ARGUMENTS:
            raise CodegenError(f"call of {callee.name} with {len(args)} arguments; four is the most")
        return self.config.callee_number(callee)

    def needs_block(self, ins: Instruction) -> None:
        """Raises CodegenError in a routine."""
        if self.routine:
            raise CodegenError(f"{ins.op.name.lower()} in an IR routine: a routine ends with ret")

    def needs_routine(self, ins: Instruction) -> None:
        """Raises CodegenError in a block."""
        if not self.routine:
            raise CodegenError(f"{ins.op.name.lower()} outside an IR routine")

    def access(self, ins: Instruction) -> MemAccess:
        """How the instruction accesses guest memory. Raises CodegenError in a routine."""
        access = ins.aux
        assert isinstance(access, MemAccess)
        if self.routine:
            raise CodegenError(
                f"{ins.op.name.lower()} in an IR routine: routines reach memory by physical address only"
            )
        return access


def is_wide(value: Instruction) -> bool:
    """Whether the value has 64 bits."""
    return value.type.size == 8


def bit_range(ins: Instruction) -> tuple[int, int]:
    """(lowest bit, width) of `EXTRACT`, `SEXTRACT` and `DEPOSIT`."""
    found = ins.aux
    assert isinstance(found, tuple)
    return found
