# SPDX-License-Identifier: Apache-2.0
"""Calls, branches within an instruction or routine, and exits from the block.

A chainable exit is a plain B: no other branch may be changed while other threads run it. A conditional branch that
leaves the block goes to such a B in the instruction's cold part.
"""

from __future__ import annotations

from typing import Final

from raddle.codegen.emitter import is_wide
from raddle.ir.builder import Callee, Instruction, Label
from raddle.ir.header import OFFSET
from raddle.ir.opcodes import Op
from raddle.ir.types import Condition, Field, FlagCondition, Type
from raddle_host_aarch64.conditions import Kind, Test
from raddle_host_aarch64.emit.integer import (
    CONDITIONS,
    compare,
    difference,
    finish_sum,
    is_order32,
    number_of,
    prepare_sum,
    unequal,
)
from raddle_host_aarch64.emit.state import guest_flags
from raddle_host_aarch64.emitter import (
    ENV,
    FUSED,
    HANDLERS,
    SCRATCH,
    SCRATCH2,
    SCRATCH3,
    Emitter,
    emit_constant,
    emits,
    is_float,
)
from raddle_host_aarch64.fields import EXIT26
from raddle_host_aarch64.registers import X0, X1, X2, X3, X4

# -- calls -------------------------------------------------------------------------------------------------------------


@emits(Op.CALL)
def call(e: Emitter, op: Instruction) -> None:
    callee = op.aux
    assert isinstance(callee, Callee)
    call_native(e, op, callee, op.args)


def call_native(e: Emitter, op: Instruction, callee: Callee, args: tuple[Instruction, ...]) -> None:
    """Store the arguments in the header, call by number, fetch the result."""
    number = e.callee_number(callee, args)
    e.at_boundary()
    for index, arg in enumerate(args):
        e.PUT_xxi(e.use_or_zero(arg, SCRATCH), ENV, OFFSET[f"arg{index}"])
    if e.routine and number >= e.config.first_python:
        # The trampoline takes its arguments from the header. If it returns a request to leave, it has cleared it.
        e.MOV_xx(X0, ENV)
        emit_constant(e, X1, number)
        e.MOVZ_xi(X2, 0)
        emit_constant(e, SCRATCH, e.config.call_helper)
        e.BLR_x(SCRATCH)
        e.GET_wxi(SCRATCH, ENV, OFFSET["exit_now"])
        e.ORR_www(SCRATCH, SCRATCH, X0)
        e.PUT_wxi(SCRATCH, ENV, OFFSET["exit_now"])
        _result(e, op)
    elif e.routine:
        e.MOV_xx(X0, ENV)
        for index, register in zip(range(len(args)), (X1, X2, X3, X4), strict=False):
            e.GET_xxi(register, ENV, OFFSET[f"arg{index}"])
        e.GET_xxi(SCRATCH, ENV, OFFSET["helpers"])
        e.LDR_xxi(SCRATCH, SCRATCH, 8 * number)
        e.BLR_x(SCRATCH)
        if op.last_use >= 0:
            e.release(op, e.position)
            _narrow(e, op, X0)
    else:
        emit_constant(e, SCRATCH, number)
        e.GET_xxi(SCRATCH2, ENV, OFFSET["thunk_call"])
        e.BLR_x(SCRATCH2)
        _result(e, op)
    e.flags_value = None


def _result(e: Emitter, op: Instruction) -> None:
    if op.last_use >= 0:
        e.GET_xxi(SCRATCH, ENV, OFFSET["result"])
        _narrow(e, op, SCRATCH)


def _narrow(e: Emitter, op: Instruction, source: int) -> None:
    """Move the result from a general register. In what a callee returns, bits above the type are undefined."""
    target = e.define(op, op.args)
    if is_float(op):
        (e.FMOV_dx if is_wide(op) else e.FMOV_sw)(target, source)
    elif op.type is Type.I1:
        e.AND_wwi(target, source, 1)
    elif is_wide(op):
        e.copy(target, source)
    else:
        e.MOV_ww(target, source)


# -- tests -------------------------------------------------------------------------------------------------------------


def test_of(e: Emitter, value: Instruction) -> Test:
    """How to test the truth value. NZCV holds the guest's flags afterwards, or what the test needs."""
    e.at_boundary()
    if value.location is not FUSED:
        return Test(Kind.NOT_ZERO, e.use_or_zero(value, SCRATCH))
    if value.op is Op.COND:
        assert isinstance(value.aux, FlagCondition)
        guest_flags(e)
        return Test(Kind.FLAGS, int(value.aux))
    if value.op is Op.BIT:
        source, n = value.args
        number = number_of(n)
        assert number is not None
        wide = is_wide(source)
        return Test(Kind.BIT, e.use_or_zero(source, SCRATCH), number & (63 if wide else 31))
    condition = value.aux
    assert isinstance(condition, Condition)
    return _comparison(e, condition, *value.args)


def _comparison(e: Emitter, condition: Condition, a: Instruction, b: Instruction) -> Test:
    """How to test a comparison. Where NZCV holds the guest's flags, it does so afterwards."""
    wide = is_wide(a)
    if condition in (Condition.EQ, Condition.NE) and (e.pins_flags or number_of(b) == 0):
        register, wide = unequal(e, a, b)
        return Test(Kind.NOT_ZERO, register, wide, condition is Condition.EQ)
    if condition in (Condition.SLT, Condition.SGE) and number_of(b) == 0:
        return Test(Kind.BIT, e.use(a, SCRATCH), 63 if wide else 31, condition is Condition.SGE)
    if not e.pins_flags:
        compare(e, a, b)
        return Test(Kind.FLAGS, CONDITIONS[condition])
    if is_order32(condition, a):
        return Test(Kind.BIT, SCRATCH, 63, not difference(e, condition, a, b))
    compare(e, a, b)
    e.CSET_wc(SCRATCH, CONDITIONS[condition])
    e.need_flags()
    return Test(Kind.NOT_ZERO, SCRATCH)


# -- branches ----------------------------------------------------------------------------------------------------------


@emits(Op.LABEL)
def label(e: Emitter, op: Instruction) -> None:
    assert isinstance(op.aux, Label)
    e.at_boundary()
    e.place(op.aux)
    e.flags_value = None


@emits(Op.BR)
def br(e: Emitter, op: Instruction) -> None:
    assert isinstance(op.aux, Label)
    e.at_boundary()
    e.go_to(op.aux)


def _conditional_move(e: Emitter, value: Instruction, if_true: Label, if_false: Label) -> bool:
    """Emit a conditional move if all that depends on a condition of the guest's flags is a store to one pinned field.
    Returns whether it did.

    It saves a branch that might be mispredicted. The value is computed whether it is needed or not, so it is at most
    one addition.
    """
    if value.location is not FUSED or value.op is not Op.COND:
        return False
    found = e.sets_if(if_true, if_false, _MOVED)
    if found is None:
        return False
    computed, field = found.store.args[0], found.store.aux
    assert isinstance(field, Field)
    if computed.op in _SUMS and not all(e.is_pinned(arg) or arg.op <= Op.HOLE for arg in computed.args):
        return False
    e.at_boundary()
    for ins in found.body:
        if ins.op is Op.GET:
            HANDLERS[Op.GET](e, ins)
    if computed.op in _SUMS:
        finish_sum(e, prepare_sum(e, computed.op, is_wide(computed), False, *computed.args), SCRATCH)
        source = SCRATCH
    else:
        source = e.use_or_zero(computed, SCRATCH)
    guest_flags(e)
    assert isinstance(value.aux, FlagCondition)
    target = found.target.number
    (e.CSEL_xxxc if field.type is Type.I64 else e.CSEL_wwwc)(target, source, target, int(value.aux))
    e.done.update(found.span)
    return True


_SUMS: Final = frozenset({Op.ADD, Op.SUB})
_MOVED: Final = frozenset({Op.GET, Op.CONST, Op.HOLE, *_SUMS})


@emits(Op.BRCOND)
def brcond(e: Emitter, op: Instruction) -> None:
    targets = op.aux
    assert isinstance(targets, tuple)
    if_true, if_false = targets
    if not _conditional_move(e, op.args[0], if_true, if_false):
        e.branch(test_of(e, op.args[0]), if_true, if_false)


# -- exits -------------------------------------------------------------------------------------------------------------


@emits(Op.GOTO)
def goto(e: Emitter, op: Instruction) -> None:
    e.needs_block(op)
    e.at_boundary()
    offset = op.aux
    assert isinstance(offset, int)
    e.B_i(0)
    e.last_field(EXIT26, offset, *op.args)


@emits(Op.GOTO_INDIRECT)
def goto_indirect(e: Emitter, op: Instruction) -> None:
    e.needs_block(op)
    e.at_boundary()
    e.move(SCRATCH3, op.args[0])
    e.GET_xxi(SCRATCH2, ENV, OFFSET["thunk_indirect"])
    e.BR_x(SCRATCH2)


@emits(Op.EXIT_MAIN)
def exit_main(e: Emitter, op: Instruction) -> None:
    e.needs_block(op)
    e.at_boundary()
    e.GET_xxi(SCRATCH2, ENV, OFFSET["thunk_exit"])
    e.BR_x(SCRATCH2)


@emits(Op.RET)
def ret(e: Emitter, op: Instruction) -> None:
    e.needs_routine(op)
    if op.args:
        e.move(X0, op.args[0])
    if e.position + 1 < len(e.function):
        e.B_label(e.end_label())
