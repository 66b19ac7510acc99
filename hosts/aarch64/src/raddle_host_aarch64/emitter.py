# SPDX-License-Identifier: Apache-2.0
"""The `Emitter`, with which the handlers in `emit/` compile one IR function.

`define` returns the register for a result, `use` brings an operand into a register. x16, x17 and x0 are scratch: no
value stays in them from one operation to the next. x30 is the link register, and the address of a field that is far
from `ENV`. Frame slot n is [sp + 8 n]; a place in the state is [x28 + offset].

Values of 32 bits and truth values are zero-extended to 64 bits wherever they are kept.

In templates, NZCV holds the guest's N, Z, C and V between guest instructions, at each label, and at each call. Within
an instruction, an operation that changes NZCV first saves the guest's flags in a register (`clobber_flags`), and an
operation that needs them in NZCV restores them (`need_flags`). In routines the guest's flags are in the state, and any
operation may change NZCV.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from raddle.codegen import emitter
from raddle.codegen.allocation import RegisterPool
from raddle.codegen.emitter import Handlers
from raddle.codegen.fields import Source, field_kind
from raddle.codegen.locations import InState, Register, Slot
from raddle.codegen.renaming import trace_methods
from raddle.codegen.runtime_calls import ATOMIC_OPS, FLOAT_OPS
from raddle.codegen.template import HOST_FLAGS_NONE
from raddle.ir.builder import Instruction, Local, Location
from raddle.ir.header import OFFSET
from raddle.ir.opcodes import Op
from raddle.ir.types import Field, FloatRules, Hole, Type
from raddle.ordering import MemoryOrder
from raddle_host_aarch64 import code_buffer, fields
from raddle_host_aarch64.assembler import Assembler
from raddle_host_aarch64.code_buffer import BRANCH14, BRANCH19, Label, Reach
from raddle_host_aarch64.conditions import CS, EQ, MI, VS, Kind, Test
from raddle_host_aarch64.encoding import is_logical
from raddle_host_aarch64.fields import HOT26, LITERAL16
from raddle_host_aarch64.operands import OPERANDS
from raddle_host_aarch64.orders import KEPT, barrier_for, order_before
from raddle_host_aarch64.registers import (
    FLOATING,
    GENERAL,
    SP,
    V0,
    V8,
    V9,
    V10,
    V11,
    V12,
    V13,
    V14,
    V15,
    V16,
    V17,
    V18,
    V19,
    V20,
    V21,
    V22,
    V23,
    X0,
    X1,
    X2,
    X3,
    X4,
    X5,
    X6,
    X7,
    X8,
    X9,
    X10,
    X11,
    X12,
    X13,
    X14,
    X15,
    X16,
    X17,
    X18,
    X19,
    X20,
    X21,
    X22,
    X23,
    X24,
    X25,
    X26,
    X27,
    X28,
    X29,
    ZR,
)  # fmt: skip

if TYPE_CHECKING:
    from raddle.codegen.backend import CodegenConfig
    from raddle_host_aarch64.features import Features

ENV: Final = X28
TLBS: Final = (X29, X27, X26, X25)
"""In templates these point to the software TLB of each MMU index. C functions preserve them."""
SCRATCH: Final = X16
SCRATCH2: Final = X17
SCRATCH3: Final = X0
"""Also the guest address for `thunk_indirect`, and the result of a routine."""
FLAG_WORDS: Final = (X15, X1)
"""These save the guest's flags while NZCV holds others: in bits 31 to 28, as NZCV has them."""

PIN_ORDER: Final = (X19, X20, X21, X22, X23, X24, X2, X3, X4, X5, X6, X7, X8, X9, X10, X11)
"""Host registers for the hottest guest fields."""
VALUE_REGISTERS: Final = (X12, X13, X14, X18)
"""Registers for values in templates. Registers of `PIN_ORDER` that no field needs are for values, too. Linux does not
reserve x18 (AAPCS64, 6.1.1)."""
CALLEE_SAVED: Final = (X19, X20, X21, X22, X23, X24, X25, X26, X27)
ROUTINE_REGISTERS: Final = (X9, X10, X11, X12, X13, X14, X2, X3, X4, X5, X6, X7, X8, *CALLEE_SAVED)

FLOAT_REGISTERS: Final = (V8, V9, V10, V11, V12, V13, V14, V15)
"""Registers for floats in templates. C functions preserve their low halves."""
ROUTINE_FLOAT_REGISTERS: Final = (V16, V17, V18, V19, V20, V21, V22, V23)
FLOAT_SCRATCH: Final = V0

FLAG_BITS: Final = (31, 30, 29, 28)
"""Of N, Z, C and V in NZCV."""
FLAG_CONDITIONS: Final = (MI, EQ, CS, VS)
"""The conditions that N, Z, C and V are set."""

CONVERSIONS: Final = frozenset({Op.FTOI, Op.ITOF})
"""Operations that have no instruction in some of their forms."""
SHAPES: Final = {
    code_buffer.BRANCH26: fields.BRANCH26,
    code_buffer.BRANCH19: fields.BRANCH19,
    code_buffer.BRANCH14: fields.BRANCH14,
}

HANDLERS: Final[Handlers[Emitter]] = Handlers()
"""By the modules in `emit/`."""
emits: Final = HANDLERS.emits


class Fused(Location):
    """The location of a truth value that only the next operation uses: nowhere, that operation emits the test."""

    __slots__ = ()


class InCarry(Location):
    """The carry flag in NZCV: the location of a carry that only one addition uses, before anything changes the flag."""

    __slots__ = ()


FUSED: Final = Fused()
IN_CARRY: Final = InCarry()


def is_float(value: Instruction) -> bool:
    """Whether the value is kept in floating-point registers."""
    return value.type is Type.F32 or value.type is Type.F64


class Emitter(Assembler, emitter.Emitter[Label, Test]):
    """Compiles one function at a time; `run` is the entry. One thread uses it at a time."""

    # The base classes' attributes, too: with so many of them, slots are faster than a dictionary.
    __slots__ = (
        "_end",
        "_not_cold",
        "_rare_branches",
        "_rare_end",
        "allocation",
        "call_operations",
        "calls",
        "cold",
        "cold_holes",
        "cold_relocs",
        "config",
        "done",
        "features",
        "flag_places",
        "flag_readers",
        "flag_word",
        "flags_value",
        "float_control_stale",
        "floating",
        "frame_used",
        "free_slots",
        "function",
        "general",
        "head_barrier",
        "hints",
        "hot",
        "hot_holes",
        "hot_relocs",
        "inline_floats",
        "jumps",
        "kept",
        "kind",
        "kinds_matter",
        "labels",
        "parallel",
        "pending",
        "pinned",
        "pinned_fields",
        "pins_flags",
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

    handlers = HANDLERS
    behind_barriers = frozenset({Op.MB, Op.LOAD, Op.STORE, *ATOMIC_OPS})

    def __init__(self, config: CodegenConfig, features: Features, routine: bool) -> None:
        Assembler.__init__(self)
        self.inline_floats = not routine and config.floats == FloatRules()
        """Whether the host's instructions compute floats as the guest wants."""
        self.call_operations = (CONVERSIONS if self.inline_floats else FLOAT_OPS) | {Op.CALL}
        emitter.Emitter.__init__(self, config, routine, [GENERAL[number] for number in PIN_ORDER])
        self.features = features
        self.pins_flags = not routine and config.state.nzcv is not None
        """Whether NZCV holds the guest's N, Z, C and V between instructions."""
        self.flag_places: dict[Field, int] = {field: n for n, field in enumerate(config.state.nzcv or ())}
        """For the fields of the guest's flags: 0 to 3 for N, Z, C and V."""
        self.flag_word = -1
        """The register that holds the guest's flags; -1 if NZCV does."""
        self.float_control_stale = False
        """Whether the header's fields have changed since FPCR was set from them."""
        if routine:
            self.general = RegisterPool(GENERAL, ROUTINE_REGISTERS, SCRATCH, CALLEE_SAVED)
            self.floating = RegisterPool(FLOATING, ROUTINE_FLOAT_REGISTERS, FLOAT_SCRATCH)
        else:
            self.general = RegisterPool(GENERAL, (*VALUE_REGISTERS, *PIN_ORDER[len(self.pinned) :]), SCRATCH)
            self.floating = RegisterPool(FLOATING, FLOAT_REGISTERS, FLOAT_SCRATCH, FLOAT_REGISTERS)
        self.pools = {GENERAL: self.general, FLOATING: self.floating}

    # -- the function --------------------------------------------------------------------------------------------------

    def run(self, function: Sequence[Instruction], locals: Sequence[Local], kind: int = HOST_FLAGS_NONE) -> None:
        self.flag_word = -1
        self.float_control_stale = False
        super().run(function, locals, kind)
        self.at_boundary()

    def emit_in_cold(self, span: range) -> None:
        super().emit_in_cold(span)
        # Code after the branch finds both as they were at the branch: flags in NZCV, and FPCR set.
        self.flag_word = -1
        self.float_control_stale = False

    def at_boundary(self) -> None:
        """Let NZCV hold the guest's flags, and FPCR what the header says, as others expect."""
        self.need_flags()
        if self.float_control_stale:
            self.load_float_control()

    def pool(self, ins: Instruction) -> RegisterPool:
        return self.floating if is_float(ins) else self.general

    def store_slot(self, slot: Slot, register: Register) -> None:
        store = self.STR_xxi if register.register_class is GENERAL else self.STR_dxi
        store(register.number, SP, 8 * slot.number)

    def move(self, register: int, value: Instruction) -> None:
        """Load `value`, as a bit pattern if it is a float, into a general register; no effect on the host's flags."""
        location = value.location
        if value.op is Op.CONST:
            assert isinstance(value.aux, int)
            emit_constant(self, register, value.aux)
        elif value.op is Op.HOLE:
            self.literal(register, value)
        elif isinstance(location, Register):
            if location.register_class is GENERAL:
                self.copy(register, location.number)
            else:
                (self.FMOV_xd if value.type is Type.F64 else self.FMOV_ws)(register, location.number)
        elif isinstance(location, Slot):
            self.LDR_xxi(register, SP, 8 * location.number)
        else:
            assert isinstance(location, InState)
            self.load_field(register, location.offset, value.type.size)

    def move_float(self, register: int, value: Instruction) -> None:
        """Load the float, or the bit pattern of one, into a floating-point register."""
        location, double = value.location, value.type.size == 8
        if isinstance(location, Register) and location.register_class is FLOATING:
            if location.number != register:
                self.FMOV_dd(register, location.number)
        elif isinstance(location, Slot):
            self.LDR_dxi(register, SP, 8 * location.number)
        elif isinstance(location, InState):
            (self.GET_dxi if double else self.GET_sxi)(register, ENV, location.offset)
        else:
            (self.FMOV_dx if double else self.FMOV_sw)(register, self.use_or_zero(value, SCRATCH))

    def copy(self, target: int, source: int) -> None:
        """Copy all 64 bits of a register, unless the two are the same."""
        if target != source:
            self.MOV_xx(target, source)

    def load_field(self, register: int, offset: int, size: int) -> None:
        (self.GETB_wxi if size == 1 else self.GET_wxi if size == 4 else self.GET_xxi)(register, ENV, offset)

    def store_field(self, register: int, offset: int, size: int) -> None:
        (self.PUTB_wxi if size == 1 else self.PUT_wxi if size == 4 else self.PUT_xxi)(register, ENV, offset)

    def literal(self, register: int, value: Instruction) -> None:
        """Load the literal `value`, sign-extended to its type."""
        hole = value.aux
        assert isinstance(hole, Hole)
        low, high = hole.range
        if hole.step >= 1 << 16:
            self.MOVZ_wi_16(register, 0)
            self.last_field(LITERAL16[1], 0, value)
        else:
            self.MOVZ_wi(register, 0)
            self.last_field(LITERAL16[0], 0, value)
            if low < 0 or high > 0xFFFF:
                self.MOVK_wi_16(register, 0)
                self.last_field(LITERAL16[1], 0, value)
        if low < 0 and value.type is Type.I64:
            self.SXTW_xw(register, register)

    def use(self, value: Instruction, scratch: int) -> int:
        """`value` in a general register: its own, or `scratch` after a move."""
        location = value.location
        if isinstance(location, Register) and location.register_class is GENERAL:
            return location.number
        self.move(scratch, value)
        return scratch

    def use_or_zero(self, value: Instruction, scratch: int) -> int:
        """The same for an instruction that can read the zero register."""
        return ZR if value.op is Op.CONST and value.aux == 0 else self.use(value, scratch)

    def use_float(self, value: Instruction, scratch: int) -> int:
        """The float in a floating-point register: its own, or `scratch` after a move."""
        location = value.location
        if isinstance(location, Register) and location.register_class is FLOATING:
            return location.number
        self.move_float(scratch, value)
        return scratch

    # -- barriers ------------------------------------------------------------------------------------------------------

    def order_before(self, ins: Instruction) -> MemoryOrder:
        return order_before(self.config, ins)

    def fence(self, order: MemoryOrder) -> MemoryOrder:
        kind = barrier_for(order)
        self.DMB_i(kind)
        return KEPT[kind]

    # -- branches ------------------------------------------------------------------------------------------------------

    def refer(self, label: Label, reach: Reach) -> None:
        self.jumps.append((self.code, SHAPES[reach], len(self.code) - 4, label))
        super().refer(label, reach)

    def inverted(self, test: Test) -> Test:
        return test._replace(negated=not test.negated)

    def branch_to(self, test: Test, label: Label) -> None:
        self.refer(label, self._branch_if(test))

    def branch_to_cold(self, test: Test) -> None:
        self.last_field(field_kind(Source.COLD, SHAPES[self._branch_if(test)]), len(self.cold))

    def return_to_hot(self) -> None:
        self.B_i(0)
        self.last_field(HOT26, len(self.hot))

    def _branch_if(self, test: Test) -> Reach:
        """Emit the branch that is taken if the test holds, with a distance of 0; returns the field of the distance."""
        kind, operand, detail, negated = test
        if kind is Kind.FLAGS:
            self.B_ci(operand ^ negated, 0)
            return BRANCH19
        if kind is Kind.NOT_ZERO:
            if detail:
                (self.CBZ_xi if negated else self.CBNZ_xi)(operand, 0)
            else:
                (self.CBZ_wi if negated else self.CBNZ_wi)(operand, 0)
            return BRANCH19
        (self.TBZ_xii if negated else self.TBNZ_xii)(operand, detail, 0)
        return BRANCH14

    def jump_to(self, label: Label) -> None:
        self.B_label(label)

    # -- condition flags -----------------------------------------------------------------------------------------------

    def clobber_flags(self) -> None:
        """Called before NZCV changes: saves the guest's flags in a register if NZCV holds them."""
        if self.pins_flags:
            self.keep_flag_word()
        self.flags_value = None

    def need_flags(self) -> None:
        """Let NZCV hold the guest's flags again."""
        if self.flag_word >= 0:
            self.MSR_NZCV_x(self.flag_word)
            self.flag_word = -1
            self.flags_value = None

    def other_flag_word(self) -> int:
        """The register of `FLAG_WORDS` that does not hold the guest's flags."""
        return FLAG_WORDS[0] if self.flag_word == FLAG_WORDS[1] else FLAG_WORDS[1]

    def keep_flag_word(self) -> None:
        """Let a register hold the guest's flags. NZCV stays as it is."""
        if self.flag_word < 0:
            self.flag_word = FLAG_WORDS[0]
            self.MRS_x_NZCV(self.flag_word)

    def insert_flag(self, field: Field, register: int) -> None:
        """Let the guest's flag `field` be the truth value in `register`."""
        self.keep_flag_word()
        self.BFI_wwii(self.flag_word, register, FLAG_BITS[self.flag_places[field]], 1)

    def is_flag(self, field: object) -> bool:
        """Whether the field is N, Z, C or V, and NZCV holds it between instructions."""
        return self.pins_flags and field in self.flag_places

    def begin_flags(self, ins: Instruction) -> None:
        """Called before an operation whose flags are asked for: saves the guest's, unless it replaces them all."""
        nzcv = self.state_layout.nzcv or ()
        replaced = any(
            reader.op is Op.SET_NZCV and self.undisturbed(ins.position, reader.position, nzcv)
            for reader in self.flag_readers[ins]
        )
        if self.pins_flags and not replaced:
            self.keep_flag_word()

    def store_nzcv(self, subtracted: bool) -> None:
        if self.pins_flags:
            self.flag_word = -1
        else:
            store_host_flags(self, self.nzcv_fields())

    def save_nzcv(self, slot: Slot, subtracted: bool) -> None:
        self.MRS_x_NZCV(SCRATCH)
        self.STR_xxi(SCRATCH, SP, 8 * slot.number)

    def store_flag(self, field: Field, overflow: bool, subtracted: bool) -> None:
        self.CSET_wc(SCRATCH, VS if overflow else CS)
        if self.is_flag(field):
            self.insert_flag(field, SCRATCH)
        else:
            self.PUTB_wxi(SCRATCH, ENV, field.offset)

    def flag_to_register(self, register: int, overflow: bool, subtracted: bool) -> None:
        self.CSET_wc(register, VS if overflow else CS)

    # -- floating-point control ----------------------------------------------------------------------------------------

    def load_float_control(self) -> None:
        """Set FPCR to what the header's fields say."""
        emit_float_control(self)
        self.float_control_stale = False


def emit_constant(a: Assembler, register: int, number: int) -> None:
    """Load a number of at most 64 bits, with one to four instructions."""
    if number >> 32 == 0:
        _constant32(a, register, number)
        return
    if is_logical(number, 64):
        a.ORR_xxi(register, 31, number)
        return
    pieces = [number >> shift & 0xFFFF for shift in (0, 16, 32, 48)]
    inverted = pieces.count(0xFFFF) > pieces.count(0)
    skipped = 0xFFFF if inverted else 0
    places = [n for n in range(4) if pieces[n] != skipped] or [0]
    first, *others = places
    if inverted:
        (a.MOVN_xi, a.MOVN_xi_16, a.MOVN_xi_32, a.MOVN_xi_48)[first](register, pieces[first] ^ 0xFFFF)
    else:
        (a.MOVZ_xi, a.MOVZ_xi_16, a.MOVZ_xi_32, a.MOVZ_xi_48)[first](register, pieces[first])
    for n in others:
        (a.MOVK_xi, a.MOVK_xi_16, a.MOVK_xi_32, a.MOVK_xi_48)[n](register, pieces[n])


def _constant32(a: Assembler, register: int, number: int) -> None:
    low, high = number & 0xFFFF, number >> 16
    if not high:
        a.MOVZ_wi(register, low)
    elif not low:
        a.MOVZ_wi_16(register, high)
    elif high == 0xFFFF:
        a.MOVN_wi(register, low ^ 0xFFFF)
    elif low == 0xFFFF:
        a.MOVN_wi_16(register, high ^ 0xFFFF)
    elif is_logical(number, 32):
        a.ORR_wwi(register, 31, number)
    else:
        a.MOVZ_wi(register, low)
        a.MOVK_wi_16(register, high)


# -- flags in the state, one byte each ---------------------------------------------------------------------------------


def _in_one_word(fields: Sequence[Field]) -> bool:
    first = fields[0].offset
    return first % 4 == 0 and [field.offset for field in fields] == [first + n for n in range(4)]


def store_host_flags(a: Assembler, fields: Sequence[Field]) -> None:
    """Store NZCV to the guest's fields N, Z, C and V; overwrites `SCRATCH`, leaves NZCV alone."""
    if not _in_one_word(fields):
        for field, condition in zip(fields, FLAG_CONDITIONS, strict=True):
            a.CSET_wc(SCRATCH, condition)
            a.PUTB_wxi(SCRATCH, ENV, field.offset)
        return
    # Move N, Z, C and V to bits 0 to 3, then each to a byte of its own.
    a.MRS_x_NZCV(SCRATCH)
    a.RBIT_ww(SCRATCH, SCRATCH)
    a.ORR_www_lsl(SCRATCH, SCRATCH, SCRATCH, 14)
    a.ORR_www_lsl(SCRATCH, SCRATCH, SCRATCH, 7)
    a.AND_wwi(SCRATCH, SCRATCH, 0x01010101)
    a.PUT_wxi(SCRATCH, ENV, fields[0].offset)


def load_host_flags(a: Assembler, fields: Sequence[Field]) -> None:
    """Load NZCV from the guest's fields N, Z, C and V; overwrites `SCRATCH` and `SCRATCH2`."""
    if not _in_one_word(fields):
        a.MOVZ_wi(SCRATCH2, 0)
        for field, bit in zip(fields, FLAG_BITS, strict=True):
            a.GETB_wxi(SCRATCH, ENV, field.offset)
            a.BFI_wwii(SCRATCH2, SCRATCH, bit, 1)
        a.MSR_NZCV_x(SCRATCH2)
        return
    a.GET_wxi(SCRATCH, ENV, fields[0].offset)
    a.RBIT_ww(SCRATCH, SCRATCH)
    a.ORR_www_lsl(SCRATCH, SCRATCH, SCRATCH, 7)
    a.ORR_www_lsl(SCRATCH, SCRATCH, SCRATCH, 14)
    a.AND_wwi(SCRATCH, SCRATCH, 0xF0000000)
    a.MSR_NZCV_x(SCRATCH)


# -- floating-point control and status ---------------------------------------------------------------------------------


def emit_float_control(a: Assembler) -> None:
    """Set FPCR to what the header's fields say; overwrites `SCRATCH` and `SCRATCH2`."""
    a.GET_wxi(SCRATCH, ENV, OFFSET["fp_rounding"])
    a.GET_wxi(SCRATCH2, ENV, OFFSET["fp_flush"])
    a.ORR_www_lsl(SCRATCH, SCRATCH, SCRATCH2, 2)
    a.GET_wxi(SCRATCH2, ENV, OFFSET["fp_default_nan"])
    a.ORR_www_lsl(SCRATCH, SCRATCH, SCRATCH2, 3)
    a.LSL_wwi(SCRATCH, SCRATCH, 22)
    a.MSR_FPCR_x(SCRATCH)


def emit_float_flags(a: Assembler) -> None:
    """Add FPSR's cumulative flags to the header's; overwrites `SCRATCH` and `SCRATCH2`, leaves FPSR alone."""
    a.MRS_x_FPSR(SCRATCH)
    a.AND_wwi(SCRATCH2, SCRATCH, 0x1F)
    a.AND_wwi(SCRATCH, SCRATCH, 0x80)
    a.ORR_www(SCRATCH2, SCRATCH2, SCRATCH)
    a.GET_wxi(SCRATCH, ENV, OFFSET["fp_flags"])
    a.ORR_www(SCRATCH, SCRATCH, SCRATCH2)
    a.PUT_wxi(SCRATCH, ENV, OFFSET["fp_flags"])


trace_methods(Emitter, Assembler, OPERANDS)
