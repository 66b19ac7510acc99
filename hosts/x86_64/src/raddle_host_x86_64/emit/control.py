# SPDX-License-Identifier: Apache-2.0
"""Calls, branches within an instruction or routine, and exits from the block."""

from __future__ import annotations

from typing import Final

from raddle.codegen.allocation import CodegenError
from raddle.ir.builder import Callee, Instruction, Label
from raddle.ir.header import OFFSET
from raddle.ir.opcodes import Op
from raddle.ir.types import Field, Hole, Type
from raddle_host_x86_64.emit.integer import as_lea, finish_ahead
from raddle_host_x86_64.emitter import CALLS, HANDLERS, MEMORY, Emitter, emits
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
    """Put what leaves the block under the condition, an exception above all, out of the hot part's way."""
    function = e.function
    start = end = e.position + 1
    if start >= len(function) or function[start].op is not Op.LABEL or function[start].aux is not if_true:
        return False
    while True:
        end += 1
        if end + 1 >= len(function) or function[end].op in _NOT_COLD:
            return False
        if function[end].op in _INDIRECT:
            break
    after = function[end + 1]
    if after.op is not Op.LABEL or after.aux is not if_false or e.routine or _is_target(e, if_true):
        return False
    e.Jcc_rel32(code, 0)
    e.hot_relocs.append((COLD, len(e.code) - 4, len(e.cold)))
    e.done.add(start)
    hot, kind, touched, flags_value = e.code, e.kind, e.touched, e.flags_value
    e.code = e.cold
    for position in range(start + 1, end + 1):
        e.position = position
        if position not in e.done:
            HANDLERS[function[position].op](e, function[position])
            finish_ahead(e, position)
    e.code, e.kind, e.touched, e.flags_value = hot, kind, touched, flags_value
    return True


_INDIRECT: Final = frozenset({Op.GOTO_INDIRECT, Op.EXIT_MAIN})
_NOT_COLD: Final = MEMORY | (CALLS - {Op.CALL}) | {Op.LABEL, Op.BR, Op.BRCOND, Op.GOTO, Op.RET}
"""What has cold parts or chainable exits of its own, or branches."""


def _conditional_move(e: Emitter, code: int, if_true: Label, if_false: Label) -> bool:
    """Emit what only sets one pinned field under the condition without a branch, which might be mispredicted.

    It is at most one addition: what it computes it computes in vain sometimes, without touching the host's flags.
    """
    if not e.pinned:
        return False
    function = e.function
    start = end = e.position + 2
    while end < len(function) and function[end].op in _MOVED:
        end += 1
    if end + 1 >= len(function) or end - start > 3:
        return False
    before, store, after = function[start - 1], function[end], function[end + 1]
    if before.aux is not if_true or before.op is not Op.LABEL or after.aux is not if_false or store.op is not Op.SET:
        return False
    field = store.aux
    assert isinstance(field, Field)
    target = e.pinned.get(field.offset)
    body = function[start:end]
    wide = field.type is Type.I64
    if target is None or any(ins.uses != 1 for ins in body) or _is_target(e, if_true):
        return False
    value = store.args[0]
    if value.op in _SUMS:
        a, b = value.args
        if not _is_pinned(e, a) or not (
            (b.op is Op.CONST and not wide) or (value.op is Op.ADD and (b.op is Op.HOLE or _is_pinned(e, b)))
        ):
            return False
    for ins in body:
        if ins.op is Op.GET:
            HANDLERS[Op.GET](e, ins)
    if value.op in _SUMS:
        e.hints[value] = GENERAL[RCX]
        as_lea(e, value, wide)
    source = e.use(value, RCX)
    (e.CMOVccQ_rr if wide else e.CMOVcc_rr)(code, target.number, source)
    e.done.update(range(start - 1, end + 1))
    return True


_SUMS: Final = frozenset({Op.ADD, Op.SUB})
_MOVED: Final = frozenset({Op.GET, Op.CONST, Op.HOLE, *_SUMS})


def _is_pinned(e: Emitter, value: Instruction) -> bool:
    return value.op is Op.GET and isinstance(value.aux, Field) and value.aux.offset in e.pinned


def _is_target(e: Emitter, label: Label) -> bool:
    """Whether another branch than the one at hand leads to `label`."""
    own = e.function[e.position]
    return any(
        ins is not own and (ins.aux is label or (isinstance(ins.aux, tuple) and label in ins.aux))
        for ins in e.function
        if ins.op is Op.BR or ins.op is Op.BRCOND
    )


@emits(Op.BRCOND)
def brcond(e: Emitter, op: Instruction) -> None:
    targets = op.aux
    assert isinstance(targets, tuple)
    if_true, if_false = targets
    code = e.condition(op.args[0])
    if _leave_in_cold(e, code, if_true, if_false) or _conditional_move(e, code, if_true, if_false):
        return
    following = e.next_is(Op.LABEL)
    if following is not None and following.aux is if_true:
        leave = e.next_is(Op.GOTO, 2)
        after = e.next_is(Op.LABEL, 3)
        if leave is not None and after is not None and after.aux is if_false:
            # A conditional branch of the guest: straight to the exit.
            e.Jcc_rel32(code, 0)
            _chain(e, leave)
            e.done.add(leave.position)
            return
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
    if op.args:
        hole = op.args[0].aux
        assert isinstance(hole, Hole)
        e.holes.append((e.code is e.cold, len(e.code) - 4, hole.index, offset, EXIT))
    else:
        e.reloc(EXIT, len(e.code) - 4, offset)


def _no_routine(e: Emitter, op: Instruction) -> None:
    if e.routine:
        raise CodegenError(f"{op.op.name.lower()} in an IR routine: a routine ends with ret")


@emits(Op.GOTO)
def goto(e: Emitter, op: Instruction) -> None:
    _no_routine(e, op)
    e.JMP_rel32(0)
    _chain(e, op)


@emits(Op.GOTO_INDIRECT)
def goto_indirect(e: Emitter, op: Instruction) -> None:
    _no_routine(e, op)
    e.move(RAX, op.args[0])
    e.JMP_m(RBP, OFFSET["thunk_indirect"])


@emits(Op.EXIT_MAIN)
def exit_main(e: Emitter, op: Instruction) -> None:
    _no_routine(e, op)
    e.JMP_m(RBP, OFFSET["thunk_exit"])


@emits(Op.RET)
def ret(e: Emitter, op: Instruction) -> None:
    if not e.routine:
        raise CodegenError("ret outside an IR routine")
    if op.args:
        e.move(RAX, op.args[0])
    if e.routine_exit is None:
        e.routine_exit = e.label()
    if e.position + 1 < len(e.function):
        e.JMP_near(e.routine_exit)
