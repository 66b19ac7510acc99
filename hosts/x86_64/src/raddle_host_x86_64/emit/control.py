# SPDX-License-Identifier: Apache-2.0
"""Calls, branches within an instruction or routine, and exits from the block."""

from __future__ import annotations

from typing import Final

from raddle.codegen.allocation import CodegenError
from raddle.ir.builder import Callee, Instruction, Label
from raddle.ir.header import OFFSET
from raddle.ir.opcodes import Op
from raddle.ir.types import Field, Type
from raddle_host_x86_64.emit.integer import as_lea
from raddle_host_x86_64.emitter import HANDLERS, Emitter, emits
from raddle_host_x86_64.fields import COLD, EXIT
from raddle_host_x86_64.registers import GENERAL, R8, RAX, RBP, RCX, RDI, RDX, RSI


@emits(Op.CALL)
def call(e: Emitter, op: Instruction) -> None:
    callee = op.aux
    assert isinstance(callee, Callee)
    call_native(e, op, callee, op.args)


def call_native(e: Emitter, op: Instruction, callee: Callee, args: tuple[Instruction, ...]) -> None:
    """Store the arguments in the header, call by number, fetch the result."""
    if len(args) > 4:
        raise CodegenError(f"call of {callee.name} with {len(args)} arguments; four is the most")
    for index, arg in enumerate(args):
        e.MOVQ_mr(RBP, OFFSET[f"arg{index}"], e.use(arg, RCX))
    number = e.config.callee_number(callee)
    if e.routine and number >= e.config.first_python:
        # The trampoline takes its arguments from the header, and clears the request to leave that it answers with.
        e.MOVQ_rr(RDI, RBP)
        e.MOV_ri(RSI, number)
        e.XOR_rr(RDX, RDX)
        e.MOVABS_ri(RAX, e.config.call_helper)
        e.CALL_r(RAX)
        e.OR_mr(RBP, OFFSET["exit_now"], RAX)
        if op.last_use >= 0:
            target = e.define(op, op.args)
            (e.MOVQ_rm if op.type in (Type.I64, Type.F64) else e.MOV_rm)(target, RBP, OFFSET["result"])
    elif e.routine:
        e.MOVQ_rr(RDI, RBP)
        for index, register in zip(range(len(args)), (RSI, RDX, RCX, R8), strict=False):
            e.MOVQ_rm(register, RBP, OFFSET[f"arg{index}"])
        e.MOVQ_rm(RAX, RBP, OFFSET["helpers"])
        e.CALL_m(RAX, 8 * number)
        if op.last_use >= 0:
            e.release(op, e.position)
            target = e.define(op, op.args)
            (e.MOVQ_rr if op.type in (Type.I64, Type.F64) else e.MOV_rr)(target, RAX)
    else:
        e.MOV_ri(RAX, number)
        e.CALL_m(RBP, OFFSET["thunk_call"])
        if op.last_use >= 0:
            target = e.define(op, op.args)
            (e.MOVQ_rm if op.type in (Type.I64, Type.F64) else e.MOV_rm)(target, RBP, OFFSET["result"])
    if op.last_use >= 0 and op.type is Type.I1:
        e.AND_ri(target, 1)
    e.clobber()


@emits(Op.LABEL)
def label(e: Emitter, op: Instruction) -> None:
    assert isinstance(op.aux, Label)
    e.bind(e.host_label(op.aux))
    e.flags_value = None
    if e.touched:
        e.clobber()


@emits(Op.BR)
def br(e: Emitter, op: Instruction) -> None:
    assert isinstance(op.aux, Label)
    following = e.next_is(Op.LABEL)
    if following is None or following.aux is not op.aux:
        e.JMP_near(e.host_label(op.aux))


def _leave_in_cold(e: Emitter, code: int, if_true: Label, if_false: Label) -> bool:
    """Put what leaves the block under the condition into the cold part."""
    span = e.leaves_if(if_true, if_false)
    if span is None:
        return False
    e.Jcc_rel32(code, 0)
    e.field(COLD, len(e.code) - 4, len(e.cold))
    e.emit_in_cold(span)
    return True


def _conditional_move(e: Emitter, code: int, if_true: Label, if_false: Label) -> bool:
    """Emit what only sets one pinned field under the condition without a branch, which might be mispredicted.

    It is at most one addition: what it computes it computes in vain sometimes, without touching the host's flags.
    """
    found = e.sets_if(if_true, if_false, _MOVED)
    if found is None:
        return False
    value = found.store.args[0]
    field = found.store.aux
    assert isinstance(field, Field)
    wide = field.type is Type.I64
    if value.op in _SUMS:
        a, b = value.args
        if not e.is_pinned(a) or not (
            (b.op is Op.CONST and not wide) or (value.op is Op.ADD and (b.op is Op.HOLE or e.is_pinned(b)))
        ):
            return False
    for ins in found.body:
        if ins.op is Op.GET:
            HANDLERS[Op.GET](e, ins)
    if value.op in _SUMS:
        e.hints[value] = GENERAL[RCX]
        as_lea(e, value, wide)
    source = e.use(value, RCX)
    (e.CMOVccQ_rr if wide else e.CMOVcc_rr)(code, found.target.number, source)
    e.done.update(found.span)
    return True


_SUMS: Final = frozenset({Op.ADD, Op.SUB})
_MOVED: Final = frozenset({Op.GET, Op.CONST, Op.HOLE, *_SUMS})


@emits(Op.BRCOND)
def brcond(e: Emitter, op: Instruction) -> None:
    targets = op.aux
    assert isinstance(targets, tuple)
    if_true, if_false = targets
    code = e.condition(op.args[0])
    if _leave_in_cold(e, code, if_true, if_false) or _conditional_move(e, code, if_true, if_false):
        return
    leave = e.exits_if(if_true, if_false)
    if leave is not None:
        e.Jcc_rel32(code, 0)
        _chain(e, leave)
        e.done.add(leave.position)
        return
    following = e.next_is(Op.LABEL)
    if following is not None and following.aux is if_true:
        e.Jcc_near(code ^ 1, e.host_label(if_false))
    elif following is not None and following.aux is if_false:
        e.Jcc_near(code, e.host_label(if_true))
    else:
        e.Jcc_near(code, e.host_label(if_true))
        e.JMP_near(e.host_label(if_false))


def _chain(e: Emitter, op: Instruction) -> None:
    """The last four bytes are the rel32 of a chainable exit to where `op` (a goto) leads."""
    offset = op.aux
    assert isinstance(offset, int)
    e.field(EXIT, len(e.code) - 4, offset, *op.args)


@emits(Op.GOTO)
def goto(e: Emitter, op: Instruction) -> None:
    e.needs_block(op)
    e.JMP_rel32(0)
    _chain(e, op)


@emits(Op.GOTO_INDIRECT)
def goto_indirect(e: Emitter, op: Instruction) -> None:
    e.needs_block(op)
    e.move(RAX, op.args[0])
    e.JMP_m(RBP, OFFSET["thunk_indirect"])


@emits(Op.EXIT_MAIN)
def exit_main(e: Emitter, op: Instruction) -> None:
    e.needs_block(op)
    e.JMP_m(RBP, OFFSET["thunk_exit"])


@emits(Op.RET)
def ret(e: Emitter, op: Instruction) -> None:
    e.needs_routine(op)
    if op.args:
        e.move(RAX, op.args[0])
    if e.routine_exit is None:
        e.routine_exit = e.label()
    if e.position + 1 < len(e.function):
        e.JMP_near(e.routine_exit)
