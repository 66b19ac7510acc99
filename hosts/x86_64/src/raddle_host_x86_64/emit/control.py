# SPDX-License-Identifier: Apache-2.0
"""Calls, branches within an instruction or routine, and exits from the block."""

from __future__ import annotations

from typing import Final

from raddle.codegen.emitter import is_wide
from raddle.ir.builder import Callee, Instruction, Label
from raddle.ir.header import OFFSET
from raddle.ir.opcodes import Op
from raddle.ir.types import Field, Type
from raddle_host_x86_64.emit.integer import as_lea
from raddle_host_x86_64.emitter import HANDLERS, Emitter, emits
from raddle_host_x86_64.registers import GENERAL, R8, RAX, RBP, RCX, RDI, RDX, RSI


@emits(Op.CALL)
def call(e: Emitter, op: Instruction) -> None:
    callee = op.aux
    assert isinstance(callee, Callee)
    call_native(e, op, callee, op.args)


def call_native(e: Emitter, op: Instruction, callee: Callee, args: tuple[Instruction, ...]) -> None:
    """Store the arguments in the header, call by number, fetch the result."""
    number = e.callee_number(callee, args)
    for index, arg in enumerate(args):
        e.MOVQ_mr(RBP, OFFSET[f"arg{index}"], e.use(arg, RCX))
    if e.routine and number >= e.config.first_python:
        # The trampoline takes its arguments from the header. If it returns a request to leave, it has cleared it.
        e.MOVQ_rr(RDI, RBP)
        e.MOV_ri(RSI, number)
        e.XOR_rr(RDX, RDX)
        e.MOVABS_ri(RAX, e.config.call_helper)
        e.CALL_r(RAX)
        e.OR_mr(RBP, OFFSET["exit_now"], RAX)
        _result(e, op)
    elif e.routine:
        e.MOVQ_rr(RDI, RBP)
        for index, register in zip(range(len(args)), (RSI, RDX, RCX, R8), strict=False):
            e.MOVQ_rm(register, RBP, OFFSET[f"arg{index}"])
        e.MOVQ_rm(RAX, RBP, OFFSET["helpers"])
        e.CALL_m(RAX, 8 * number)
        if op.last_use >= 0:
            e.release(op, e.position)
            target = e.define(op, op.args)
            (e.MOVQ_rr if is_wide(op) else e.MOV_rr)(target, RAX)
            _narrow(e, op, target)
    else:
        e.MOV_ri(RAX, number)
        e.CALL_m(RBP, OFFSET["thunk_call"])
        _result(e, op)
    e.clobber()


def _result(e: Emitter, op: Instruction) -> None:
    """Load the result from the header."""
    if op.last_use >= 0:
        target = e.define(op, op.args)
        (e.MOVQ_rm if is_wide(op) else e.MOV_rm)(target, RBP, OFFSET["result"])
        _narrow(e, op, target)


def _narrow(e: Emitter, op: Instruction, register: int) -> None:
    """Clear what is undefined in the result of a callee: the bits above a truth value."""
    if op.type is Type.I1:
        e.AND_ri(register, 1)


@emits(Op.LABEL)
def label(e: Emitter, op: Instruction) -> None:
    assert isinstance(op.aux, Label)
    e.place(op.aux)
    e.flags_value = None
    if e.touched:
        e.clobber()


@emits(Op.BR)
def br(e: Emitter, op: Instruction) -> None:
    assert isinstance(op.aux, Label)
    e.go_to(op.aux)


def _conditional_move(e: Emitter, code: int, if_true: Label, if_false: Label) -> bool:
    """Emit a conditional move if all that depends on the condition is a store to one pinned field. Returns whether it
    did.

    It saves a branch that might be mispredicted. The value is computed whether it is needed or not, so it is at most
    one addition, and one that does not change the host's flags.
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
    if not _conditional_move(e, code, if_true, if_false):
        e.branch(code, if_true, if_false)


@emits(Op.GOTO)
def goto(e: Emitter, op: Instruction) -> None:
    e.needs_block(op)
    e.JMP_rel32(0)
    e.chain(op)


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
    if e.position + 1 < len(e.function):
        e.JMP_near(e.end_label())
