# SPDX-License-Identifier: Apache-2.0
"""What the emitters of all hosts do: go through a function, note fields, and find patterns of several operations.

A host's emitter inherits `Emitter` next to its assembler, and has a function for each opcode, its *handler*, in a
`Handlers`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

from raddle.codegen.allocation import CodegenError
from raddle.codegen.branches import Branches, T, never_cold
from raddle.codegen.code_parts import L
from raddle.codegen.locations import Register, RegisterClass, in_state
from raddle.codegen.template import HOST_FLAGS_NONE
from raddle.ir.builder import Callee, Instruction, Local, MemAccess
from raddle.ir.opcodes import Op
from raddle.ir.types import Field, FieldArray, Type

if TYPE_CHECKING:
    from raddle.codegen.backend import CodegenConfig

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


SLOTS: Final = (
    "_end",
    "_rare_branches",
    "_rare_end",
    "allocation",
    "calls",
    "cold",
    "cold_holes",
    "cold_relocs",
    "config",
    "done",
    "flag_readers",
    "flags_value",
    "frame_used",
    "free_slots",
    "function",
    "head_barrier",
    "hints",
    "hot",
    "hot_holes",
    "hot_relocs",
    "jumps",
    "kind",
    "kinds_matter",
    "labels",
    "never_cold",
    "operations",
    "orders_kept",
    "parallel",
    "pending",
    "pinned",
    "pinned_fields",
    "pools",
    "position",
    "preserved_used",
    "routine",
    "state_layout",
    "state_writes",
    "touched",
    "trace",
    "wide",
)  # fmt: skip
"""The attributes of `Emitter`, for a host's `__slots__`: with so many, slots are faster than a dictionary. Classes of
which an emitter inherits several cannot have slots themselves.
"""
_MOST_ARGUMENTS: Final = 4
"""The header has a field for each."""


class Emitter(Branches[L, T], Generic[L, T]):
    """Compiles one function at a time; `run` is the entry. One thread uses it at a time."""

    config: CodegenConfig
    handlers: Handlers[Any]
    general_class: ClassVar[RegisterClass]
    """The class of the registers that `use` returns; a host names it."""
    operations: set[Op]
    """All that the function has."""
    kinds_matter: bool
    """Whether the code depends on what the host's flags held before."""
    _end: L | None
    """Of a routine: `end_label`."""

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
        self.never_cold = never_cold(self.call_operations)

    # -- the function --------------------------------------------------------------------------------------------------

    def run(self, function: Sequence[Instruction], locals: Sequence[Local], kind: int = HOST_FLAGS_NONE) -> None:
        """Emit ``function``; ``kind`` is what the host's flags hold on entry. Results are left in the attributes."""
        self.begin_parts()
        self.begin_branches()
        self.kind = kind
        self.kinds_matter = self.touched = False
        self.flags_value = None
        self._end = None
        self.analyse(function)
        self.begin_allocation(len(locals))
        self.operations = {ins.op for ins in function}
        followed = self.begin_barriers(self.operations)
        handlers = self.handlers
        for position, ins in enumerate(function):
            self.position = position
            if position not in self.done:
                if ins.op in followed:
                    self.keep_order(ins)
                handlers[ins.op](self, ins)
                if self.pending is not None:
                    self.settle(ins)
                self.release(ins, position)

    # -- values --------------------------------------------------------------------------------------------------------

    @abstractmethod
    def move(self, register: int, value: Instruction) -> None:
        """Load ``value``, of a float its bits, into a general register; no effect on the host's flags."""

    def use(self, value: Instruction, scratch: int) -> int:
        """The general register that has ``value``: its own, or ``scratch`` after a move."""
        location = value.location
        if isinstance(location, Register) and location.register_class is self.general_class:
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
            raise CodegenError(f"call of {callee.name} with {len(args)} arguments; at most four are allowed")
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
