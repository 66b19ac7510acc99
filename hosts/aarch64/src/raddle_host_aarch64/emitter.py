# SPDX-License-Identifier: Apache-2.0
"""Register allocation and code emission for one IR function: the `Emitter` that the functions of `emit/` work with.

Values are given their places by `raddle.codegen.allocation`: `define` gives a register for the result, `use` brings a
value into one. No value outlives an operation in the scratch registers x16, x17 and x0; x30 is the link register, and
the address of fields that are far from `ENV`. A frame slot n is [sp + 8 n], a place in the state [x28 + offset].

Values of 32 bits and truth values are zero-extended to 64 bits wherever they are kept.

The guest's N, Z, C and V are the host's: in templates NZCV holds them at each boundary of guest instructions, at each
label, and where code is called. In between an operation that needs the host's flags for itself moves the guest's to a
register first (`clobber_flags`), and who wants them in their place brings them back (`need_flags`). In routines they
are in the state, and the host's flags are anybody's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from raddle.codegen.allocation import CodegenError
from raddle.codegen.flag_capture import FlagCapture
from raddle.codegen.renaming import Traced
from raddle.codegen.values import SPILL, STATE, is_register, is_slot
from raddle.codegen.variants import FAULTS
from raddle.ir.builder import Instruction, Label, Local
from raddle.ir.opcodes import Op
from raddle.ir.types import Field, FloatRules, Hole, Type
from raddle.runtime.layout import OFFSET
from raddle_host_aarch64.assembler import Assembler
from raddle_host_aarch64.code_buffer import Label as HostLabel
from raddle_host_aarch64.code_buffer import Reach
from raddle_host_aarch64.conditions import CS, EQ, MI, VS
from raddle_host_aarch64.encoding import is_logical
from raddle_host_aarch64.fields import LITERAL16
from raddle_host_aarch64.operands import OPERANDS
from raddle_host_aarch64.registers import (
    SP,
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
)  # fmt: skip

if TYPE_CHECKING:
    from raddle.codegen.backend import CodegenConfig
    from raddle.codegen.fields import FieldKind, OpenHole, Reloc
    from raddle_host_aarch64.features import Features

ENV: Final = X28
TLB: Final = X29
"""In templates: `TLB_BIAS` behind the first software TLB's start."""
TLB_BIAS: Final = 32
"""From there LDUR and LDR reach an entry of MMU index 0 and the same one of MMU index 1."""
SCRATCH: Final = X16
SCRATCH2: Final = X17
SCRATCH3: Final = X0
"""Also the address with which a block is left (`thunk_indirect`), and what a routine returns."""
FLAG_WORDS: Final = (X15, X1)
"""Where the guest's flags are while the host's are needed for something else; as NZCV has them, in bits 31 to 28."""

PIN_ORDER: Final = (X19, X20, X21, X22, X23, X24, X25, X26, X27, X2, X3, X4, X5, X6, X7, X8)
"""Host registers for the hottest guest fields."""
VALUE_REGISTERS: Final = (X9, X10, X11, X12, X13, X14)
"""Registers for values in templates, besides those that the guest leaves unpinned."""
CALLEE_SAVED: Final = (X19, X20, X21, X22, X23, X24, X25, X26, X27)
ROUTINE_REGISTERS: Final = (X9, X10, X11, X12, X13, X14, X2, X3, X4, X5, X6, X7, X8, *CALLEE_SAVED)

FUSED: Final = -1
"""Location of a truth value that the next instruction alone uses: that emits the test."""
IN_CARRY: Final = -2
"""Location of the guest's carry flag where it is used, in NZCV, before anything changes it."""

FLAG_BITS: Final = (31, 30, 29, 28)
"""Of N, Z, C and V in NZCV."""
FLAG_CONDITIONS: Final = (MI, EQ, CS, VS)
"""That N, Z, C and V are set."""

FLOATS: Final = frozenset({Op.FADD, Op.FSUB, Op.FMUL, Op.FDIV, Op.FSQRT, Op.FMA, Op.FCMP, Op.FCVT, Op.FTOI, Op.ITOF})
CONVERSIONS: Final = frozenset({Op.FTOI, Op.ITOF})
"""Those of which no instruction does some."""
CALLS: Final = FLOATS | {Op.CALL}
"""Operations that may be emitted as calls: nothing but pinned and callee-saved registers survives them."""
MEMORY: Final = FAULTS - {Op.CALL}

Handler = Callable[["Emitter", Instruction], None]
HANDLERS: Final[dict[Op, Handler]] = {}


def emits(*ops: Op) -> Callable[[Handler], Handler]:
    """Register a function as the emitter of `ops`."""

    def register(handler: Handler) -> Handler:
        for op in ops:
            HANDLERS[op] = handler
        return handler

    return register


class Emitter(Assembler, FlagCapture):
    """Compiles one function at a time; `run` is the entry. One thread uses it at a time."""

    __slots__ = (
        "call_operations",
        "calls",
        "cold",
        "cold_relocs",
        "config",
        "done",
        "features",
        "flag_places",
        "flag_readers",
        "flag_word",
        "flags_value",
        "float_control_stale",
        "frame_used",
        "free",
        "function",
        "hints",
        "holes",
        "hot_relocs",
        "inline_floats",
        "jumps",
        "labels",
        "parallel",
        "pending",
        "pinned",
        "pinned_fields",
        "pins_flags",
        "position",
        "preserved",
        "preserved_used",
        "routine",
        "routine_exit",
        "scratch",
        "state_layout",
        "state_writes",
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
        self.state_layout = config.state
        self.inline_floats = not routine and config.floats == FloatRules()
        self.call_operations = CONVERSIONS | {Op.CALL} if self.inline_floats else CALLS
        self.scratch = SCRATCH
        self.preserved = CALLEE_SAVED if routine else ()
        self.parallel = config.parallel
        hot = () if routine else [f for f in config.state.hot_fields if f.type in (Type.I32, Type.I64)]
        self.pinned_fields = tuple(zip(hot, PIN_ORDER, strict=False))
        self.pinned: dict[int, int] = {field.offset: register for field, register in self.pinned_fields}
        self.pins_flags = not routine and config.state.nzcv is not None
        self.flag_places: dict[Field, int] = {field: n for n, field in enumerate(config.state.nzcv or ())}
        """Which of N, Z, C and V a field is."""
        if routine:
            self.value_registers: tuple[int, ...] = ROUTINE_REGISTERS
        else:
            self.value_registers = (*VALUE_REGISTERS, *PIN_ORDER[len(self.pinned) :])

    # -- the function --------------------------------------------------------------------------------------------------

    def run(self, function: Sequence[Instruction], locals: Sequence[Local]) -> None:
        """Emit `function`. Results are left in the attributes."""
        self.code = bytearray()
        self.cold = bytearray()
        self._waiting = 0
        self.hot_relocs: list[Reloc] = []
        self.cold_relocs: list[Reloc] = []
        self.holes: list[tuple[bool, OpenHole]] = []
        self.labels: dict[Label, HostLabel] = {}
        self.trace: list[Traced] = []
        self.jumps: list[tuple[bytearray, int, Reach, HostLabel]] = []
        self.flag_word = -1
        self.flags_value: Instruction | None = None
        self.float_control_stale = False
        self.done: set[int] = set()
        self.routine_exit: HostLabel | None = None
        self.analyse(function)
        self.begin_allocation(len(locals))
        handlers = HANDLERS
        for position, ins in enumerate(function):
            self.position = position
            if position not in self.done:
                handlers[ins.op](self, ins)
                self.settle(ins)
                self.release(ins, position)
        self.at_boundary()

    def at_boundary(self) -> None:
        """What is kept elsewhere for the moment goes to where others look for it: flags, floating-point control."""
        self.need_flags()
        if self.float_control_stale:
            self.load_float_control()

    def store_slot(self, slot: int, register: int) -> None:
        self.STR_xxi(register, SP, 8 * slot)

    def move(self, register: int, value: Instruction) -> None:
        """Load `value` into `register`; no effect on the host's flags."""
        op = value.op
        if op is Op.CONST:
            assert isinstance(value.aux, int)
            self.constant(register, value.aux)
        elif op is Op.HOLE:
            self.literal(register, value)
        else:
            location = value.location
            if location < SPILL:
                self.copy(register, location)
            elif is_slot(location):
                self.LDR_xxi(register, SP, 8 * (location - SPILL))
            else:
                self.load_field(register, location - STATE, value.type.size)

    def copy(self, target: int, source: int) -> None:
        """All 64 bits of a register, unless it is the same."""
        if target != source:
            self.MOV_xx(target, source)

    def load_field(self, register: int, offset: int, size: int) -> None:
        """A field of 1, 4 or 8 bytes, zero-extended."""
        (self.GETB_wxi if size == 1 else self.GET_wxi if size == 4 else self.GET_xxi)(register, ENV, offset)

    def store_field(self, register: int, offset: int, size: int) -> None:
        (self.PUTB_wxi if size == 1 else self.PUT_wxi if size == 4 else self.PUT_xxi)(register, ENV, offset)

    def constant(self, register: int, number: int) -> None:
        """A number of at most 64 bits, in as few instructions as it takes."""
        emit_constant(self, register, number)

    def literal(self, register: int, value: Instruction) -> None:
        """The literal `value`, sign-extended to its type."""
        hole = value.aux
        assert isinstance(hole, Hole)
        low, high = hole.range
        self.MOVZ_wi(register, 0)
        self.hole(value, LITERAL16[0])
        if low < 0 or high > 0xFFFF:
            self.MOVK_wi_16(register, 0)
            self.hole(value, LITERAL16[1])
        if low < 0 and value.type is Type.I64:
            self.SXTW_xw(register, register)

    def hole(self, value: Instruction, kind: FieldKind, addend: int = 0) -> None:
        """The last instruction of the code has a field for the literal `value`."""
        hole = value.aux
        assert isinstance(hole, Hole)
        self.holes.append((self.code is self.cold, (len(self.code) - 4, hole.index, addend, kind)))

    def use(self, value: Instruction, scratch: int) -> int:
        """`value` in a register: its own, or `scratch` after a move."""
        location = value.location
        if value.op > Op.HOLE and is_register(location):
            return location
        self.move(scratch, value)
        return scratch

    def use_or_zero(self, value: Instruction, scratch: int) -> int:
        """The same where the instruction takes the zero register."""
        return 31 if value.op is Op.CONST and value.aux == 0 else self.use(value, scratch)

    def reloc(self, kind: FieldKind, offset: int, value: int) -> None:
        (self.cold_relocs if self.code is self.cold else self.hot_relocs).append((kind, offset, value))

    def refer(self, label: HostLabel, reach: Reach) -> None:
        self.jumps.append((self.code, len(self.code) - 4, reach, label))
        super().refer(label, reach)

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
        """Whether the test for the truth value `ins` can be left to its one use, which follows at once."""
        if ins.uses != 1 or ins.last_use != self.position + 1:
            return False
        user = self.function[self.position + 1]
        return user.op in (Op.BRCOND, Op.SELECT) and user.args[0] is ins

    # -- condition flags -----------------------------------------------------------------------------------------------

    def nzcv_fields(self) -> tuple[Field, Field, Field, Field]:
        fields = self.config.state.nzcv
        if fields is None:
            raise CodegenError("the target's state layout names no nzcv fields")
        return fields

    def clobber_flags(self) -> None:
        """The host's flags are about to change: keep the guest's in a register if they are the host's."""
        if self.pins_flags and self.flag_word < 0:
            self.flag_word = FLAG_WORDS[0]
            self.MRS_x_NZCV(self.flag_word)
        self.flags_value = None

    def need_flags(self) -> None:
        """The guest's flags are the host's again."""
        if self.flag_word >= 0:
            self.MSR_NZCV_x(self.flag_word)
            self.flag_word = -1
            self.flags_value = None

    def other_flag_word(self) -> int:
        """The register of `FLAG_WORDS` that does not have the guest's flags."""
        return FLAG_WORDS[0] if self.flag_word == FLAG_WORDS[1] else FLAG_WORDS[1]

    def insert_flag(self, field: Field, register: int) -> None:
        """Let the guest's flag `field` be the truth value in `register`."""
        bit = FLAG_BITS[self.flag_places[field]]
        self.keep_flag_word()
        self.BFI_wwii(self.flag_word, register, bit, 1)

    def keep_flag_word(self) -> None:
        """The guest's flags are in a register to be changed there; the host's flags stay what they are."""
        if self.flag_word < 0:
            self.flag_word = FLAG_WORDS[0]
            self.MRS_x_NZCV(self.flag_word)

    def is_flag(self, field: object) -> bool:
        """Whether the field is one of N, Z, C and V that are kept in the host's flags."""
        return self.pins_flags and field in self.flag_places

    def begin_flags(self, ins: Instruction) -> None:
        """An operation whose flags are asked for is about to be emitted."""
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

    def save_nzcv(self, slot: int, subtracted: bool) -> None:
        self.MRS_x_NZCV(SCRATCH)
        self.STR_xxi(SCRATCH, SP, 8 * slot)

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
        """Let FPCR be what the header's fields say."""
        emit_float_control(self)
        self.float_control_stale = False


def emit_constant(a: Assembler, register: int, number: int) -> None:
    """A number of at most 64 bits, in as few instructions as it takes."""
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
    # N, Z, C and V to bits 0 to 3, and from there to one byte each
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
    """Let FPCR be what the header's fields say; overwrites `SCRATCH` and `SCRATCH2`."""
    a.GET_wxi(SCRATCH, ENV, OFFSET["fp_rounding"])
    a.GET_wxi(SCRATCH2, ENV, OFFSET["fp_flush"])
    a.ORR_www_lsl(SCRATCH, SCRATCH, SCRATCH2, 2)
    a.GET_wxi(SCRATCH2, ENV, OFFSET["fp_default_nan"])
    a.ORR_www_lsl(SCRATCH, SCRATCH, SCRATCH2, 3)
    a.LSL_wwi(SCRATCH, SCRATCH, 22)
    a.MSR_FPCR_x(SCRATCH)


def emit_float_flags(a: Assembler) -> None:
    """Add FPSR's cumulative flags to the header's; overwrites `SCRATCH` and `SCRATCH2`. FPSR is left as it is."""
    a.MRS_x_FPSR(SCRATCH)
    a.AND_wwi(SCRATCH2, SCRATCH, 0x1F)
    a.AND_wwi(SCRATCH, SCRATCH, 0x80)
    a.ORR_www(SCRATCH2, SCRATCH2, SCRATCH)
    a.GET_wxi(SCRATCH, ENV, OFFSET["fp_flags"])
    a.ORR_www(SCRATCH, SCRATCH, SCRATCH2)
    a.PUT_wxi(SCRATCH, ENV, OFFSET["fp_flags"])


def _traced(method: Callable[..., None]) -> Callable[..., None]:
    def emit(self: Emitter, *arguments: int) -> None:
        code = self.code
        start = len(code)
        method(self, *arguments)
        self.trace.append((code, start, len(code), method, arguments))

    return emit


for _name, _method in list(vars(Assembler).items()):
    if _method in OPERANDS:
        setattr(Emitter, _name, _traced(_method))
