# SPDX-License-Identifier: Apache-2.0
"""Register allocation and code emission for one IR function: the `Emitter` that the functions of `emit/` work with.

The allocator's words are `use` (a value in a register), `define` (a register for the result) and the two scratch
registers rcx and rdx, which no value outlives an operation in. A value has one location for its whole life, from its
definition to its last use in list order (extended round loops), so control flow needs no moves:

    0 … 15        a host register
    SPILL + n     the frame slot [rsp + 8 n]
    ENV + offset  the guest state itself (a field that is read and not written meanwhile)
    -1 - cc       the host's condition flags; only for a comparison whose one use follows at once

Values of 32 bits and truth values are zero-extended to 64 bits wherever they are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from raddle.codegen.variants import ENDS, FAULTS
from raddle.ir.builder import Callee, Instruction, Label, Local
from raddle.ir.opcodes import Op
from raddle.ir.types import Field, Hole, Type
from raddle_host_x86_64.assembler import Assembler
from raddle_host_x86_64.code_buffer import Label as HostLabel
from raddle_host_x86_64.conditions import NE
from raddle_host_x86_64.fields import LITERAL8, LITERAL32
from raddle_host_x86_64.registers import (
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
    RAX,
    RBP,
    RBX,
    RCX,
    RDI,
    RDX,
    RSI,
    RSP,
)  # fmt: skip

if TYPE_CHECKING:
    from raddle.codegen.backend import CodegenConfig
    from raddle.codegen.fields import FieldKind, Reloc
    from raddle_host_x86_64.features import Features

PIN_ORDER: Final = (RBX, RSI, RDI, R8, R9, R10, R12, R13, R14, R15)
"""Host registers for the hottest guest fields; the first three encode without a REX prefix."""
VALUE_REGISTERS: Final = (RAX, R11)
"""Registers for values in templates, besides those that the guest leaves unpinned."""
CALLEE_SAVED: Final = (RBX, R12, R13, R14, R15)
ROUTINE_REGISTERS: Final = (RAX, RSI, RDI, R8, R9, R10, R11, *CALLEE_SAVED)

SPILL: Final = 1000
ENV: Final = 1 << 20
FREED: Final = -2
"""Last use of a value whose register was given back."""
NOWHERE: Final = ENV - 1
"""Location of constants and holes, and of values before their definition."""
FRAME_SLOTS: Final = 64
"""Slots of 8 bytes in the frame that `enter` lays: slot 0 saves a fixed register, locals and spilled values follow."""
SAVE_SLOT: Final = 0

# What the host's condition flags hold of the guest's N, Z, C and V.
KIND_NONE: Final = 0
KIND_SUB: Final = 1
KIND_ADD: Final = 2
KIND_LOGIC: Final = 3
KIND_KEPT: Final = -1

CALLS: Final = frozenset(
    {Op.CALL, Op.FADD, Op.FSUB, Op.FMUL, Op.FDIV, Op.FSQRT, Op.FMA, Op.FCMP, Op.FCVT, Op.FTOI, Op.ITOF}
)
"""Operations that are emitted as calls: nothing but pinned and callee-saved registers survives them."""
MEMORY: Final = FAULTS - {Op.CALL}
_EXACT: Final = FAULTS | ENDS | {Op.LABEL}
BY_INDEX: Final = frozenset({Op.GET_AT, Op.SET_AT})
FLAG_READERS: Final = frozenset({Op.CARRY_OF, Op.OVERFLOW_OF, Op.SET_NZCV})

_NOT_DIRECT: Final = frozenset({Op.CONST, Op.HOLE, Op.GET, Op.LOCAL_GET})

Handler = Callable[["Emitter", Instruction], None]
HANDLERS: Final[dict[Op, Handler]] = {}


def emits(*ops: Op) -> Callable[[Handler], Handler]:
    """Register a function as the emitter of `ops`."""

    def register(handler: Handler) -> Handler:
        for op in ops:
            HANDLERS[op] = handler
        return handler

    return register


Traced = tuple[bytearray, int, int, Callable[..., None], tuple[int, ...]]
"""A host instruction: (code that it is in, its offset, its end's offset, the assembler's method, its arguments)."""


class CodegenError(Exception):
    """IR that this back end cannot compile; says which operation and why."""


class Emitter(Assembler):
    """Compiles one function at a time; `run` is the entry. One thread uses it at a time."""

    __slots__ = (
        "callee_saved_used",
        "calls",
        "cold",
        "cold_relocs",
        "config",
        "done",
        "features",
        "flag_defs",
        "flag_readers",
        "flag_uses",
        "flags_value",
        "frame_used",
        "free",
        "function",
        "hints",
        "holes",
        "hot_relocs",
        "jumps",
        "kind",
        "kinds_matter",
        "labels",
        "parallel",
        "pending",
        "pinned",
        "pinned_fields",
        "position",
        "routine",
        "routine_exit",
        "state_writes",
        "touched",
        "trace",
        "value_registers",
        "wide",
    )  # fmt: skip

    def __init__(self, config: CodegenConfig, features: Features, routine: bool) -> None:
        super().__init__()
        self.config = config
        self.features = features
        self.routine = routine
        self.wide = config.word is Type.I64
        self.parallel = config.parallel
        hot = () if routine else [f for f in config.state.hot_fields if f.type in (Type.I32, Type.I64)]
        self.pinned_fields = tuple(zip(hot, PIN_ORDER, strict=False))
        self.pinned: dict[int, int] = {field.offset: register for field, register in self.pinned_fields}
        if routine:
            self.value_registers: tuple[int, ...] = ROUTINE_REGISTERS
        else:
            self.value_registers = (*VALUE_REGISTERS, *PIN_ORDER[len(self.pinned) :])

    # -- the function --------------------------------------------------------------------------------------------------

    def run(self, function: list[Instruction], locals: list[Local], kind: int) -> None:
        """Emit `function`; `kind` is what the host's flags hold on entry. Results are left in the attributes."""
        self.code = bytearray()
        self.cold = bytearray()
        self._waiting = 0
        self.function = function
        self.hot_relocs: list[Reloc] = []
        self.cold_relocs: list[Reloc] = []
        self.holes: list[tuple[bool, int, int, int, int]] = []
        self.labels: dict[Label, HostLabel] = {}
        self.trace: list[Traced] = []
        self.jumps: list[tuple[bytearray, int, HostLabel]] = []
        self.kind = kind
        self.kinds_matter = False
        self.touched = False
        self.flags_value: Instruction | None = None
        self.free = list(self.value_registers)
        self.callee_saved_used: set[int] = set()
        self.frame_used = 1 + len(locals)
        self.done: set[int] = set()
        self.pending = -1
        self.routine_exit: HostLabel | None = None
        self._analyse(function)
        handlers = HANDLERS
        for position, ins in enumerate(function):
            self.position = position
            if position not in self.done:
                handlers[ins.op](self, ins)
                if self.pending >= 0:
                    self.MOVQ_mr(RSP, 8 * (ins.location - SPILL), self.pending)
                    self.pending = -1
                self._release(ins, position)

    def _analyse(self, function: list[Instruction]) -> None:
        calls: list[int] = []
        readers: dict[Instruction, list[Instruction]] = {}
        writes: list[tuple[int, int, int]] = []
        label_at: dict[Label, int] = {}
        back_edges: list[tuple[int, int]] = []
        for position, ins in enumerate(function):
            op = ins.op
            ins.position = position
            ins.last_use = -1
            ins.uses = 0
            ins.location = NOWHERE
            for arg in ins.args:
                arg.last_use = position
                arg.uses += 1
                if arg.op <= Op.HOLE:
                    arg.location = NOWHERE
            if op is Op.SET:
                field = ins.aux
                assert isinstance(field, Field)
                writes.append((position, field.offset, field.offset + field.type.size))
            elif op in CALLS:
                calls.append(position)
                callee = ins.aux
                if op is Op.CALL and isinstance(callee, Callee) and not callee.pure_state:
                    writes.append((position, -ENV, ENV))
            elif op is Op.SET_NZCV or op is Op.SET_NZ:
                for field in (self.config.state.nzcv or ())[: 4 if op is Op.SET_NZCV else 2]:
                    writes.append((position, field.offset, field.offset + 1))
            elif op is Op.SET_AT:
                writes.append((position, -ENV, ENV))
            elif op is Op.LABEL:
                assert isinstance(ins.aux, Label)
                label_at[ins.aux] = position
            elif op is Op.BR:
                assert isinstance(ins.aux, Label)
                if ins.aux in label_at:
                    back_edges.append((label_at[ins.aux], position))
            elif op is Op.BRCOND:
                assert isinstance(ins.aux, tuple)
                for target in ins.aux:
                    if target in label_at:
                        back_edges.append((label_at[target], position))
            if op in FLAG_READERS:
                readers.setdefault(ins.args[0], []).append(ins)
        for start, end in back_edges:
            for ins in function[:start]:
                if ins.last_use >= start:
                    ins.last_use = max(ins.last_use, end)
            for value, served in readers.items():
                # Flags are captured where they arise, which may be before the loop.
                for reader in served:
                    if value.position < start <= reader.last_use:
                        reader.last_use = max(reader.last_use, end)
        self.calls = calls
        self.flag_readers = readers
        self.state_writes = writes
        self.hints: dict[Instruction, int] = {}
        if self.pinned:
            for ins in function:
                if ins.op is Op.SET:
                    self._hint(ins)

    def _hint(self, store: Instruction) -> None:
        """Let the value that `store` writes to a pinned field be computed there, if nobody can tell the difference."""
        field = store.aux
        assert isinstance(field, Field)
        register = self.pinned.get(field.offset)
        value = store.args[0]
        if register is None or value.op in _NOT_DIRECT or value in self.hints:
            return
        start, end = value.position, store.position
        for ins in self.function[start + 1 : end]:
            if ins.op in _EXACT or ins.op in BY_INDEX or (ins.op in (Op.GET, Op.SET) and ins.aux is field):
                return
        for ins in self.function[:start]:
            if ins.op is Op.GET and ins.aux is field and ins.last_use > start:
                return
        if value.last_use > end:
            for position, low, high in self.state_writes:
                if end < position <= value.last_use and low <= field.offset < high:
                    return
        self.hints[value] = register
        self.state_writes.append((start, field.offset, field.offset + field.type.size))

    # -- allocation ----------------------------------------------------------------------------------------------------

    def _release(self, ins: Instruction, position: int) -> None:
        for arg in ins.args:
            if arg.last_use == position and 0 <= arg.location < 16 and arg.op > Op.HOLE:
                self._free(arg)
        if ins.last_use < 0 and 0 <= ins.location < 16:
            self._free(ins)

    def _free(self, value: Instruction) -> None:
        """Give the register of a value that dies here back, once: `define` may hand it out again at the same place."""
        register = value.location
        value.last_use = FREED
        if value not in self.hints and register in self.value_registers and register not in self.free:
            self.free.append(register)

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
            ins.location = RDX
            return RDX
        if self.calls and self._crosses_call(ins):
            if self.routine:
                for register in CALLEE_SAVED:
                    if register in self.free:
                        self.free.remove(register)
                        self.callee_saved_used.add(register)
                        ins.location = register
                        return register
        else:
            position = self.position
            for arg in ins.args:
                if arg.last_use == position and arg.op > Op.HOLE and 0 <= arg.location < 16:
                    self._free(arg)
            free = self.free
            if free:
                if ins.args and ins.args[0].op > Op.HOLE and ins.args[0].location in free:
                    register = ins.args[0].location
                    free.remove(register)
                else:
                    register = free.pop(0)
                if register in CALLEE_SAVED and self.routine:
                    self.callee_saved_used.add(register)
                ins.location = register
                return register
        ins.location = SPILL + self.slot()
        self.pending = RDX
        return RDX

    def move(self, register: int, value: Instruction) -> None:
        """Load `value` into `register`; no effect on the host's flags."""
        op = value.op
        if op is Op.CONST:
            self.constant(register, value)
        elif op is Op.HOLE:
            if value.type is Type.I64:
                self.MOVQ_ri(register, 0)
            else:
                self.MOV_ri(register, 0)
            self.hole(value)
        else:
            location = value.location
            if location < 16:
                if location != register:
                    if value.type is Type.I64 or value.type is Type.F64:
                        self.MOVQ_rr(register, location)
                    else:
                        self.MOV_rr(register, location)
            elif location < ENV - 100_000:
                self.MOVQ_rm(register, RSP, 8 * (location - SPILL))
            elif value.type is Type.I1:
                self.MOVZXB_rm(register, RBP, location - ENV)
            elif value.type is Type.I64 or value.type is Type.F64:
                self.MOVQ_rm(register, RBP, location - ENV)
            else:
                self.MOV_rm(register, RBP, location - ENV)

    def constant(self, register: int, value: Instruction) -> None:
        number = value.aux
        assert isinstance(number, int)
        if number < 1 << 32:
            self.MOV_ri(register, number)
        elif number >= (1 << 64) - (1 << 31):
            self.MOVQ_ri(register, number - (1 << 64))
        else:
            self.MOVABS_ri(register, number)

    def hole(self, value: Instruction, addend: int = 0) -> None:
        """The last four bytes of the code are the literal `value`."""
        hole = value.aux
        assert isinstance(hole, Hole)
        self.holes.append((self.code is self.cold, len(self.code) - 4, hole.index, addend, LITERAL32))

    def hole8(self, value: Instruction) -> None:
        """The last byte of the code is the literal `value`, whose low bits alone matter there."""
        hole = value.aux
        assert isinstance(hole, Hole)
        self.holes.append((self.code is self.cold, len(self.code) - 1, hole.index, 0, LITERAL8))

    def use(self, value: Instruction, scratch: int) -> int:
        """`value` in a register: its own, or `scratch` after a move."""
        location = value.location
        if value.op > Op.HOLE and 0 <= location < 16:
            return location
        self.move(scratch, value)
        return scratch

    def clobber(self) -> None:
        """The host's condition flags no longer hold anything of the guest's."""
        self.kind = KIND_NONE
        self.touched = True
        self.flags_value = None

    def reloc(self, kind: FieldKind, offset: int, value: int) -> None:
        (self.cold_relocs if self.code is self.cold else self.hot_relocs).append((kind, offset, value))

    def refer_near(self, label: HostLabel) -> None:
        self.jumps.append((self.code, len(self.code), label))
        super().refer_near(label)

    def host_label(self, label: Label) -> HostLabel:
        """The host's label for an IR label."""
        host = self.labels.get(label)
        if host is None:
            host = self.labels[label] = self.label()
        return host

    def next_is(self, op: Op, ahead: int = 1) -> Instruction | None:
        """The instruction `ahead` places further if it is an `op`."""
        position = self.position + ahead
        if position < len(self.function) and self.function[position].op is op:
            return self.function[position]
        return None

    def fuses(self, ins: Instruction) -> bool:
        """Whether the truth value `ins` can stay in the host's flags: its one use follows at once."""
        if ins.uses != 1 or ins.last_use != self.position + 1:
            return False
        user = self.function[self.position + 1]
        return user.op in (Op.BRCOND, Op.SELECT) and user.args[0] is ins

    def result_flag(self, ins: Instruction, condition: int) -> None:
        """`ins` is the truth of the host's `condition`, now."""
        if self.fuses(ins):
            ins.location = -1 - condition
            return
        register = self.define(ins)
        self.SETcc_r(condition, register)
        self.MOVZXB_rr(register, register)

    def condition(self, value: Instruction) -> int:
        """Bring the truth value into the host's flags; returns the host condition that means true."""
        location = value.location
        if value.op <= Op.HOLE:
            self.move(RCX, value)
            self.TEST_rr(RCX, RCX)
        elif location < 0:
            return -1 - location
        elif location < 16:
            self.TEST_rr(location, location)
        elif location < ENV - 100_000:
            self.CMPB_mi(RSP, 8 * (location - SPILL), 0)
        else:
            self.CMPB_mi(RBP, location - ENV, 0)
        self.clobber()
        return NE

    def written(self, field: Field, start: int, end: int) -> bool:
        """Whether something after position `start` and before `end` writes the bytes of `field`.

        Every call overwrites the header's argument fields, before it has read its last operand.
        """
        low, high = field.offset, field.offset + field.type.size
        if low < 0 and any(start < call <= end for call in self.calls):
            return True
        return any(start < p < end and low < h and l < high for p, l, h in self.state_writes)


def register_arguments(name: str) -> tuple[tuple[int, ...], int]:
    """Which arguments of the assembler's method `name` are general registers, and which one is a base before its
    displacement (-1 for none)."""
    mnemonic, _, kinds = name.rpartition("_")
    if not mnemonic or not set(kinds) <= set("rmxsviIpc"):
        return (), -1
    registers: list[int] = []
    base = -1
    position = 1 if "cc" in mnemonic else 0
    for kind in kinds:
        if kind == "r":
            registers.append(position)
        elif kind == "m":
            registers.append(position)
            base = position
            position += 1
        elif kind == "x":
            registers += (position, position + 1)
            position += 3
        elif kind == "s":
            registers.append(position)
            position += 2
        if kind != "c":
            position += 1
    return tuple(registers), base


def _traced(method: Callable[..., None]) -> Callable[..., None]:
    def emit(self: Emitter, *arguments: int) -> None:
        code = self.code
        start = len(code)
        method(self, *arguments)
        self.trace.append((code, start, len(code), method, arguments))

    return emit


REGISTER_ARGUMENTS: Final[dict[Callable[..., None], tuple[tuple[int, ...], int]]] = {}
"""By the assembler's method, for all that take registers: see `register_arguments`."""

for _name, _method in list(vars(Assembler).items()):
    _registers, _base = register_arguments(_name)
    if _registers:
        REGISTER_ARGUMENTS[_method] = _registers, _base
        setattr(Emitter, _name, _traced(_method))
