# SPDX-License-Identifier: Apache-2.0
"""The `Emitter`, with which the handlers in `emit/` compile one IR function.

`define` returns the register for a result, `use` brings an operand into a register. rcx and rdx are scratch: no value
stays in them from one operation to the next. Frame slot n is [rsp + 8 n]; a place in the state is [rbp + offset].

Values of 32 bits and truth values are zero-extended to 64 bits wherever they are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from raddle.codegen import emitter
from raddle.codegen.allocation import RegisterPool
from raddle.codegen.emitter import Handlers
from raddle.codegen.locations import InState, Register, Slot
from raddle.codegen.renaming import trace_methods
from raddle.codegen.runtime_calls import FLOAT_OPS
from raddle.ir.builder import Instruction, Location
from raddle.ir.opcodes import Op
from raddle.ir.types import Field, Type
from raddle.ordering import MemoryOrder
from raddle_host_x86_64.assembler import Assembler
from raddle_host_x86_64.code_buffer import Label as HostLabel
from raddle_host_x86_64.conditions import AE, NE, B, E, O, S
from raddle_host_x86_64.fields import COLD, EXIT, HOT, LITERAL8, LITERAL32, REL32
from raddle_host_x86_64.operands import OPERANDS
from raddle_host_x86_64.registers import (
    FLOATING,
    GENERAL,
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
    XMM0,
)  # fmt: skip

if TYPE_CHECKING:
    from raddle.codegen.backend import CodegenConfig
    from raddle_host_x86_64.features import Features

PIN_ORDER: Final = (RBX, RSI, RDI, R8, R9, R10, R12, R13, R14, R15)
"""Host registers for the hottest guest fields; the first three encode without a REX prefix."""
VALUE_REGISTERS: Final = (RAX, R11)
"""Registers for values in templates. Registers of `PIN_ORDER` that no field needs are for values, too."""
MANY_FIELDS: Final = 16
"""A guest with more hot integer fields than these has the next one in the last of `VALUE_REGISTERS`. It gains more than
instructions lose that need two values at a time, such as those of fewer registers that load or store several.
"""
FLOAT_PIN_ORDER: Final = range(3, 16)
"""xmm registers for the hottest guest fields that are floats. xmm0 to xmm2 are scratch."""
CALLEE_SAVED: Final = (RBX, R12, R13, R14, R15)
ROUTINE_REGISTERS: Final = (RAX, RSI, RDI, R8, R9, R10, R11, *CALLEE_SAVED)

ANY_LITERAL: Final = 0x7FFFFFFF
"""A displacement in whose place the joiner puts a literal: one of four bytes."""

SAVE_SLOT: Final = 0
"""The frame slot that saves a fixed register."""

# Kinds: which operation the host's condition flags come from, and so which of the guest's N, Z, C and V they hold.
KIND_SUB: Final = 1
KIND_ADD: Final = 2
KIND_LOGIC: Final = 3

HANDLERS: Final[Handlers[Emitter]] = Handlers()
"""By the modules in `emit/`."""
emits: Final = HANDLERS.emits


class HostFlags(Location):
    """The host's condition flags: the location of a truth value that only the next operation uses."""

    __slots__ = ("condition",)

    def __init__(self, condition: int) -> None:
        self.condition = condition
        """The host condition that means true."""


class Sum(Location):
    """The location of an address that the access right behind it adds up: a register, which keeps its value until then,
    and a literal.
    """

    __slots__ = ("base", "literal")

    def __init__(self, base: int, literal: Instruction) -> None:
        self.base = base
        self.literal = literal


_HOST_FLAGS: Final = tuple([HostFlags(condition) for condition in range(16)])


def register_of(value: Instruction) -> int:
    """The number of the general register that holds the value; -1 if none does."""
    location = value.location
    return location.number if isinstance(location, Register) and location.register_class is GENERAL else -1


def float_register_of(value: Instruction) -> int:
    """The number of the xmm register that holds the value; -1 if none does."""
    location = value.location
    return location.number if isinstance(location, Register) and location.register_class is FLOATING else -1


def memory_of(value: Instruction) -> tuple[int, int] | None:
    """Base register and displacement of a value in the frame or in the guest's state; None for other values."""
    location = value.location
    if isinstance(location, InState):
        return RBP, location.offset
    return (RSP, 8 * location.number) if isinstance(location, Slot) else None


class Emitter(Assembler, emitter.Emitter[HostLabel, int]):
    """Compiles one function at a time; `run` is the entry. One thread uses it at a time."""

    __slots__ = (*emitter.SLOTS, "features", "general")

    handlers = HANDLERS
    general_class = GENERAL
    call_operations = FLOAT_OPS | {Op.CALL}

    def __init__(self, config: CodegenConfig, features: Features, routine: bool) -> None:
        Assembler.__init__(self)
        waits = config.fences & MemoryOrder.ST_LD
        self.behind_barriers = frozenset({Op.MB, Op.LOAD, Op.LOAD_EXCLUSIVE} if waits else {Op.MB})
        integers = sum(field.type in (Type.I32, Type.I64) for field in config.state.hot_fields)
        pin_order = (*PIN_ORDER, VALUE_REGISTERS[-1]) if integers > MANY_FIELDS else PIN_ORDER
        general, floating = [GENERAL[n] for n in pin_order], [FLOATING[n] for n in FLOAT_PIN_ORDER]
        emitter.Emitter.__init__(self, config, routine, general, floating)
        self.features = features
        taken = sum(register.register_class is GENERAL for _, register in self.pinned_fields)
        values = (*VALUE_REGISTERS, *PIN_ORDER[taken:]) if taken <= len(PIN_ORDER) else VALUE_REGISTERS[:-1]
        if routine:
            values = ROUTINE_REGISTERS
        self.general = RegisterPool(GENERAL, values, RDX, CALLEE_SAVED if routine else ())
        # Values have general registers; a float that is one of the other class is what a pinned field holds.
        self.pools = {GENERAL: self.general, FLOATING: RegisterPool(FLOATING, (), XMM0)}

    def pool(self, ins: Instruction) -> RegisterPool:
        return self.general

    def store_slot(self, slot: Slot, register: Register) -> None:
        self.MOVQ_mr(RSP, 8 * slot.number, register.number)

    def move(self, register: int, value: Instruction) -> None:
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
            if isinstance(location, Register):
                if location.register_class is FLOATING:
                    self.MOVQ_rv(register, location.number)
                elif location.number != register:
                    if value.type is Type.I64 or value.type is Type.F64:
                        self.MOVQ_rr(register, location.number)
                    else:
                        self.MOV_rr(register, location.number)
            elif isinstance(location, Slot):
                self.MOVQ_rm(register, RSP, 8 * location.number)
            elif isinstance(location, Sum):
                self.LEAQ_rm(register, location.base, ANY_LITERAL)
                self.hole(location.literal)
            else:
                assert isinstance(location, InState)
                self.load_field(register, location.offset, value.type.size)

    def move_float(self, register: int, value: Instruction) -> None:
        """Load a value, a float or the bit pattern of one, into an xmm register; no effect on the host's flags."""
        number, place, wide = float_register_of(value), memory_of(value), value.type.size == 8
        if number >= 0:
            if number != register:
                self.MOVAPS_vv(register, number)
        elif place is not None:
            (self.MOVQ_vm if wide else self.MOVD_vm)(register, *place)
        else:
            (self.MOVQ_vr if wide else self.MOVD_vr)(register, self.use(value, RCX))

    def load_field(self, register: int, offset: int, size: int) -> None:
        (self.MOVZXB_rm if size == 1 else self.MOV_rm if size == 4 else self.MOVQ_rm)(register, RBP, offset)

    def store_field(self, register: int, offset: int, size: int) -> None:
        (self.MOVB_mr if size == 1 else self.MOV_mr if size == 4 else self.MOVQ_mr)(RBP, offset, register)

    def constant(self, register: int, value: Instruction) -> None:
        number = value.aux
        assert isinstance(number, int)
        if number < 1 << 32:
            self.MOV_ri(register, number)
        elif number >= (1 << 64) - (1 << 31):
            self.MOVQ_ri(register, number - (1 << 64))
        else:
            self.MOVABS_ri(register, number)

    def hole(self, value: Instruction) -> None:
        """The last four bytes of the code are the literal `value`."""
        self.last_field(LITERAL32, 0, value)

    def hole8(self, value: Instruction) -> None:
        """The last byte of the code is the low byte of the literal `value`."""
        self.field(LITERAL8, len(self.code) - 1, 0, value)

    def result_flag(self, ins: Instruction, condition: int) -> None:
        """Let `ins` tell whether the host's `condition` holds now."""
        if self.fuses(ins):
            ins.location = _HOST_FLAGS[condition]
            return
        register = self.define(ins, ins.args)
        self.SETcc_r(condition, register)
        self.MOVZXB_rr(register, register)

    def condition(self, value: Instruction) -> int:
        """Bring the truth value into the host's flags; returns the host condition that means true."""
        location = value.location
        if isinstance(location, HostFlags):
            return location.condition
        if isinstance(location, Register):
            self.TEST_rr(location.number, location.number)
        elif isinstance(location, Slot):
            self.CMPB_mi(RSP, 8 * location.number, 0)
        elif isinstance(location, InState):
            self.CMPB_mi(RBP, location.offset, 0)
        else:
            self.move(RCX, value)
            self.TEST_rr(RCX, RCX)
        self.clobber()
        return NE

    # -- barriers ------------------------------------------------------------------------------------------------------

    def order_before(self, ins: Instruction) -> MemoryOrder:
        """A later load must not pass an earlier store: all other orders hold already (Intel SDM 3A, 8.2.2). Atomic
        operations keep it, too.
        """
        order = ins.aux if ins.op is Op.MB else self.config.fences
        assert isinstance(order, int)
        return MemoryOrder(order) & MemoryOrder.ST_LD

    def fence(self, order: MemoryOrder) -> MemoryOrder:
        self.LOCK_OR_mi(RSP, 0, 0)
        self.clobber()
        return MemoryOrder.ALL

    # -- branches ------------------------------------------------------------------------------------------------------

    # A test is a host condition.

    def refer_near(self, label: HostLabel) -> None:
        self.jumps.append((self.code, REL32, len(self.code), label))
        super().refer_near(label)

    def inverted(self, test: int) -> int:
        return test ^ 1

    def branch_to(self, test: int, label: HostLabel) -> None:
        self.Jcc_near(test, label)

    def branch_to_cold(self, test: int) -> None:
        self.Jcc_rel32(test, 0)
        self.last_field(COLD, len(self.cold))

    def return_to_hot(self) -> None:
        self.JMP_rel32(0)
        self.last_field(HOT, len(self.hot))

    def branch_to_exit(self, test: int, leave: Instruction) -> None:
        self.Jcc_rel32(test, 0)
        self.chain(leave)

    def jump_to(self, label: HostLabel) -> None:
        self.JMP_near(label)

    def chain(self, leave: Instruction) -> None:
        """The last four bytes of the code are the distance of a chainable exit to where `leave`, a `GOTO`, leads."""
        offset = leave.aux
        assert isinstance(offset, int)
        self.last_field(EXIT, offset, *leave.args)

    # -- condition flags -----------------------------------------------------------------------------------------------

    def store_flags(self, base: int, places: tuple[int, int], conditions: Sequence[int]) -> None:
        """Store two truth values as bytes at two displacements. Overwrites rcx; no effect on the host's flags.

        Stores are the bottleneck: two neighbours take one. SETcc to memory would take one each, and an operation more.
        """
        first, second = places
        self.SETcc_r(conditions[0], RCX)
        if second == first + 1:
            self.SETcc_h(conditions[1], RCX)
            self.MOVW_mr(base, first, RCX)
        else:
            self.MOVB_mr(base, first, RCX)
            self.SETcc_r(conditions[1], RCX)
            self.MOVB_mr(base, second, RCX)

    def store_nzcv(self, subtracted: bool) -> None:
        n, z, c, v = self.nzcv_fields()
        conditions = _nzcv_conditions(subtracted)
        self.store_flags(RBP, (n.offset, z.offset), conditions[:2])
        self.store_flags(RBP, (c.offset, v.offset), conditions[2:])
        self.kind = KIND_SUB if subtracted else KIND_ADD

    def save_nzcv(self, slot: Slot, subtracted: bool) -> None:
        place = 8 * slot.number
        conditions = _nzcv_conditions(subtracted)
        self.store_flags(RSP, (place, place + 1), conditions[:2])
        self.store_flags(RSP, (place + 2, place + 3), conditions[2:])

    def store_flag(self, field: Field, overflow: bool, subtracted: bool) -> None:
        self.SETcc_r(_condition_of(overflow, subtracted), RCX)
        self.MOVB_mr(RBP, field.offset, RCX)

    def flag_to_register(self, register: int, overflow: bool, subtracted: bool) -> None:
        self.SETcc_r(_condition_of(overflow, subtracted), register)
        self.MOVZXB_rr(register, register)


def _condition_of(overflow: bool, subtracted: bool) -> int:
    return O if overflow else AE if subtracted else B


def _nzcv_conditions(subtracted: bool) -> tuple[int, int, int, int]:
    return S, E, _condition_of(False, subtracted), O


trace_methods(Emitter, Assembler, OPERANDS)
