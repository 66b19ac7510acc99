# SPDX-License-Identifier: Apache-2.0
"""Guest state, locals, and the guest's condition flags."""

from __future__ import annotations

from typing import Final

from raddle.codegen.locations import Register, Slot
from raddle.ir.builder import Instruction, Local
from raddle.ir.header import COMMON
from raddle.ir.opcodes import Op
from raddle.ir.types import Field, FieldArray, FlagCondition
from raddle_host_aarch64.emitter import (
    ENV,
    FLAG_BITS,
    FLAG_CONDITIONS,
    FUSED,
    IN_CARRY,
    SCRATCH,
    SCRATCH2,
    Emitter,
    emit_float_flags,
    emits,
    is_float,
    load_host_flags,
)
from raddle_host_aarch64.fields import PC16
from raddle_host_aarch64.registers import SP

_FLOAT_FLAGS: Final = COMMON["fp_flags"].offset
_FLOAT_CONTROL: Final = frozenset(COMMON[name].offset for name in ("fp_rounding", "fp_flush", "fp_default_nan"))


@emits(Op.GET)
def get(e: Emitter, op: Instruction) -> None:
    field = op.aux
    assert isinstance(field, Field)
    if op.last_use < 0:
        return
    if e.is_flag(field):
        _get_flag(e, op, e.flag_places[field])
        return
    if field.offset == _FLOAT_FLAGS and e.inline_floats:
        emit_float_flags(e)
        e.copy(e.define(op), SCRATCH)
        return
    if e.stays_in_field(op, field):
        return
    register = e.pinned.get(field.offset)
    if register is not None:
        e.MOV_xx(e.define(op), register.number)
    elif is_float(op):
        (e.GET_dxi if field.type.size == 8 else e.GET_sxi)(e.define(op), ENV, field.offset)
    else:
        e.load_field(e.define(op), field.offset, field.type.size)


def _get_flag(e: Emitter, op: Instruction, place: int) -> None:
    if _is_carry_in(e, op, place):
        op.location = IN_CARRY
    elif e.flag_word >= 0:
        e.UBFX_wwii(e.define(op), e.flag_word, FLAG_BITS[place], 1)
    else:
        e.CSET_wc(e.define(op), FLAG_CONDITIONS[place])


_KEEPS_FLAGS: Final = frozenset(
    {
        Op.PC, Op.GET, Op.GET_AT, Op.LOCAL_GET, Op.LOCAL_SET, Op.AND, Op.OR, Op.XOR, Op.NOT, Op.NEG, Op.MUL, Op.SHL,
        Op.SHR, Op.SAR, Op.ROR, Op.ZEXT, Op.SEXT, Op.TRUNC, Op.EXTRACT, Op.SEXTRACT, Op.BSWAP, Op.LOAD, Op.STORE,
    }
)  # fmt: skip
"""Operations that do not change the guest's flags."""


def _is_carry_in(e: Emitter, op: Instruction, place: int) -> bool:
    """Whether the flag is C, its one use is as the carry of an addition, and nothing changes it until then."""
    if FLAG_CONDITIONS[place] != FLAG_CONDITIONS[2] or op.uses != 1:
        return False
    user = e.function[op.last_use]
    if user.op not in (Op.ADC, Op.SBC) or user.args[2] is not op:
        return False
    return all(ins.op in _KEEPS_FLAGS for ins in e.function[op.position + 1 : op.last_use])


@emits(Op.SET)
def set_(e: Emitter, op: Instruction) -> None:
    field = op.aux
    assert isinstance(field, Field)
    value = op.args[0]
    if e.is_flag(field):
        _set_flag(e, field, value)
        return
    register = e.pinned.get(field.offset)
    if register is not None:
        e.move(register.number, value)
        return
    if is_float(value) and isinstance(value.location, Register):
        (e.PUT_dxi if field.type.size == 8 else e.PUT_sxi)(value.location.number, ENV, field.offset)
    else:
        e.store_field(e.use_or_zero(value, SCRATCH), field.offset, field.type.size)
    if e.inline_floats:
        if field.offset == _FLOAT_FLAGS:
            e.MSR_FPSR_x(31)
        elif field.offset in _FLOAT_CONTROL:
            e.float_control_stale = True


def _set_flag(e: Emitter, field: Field, value: Instruction) -> None:
    if value.op is not Op.CONST:
        e.insert_flag(field, e.use(value, SCRATCH))
        return
    bit = 1 << FLAG_BITS[e.flag_places[field]]
    e.keep_flag_word()
    if value.aux:
        e.ORR_wwi(e.flag_word, e.flag_word, bit)
    else:
        e.AND_wwi(e.flag_word, e.flag_word, ~bit & 0xFFFFFFFF)


def _element_address(e: Emitter, array: FieldArray, index: Instruction) -> int:
    """The register with the address of an element, less the array's offset: that is added as a displacement."""
    register = e.use(index, SCRATCH)
    shift = array.type.size.bit_length() - 1
    e.ADD_xxx_lsl(SCRATCH, ENV, register, shift)
    return SCRATCH


@emits(Op.GET_AT)
def get_at(e: Emitter, op: Instruction) -> None:
    array = op.aux
    assert isinstance(array, FieldArray)
    e.store_elements(array)
    base = _element_address(e, array, op.args[0])
    target = e.define(op, op.args)
    size = array.type.size
    (e.GETB_wxi if size == 1 else e.GET_wxi if size == 4 else e.GET_xxi)(target, base, array.offset)


@emits(Op.SET_AT)
def set_at(e: Emitter, op: Instruction) -> None:
    array = op.aux
    assert isinstance(array, FieldArray)
    e.store_elements(array)
    base = _element_address(e, array, op.args[0])
    value = e.use_or_zero(op.args[1], SCRATCH2)
    size = array.type.size
    (e.PUTB_wxi if size == 1 else e.PUT_wxi if size == 4 else e.PUT_xxi)(value, base, array.offset)
    e.load_elements(array)


@emits(Op.LOCAL_GET)
def local_get(e: Emitter, op: Instruction) -> None:
    local = op.aux
    assert isinstance(local, Local)
    e.LDR_xxi(e.define(op), SP, 8 * (1 + local.index))


@emits(Op.LOCAL_SET)
def local_set(e: Emitter, op: Instruction) -> None:
    local = op.aux
    assert isinstance(local, Local)
    e.STR_xxi(e.use_or_zero(op.args[0], SCRATCH), SP, 8 * (1 + local.index))


@emits(Op.PC)
def pc(e: Emitter, op: Instruction) -> None:
    """The joiner fills in the address. If there is a literal hole, it adds the literal."""
    offset = op.aux
    assert isinstance(offset, int)
    target = e.define(op)
    pieces = (e.MOVZ_xi, e.MOVK_xi_16, e.MOVK_xi_32, e.MOVK_xi_48)
    for move, kind in zip(pieces[: 4 if e.wide else 2], PC16, strict=False):
        move(target, 0)
        e.last_field(kind, offset, *op.args)


# -- condition flags ---------------------------------------------------------------------------------------------------


@emits(Op.SET_NZCV)
def set_nzcv(e: Emitter, op: Instruction) -> None:
    """Reached only if the flags could not be stored where they arose: they are in a frame slot."""
    assert isinstance(op.location, Slot)
    slot = 8 * op.location.number
    if e.pins_flags:
        e.flags_value = None
        e.flag_word = e.other_flag_word()
        e.LDR_xxi(e.flag_word, SP, slot)
        return
    e.LDR_xxi(SCRATCH, SP, slot)
    for field, bit in zip(e.nzcv_fields(), FLAG_BITS, strict=True):
        e.UBFX_wwii(SCRATCH2, SCRATCH, bit, 1)
        e.PUTB_wxi(SCRATCH2, ENV, field.offset)


@emits(Op.SET_NZ)
def set_nz(e: Emitter, op: Instruction) -> None:
    value = op.args[0]
    held = e.flags_value is value
    if e.pins_flags:
        e.keep_flag_word()
    if not held:
        register = e.use(value, SCRATCH)
        (e.ANDS_xxx if value.type.size == 8 else e.ANDS_www)(31, register, register)
    take_nz(e)


def take_nz(e: Emitter) -> None:
    """Let the guest's N and Z be those in NZCV. If flags are pinned, a register holds the guest's flags already."""
    e.flags_value = None
    if e.pins_flags:
        kept, other = e.flag_word, e.other_flag_word()
        e.MRS_x_NZCV(other)
        e.BFXIL_xxii(other, kept, 0, 30)
        e.flag_word = other
        return
    for field, condition in zip(e.nzcv_fields()[:2], FLAG_CONDITIONS, strict=False):
        e.CSET_wc(SCRATCH, condition)
        e.PUTB_wxi(SCRATCH, ENV, field.offset)


@emits(Op.COND)
def cond(e: Emitter, op: Instruction) -> None:
    condition = op.aux
    assert isinstance(condition, FlagCondition)
    if e.fuses(op):
        op.location = FUSED
        return
    guest_flags(e)
    e.CSET_wc(e.define(op), condition)


def guest_flags(e: Emitter) -> None:
    """Let NZCV hold the guest's flags, wherever they are."""
    if e.pins_flags:
        e.need_flags()
    else:
        load_host_flags(e, e.nzcv_fields())
        e.flags_value = None
