# SPDX-License-Identifier: Apache-2.0
"""Guest state, locals, and the guest's condition flags."""

from __future__ import annotations

from typing import Final

from raddle.codegen.locations import Slot
from raddle.codegen.template import HOST_FLAGS_NONE
from raddle.ir.builder import Instruction, Local, MemAccess
from raddle.ir.opcodes import Op
from raddle.ir.types import Field, FieldArray, FlagCondition, Type
from raddle_host_x86_64 import conditions as cc
from raddle_host_x86_64.emitter import KIND_LOGIC, Emitter, emits
from raddle_host_x86_64.fields import PC32, PC64
from raddle_host_x86_64.registers import FLOATING, RBP, RCX, RDX, RSP


def _is_address(e: Emitter, value: Instruction) -> bool:
    """Whether the value is used as the address of an access, which needs it in a register, more than once."""
    user = e.function[value.last_use]
    return isinstance(user.aux, MemAccess) and user.args[0] is value


@emits(Op.GET)
def get(e: Emitter, op: Instruction) -> None:
    field = op.aux
    assert isinstance(field, Field)
    if op.last_use < 0:
        return
    register = e.pinned.get(field.offset)
    if (register is not None or not _is_address(e, op)) and e.stays_in_field(op, field):
        return
    if register is not None:
        if register.register_class is FLOATING:
            e.MOVQ_rv(e.define(op), register.number)
        else:
            (e.MOVQ_rr if field.type is Type.I64 else e.MOV_rr)(e.define(op), register.number)
    else:
        e.load_field(e.define(op), field.offset, field.type.size)


@emits(Op.SET)
def set_(e: Emitter, op: Instruction) -> None:
    field = op.aux
    assert isinstance(field, Field)
    value = op.args[0]
    register = e.pinned.get(field.offset)
    if register is not None:
        (e.move_float if register.register_class is FLOATING else e.move)(register.number, value)
        return
    offset, size = field.offset, field.type.size
    if value.op is Op.CONST:
        number = value.aux
        assert isinstance(number, int)
        if size == 1:
            e.MOVB_mi(RBP, offset, number)
            return
        if size == 4:
            e.MOV_mi(RBP, offset, number)
            return
        if number < 1 << 31:
            e.MOVQ_mi(RBP, offset, number)
            return
    e.store_field(e.use(value, RCX), offset, size)


@emits(Op.GET_AT)
def get_at(e: Emitter, op: Instruction) -> None:
    array = op.aux
    assert isinstance(array, FieldArray)
    e.store_elements(array)
    index = e.use(op.args[0], RCX)
    target = e.define(op, op.args)
    size = array.type.size
    if size == 1:
        e.MOVZXB_rx(target, RBP, index, 1, array.offset)
    elif size == 4:
        e.MOV_rx(target, RBP, index, 4, array.offset)
    else:
        e.MOVQ_rx(target, RBP, index, 8, array.offset)


@emits(Op.SET_AT)
def set_at(e: Emitter, op: Instruction) -> None:
    array = op.aux
    assert isinstance(array, FieldArray)
    e.store_elements(array)
    index = e.use(op.args[0], RCX)
    value = e.use(op.args[1], RDX)
    size = array.type.size
    if size == 1:
        e.MOVB_xr(RBP, index, 1, array.offset, value)
    elif size == 4:
        e.MOV_xr(RBP, index, 4, array.offset, value)
    else:
        e.MOVQ_xr(RBP, index, 8, array.offset, value)
    e.load_elements(array)


@emits(Op.LOCAL_GET)
def local_get(e: Emitter, op: Instruction) -> None:
    local = op.aux
    assert isinstance(local, Local)
    e.MOVQ_rm(e.define(op), RSP, 8 * (1 + local.index))


@emits(Op.LOCAL_SET)
def local_set(e: Emitter, op: Instruction) -> None:
    local = op.aux
    assert isinstance(local, Local)
    e.MOVQ_mr(RSP, 8 * (1 + local.index), e.use(op.args[0], RCX))


@emits(Op.PC)
def pc(e: Emitter, op: Instruction) -> None:
    """The joiner fills in the address. If there is a literal hole, it adds the literal."""
    offset = op.aux
    assert isinstance(offset, int)
    target = e.define(op)
    if e.wide:
        e.MOVABS_ri(target, 0)
        kind, field = PC64, len(e.code) - 8
    else:
        e.MOV_ri(target, 0)
        kind, field = PC32, len(e.code) - 4
    e.field(kind, field, offset, *op.args)


# -- condition flags ---------------------------------------------------------------------------------------------------


@emits(Op.SET_NZCV)
def set_nzcv(e: Emitter, op: Instruction) -> None:
    """Reached only if the flags could not be stored where they arose: they are in a frame slot."""
    assert isinstance(op.location, Slot)
    slot = 8 * op.location.number
    for index, field in enumerate(e.nzcv_fields()):
        e.MOVZXB_rm(RCX, RSP, slot + index)
        e.MOVB_mr(RBP, field.offset, RCX)


@emits(Op.SET_NZ)
def set_nz(e: Emitter, op: Instruction) -> None:
    value = op.args[0]
    n, z, _, _ = e.nzcv_fields()
    if e.flags_value is not value:
        register = e.use(value, RCX)
        if value.type is Type.I64:
            e.TESTQ_rr(register, register)
        else:
            e.TEST_rr(register, register)
        e.clobber()
    e.store_flags(RBP, (n.offset, z.offset), (cc.S, cc.E))
    e.kind = KIND_LOGIC


_F = FlagCondition
_NZ: Final = {_F.EQ: cc.E, _F.NE: cc.NE, _F.MI: cc.S, _F.PL: cc.NS}
_SIGNED: Final = {_F.VS: cc.O, _F.VC: cc.NO, _F.GE: cc.GE, _F.LT: cc.L, _F.GT: cc.G, _F.LE: cc.LE}
_DIRECT: Final[tuple[dict[FlagCondition, int], ...]] = (
    {},
    {**_NZ, **_SIGNED, _F.CS: cc.AE, _F.CC: cc.B, _F.HI: cc.A, _F.LS: cc.BE},
    {**_NZ, **_SIGNED, _F.CS: cc.B, _F.CC: cc.AE},
    _NZ,
)
"""By kind and guest condition: the host condition that says the same, if there is one."""


@emits(Op.COND)
def cond(e: Emitter, op: Instruction) -> None:
    condition = op.aux
    assert isinstance(condition, FlagCondition)
    if not e.touched:
        e.kinds_matter = True
    direct = _DIRECT[e.kind].get(condition) if e.kind > HOST_FLAGS_NONE else None
    if direct is None:
        direct = _test_flags(e, condition)
        e.clobber()
    e.result_flag(op, direct)


def _test_flags(e: Emitter, condition: FlagCondition) -> int:
    """Compare the stored flags (bytes of 0 or 1); returns the host condition that means true."""
    n, z, c, v = (field.offset for field in e.nzcv_fields())
    group, negated = condition & ~1, condition & 1
    if group in (_F.EQ, _F.CS, _F.MI, _F.VS):
        e.CMPB_mi(RBP, {_F.EQ: z, _F.CS: c, _F.MI: n, _F.VS: v}[_F(group)], 0)
        result = cc.NE
    elif group == _F.HI:
        e.MOVB_rm(RCX, RBP, c)
        e.CMPB_rm(RCX, RBP, z)
        result = cc.A
    elif group == _F.GE:
        e.MOVB_rm(RCX, RBP, n)
        e.CMPB_rm(RCX, RBP, v)
        result = cc.E
    else:
        e.MOVB_rm(RCX, RBP, n)
        e.XORB_rm(RCX, RBP, v)
        e.ORB_rm(RCX, RBP, z)
        result = cc.E
    return result ^ negated
