# SPDX-License-Identifier: Apache-2.0
"""Calls, branches within an instruction or routine, and exits from the block.

A chainable exit is a plain B, which alone may be changed while it runs. A conditional branch that leaves the block goes
to such a B in the instruction's cold part.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from raddle.codegen.allocation import CodegenError
from raddle.codegen.fields import Source, field_kind
from raddle.ir.builder import Callee, Instruction, Label
from raddle.ir.header import OFFSET
from raddle.ir.opcodes import Op
from raddle.ir.types import Condition, Field, FlagCondition, Type
from raddle_host_aarch64.code_buffer import BRANCH14, BRANCH19, Reach
from raddle_host_aarch64.code_buffer import Label as HostLabel
from raddle_host_aarch64.emit.integer import (
    CONDITIONS,
    compare,
    difference,
    finish_sum,
    is_order32,
    is_wide,
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
    SHAPES,
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
    if len(args) > 4:
        raise CodegenError(f"call of {callee.name} with {len(args)} arguments; four is the most")
    e.at_boundary()
    for index, arg in enumerate(args):
        e.PUT_xxi(e.use_or_zero(arg, SCRATCH), ENV, OFFSET[f"arg{index}"])
    number = e.config.callee_number(callee)
    if e.routine and number >= e.config.first_python:
        # The trampoline takes its arguments from the header, and clears the request to leave that it answers with.
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
        call_thunk(e, number)
        _result(e, op)
    e.flags_value = None


def call_thunk(e: Emitter, number: int) -> None:
    """Call the native helper from a template; its arguments are in the header, and its result will be."""
    emit_constant(e, SCRATCH, number)
    e.GET_xxi(SCRATCH2, ENV, OFFSET["thunk_call"])
    e.BLR_x(SCRATCH2)


def _result(e: Emitter, op: Instruction) -> None:
    if op.last_use >= 0:
        e.GET_xxi(SCRATCH, ENV, OFFSET["result"])
        _narrow(e, op, SCRATCH)


def _narrow(e: Emitter, op: Instruction, source: int) -> None:
    """The result from a general register: what is above its type is undefined in what a callee returns."""
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


class _Kind(Enum):
    FLAGS = 0
    NOT_ZERO = 1
    BIT = 2


class Test(NamedTuple):
    """How a branch finds out whether a condition holds."""

    kind: _Kind
    operand: int
    """The host condition; or the register that is not 0, or whose bit is set, if it holds."""
    detail: int = 0
    """Whether the register has 64 bits; or the number of the bit."""
    negated: bool = False
    """It holds if that does not."""

    def inverted(self) -> Test:
        return self._replace(negated=not self.negated)


def test_of(e: Emitter, value: Instruction) -> Test:
    """What tells the truth of `value`; the guest's flags are in their place afterwards."""
    e.at_boundary()
    if value.location is not FUSED:
        return Test(_Kind.NOT_ZERO, e.use_or_zero(value, SCRATCH))
    if value.op is Op.COND:
        assert isinstance(value.aux, FlagCondition)
        guest_flags(e)
        return Test(_Kind.FLAGS, int(value.aux))
    if value.op is Op.BIT:
        source, n = value.args
        number = number_of(n)
        assert number is not None
        wide = is_wide(source)
        return Test(_Kind.BIT, e.use_or_zero(source, SCRATCH), number & (63 if wide else 31))
    condition = value.aux
    assert isinstance(condition, Condition)
    return _comparison(e, condition, *value.args)


def _comparison(e: Emitter, condition: Condition, a: Instruction, b: Instruction) -> Test:
    """A comparison whose host flags are the guest's, or free: without them where they are the guest's."""
    wide = is_wide(a)
    if condition in (Condition.EQ, Condition.NE) and (e.pins_flags or number_of(b) == 0):
        register, wide = unequal(e, a, b)
        return Test(_Kind.NOT_ZERO, register, wide, condition is Condition.EQ)
    if condition in (Condition.SLT, Condition.SGE) and number_of(b) == 0:
        return Test(_Kind.BIT, e.use(a, SCRATCH), 63 if wide else 31, condition is Condition.SGE)
    if not e.pins_flags:
        compare(e, a, b)
        return Test(_Kind.FLAGS, CONDITIONS[condition])
    if is_order32(condition, a):
        return Test(_Kind.BIT, SCRATCH, 63, not difference(e, condition, a, b))
    compare(e, a, b)
    e.CSET_wc(SCRATCH, CONDITIONS[condition])
    e.need_flags()
    return Test(_Kind.NOT_ZERO, SCRATCH)


def branch(e: Emitter, test: Test) -> Reach:
    """Emit the branch that is taken if the test holds, with a distance of 0; returns the field of the distance."""
    kind, operand, detail, negated = test
    if kind is _Kind.FLAGS:
        e.B_ci(operand ^ negated, 0)
        return BRANCH19
    if kind is _Kind.NOT_ZERO:
        if detail:
            (e.CBZ_xi if negated else e.CBNZ_xi)(operand, 0)
        else:
            (e.CBZ_wi if negated else e.CBNZ_wi)(operand, 0)
        return BRANCH19
    (e.TBZ_xii if negated else e.TBNZ_xii)(operand, detail, 0)
    return BRANCH14


def branch_to(e: Emitter, test: Test, label: HostLabel) -> None:
    e.refer(label, branch(e, test))


def branch_to_cold(e: Emitter, test: Test) -> None:
    """Branch to the end of the cold part so far, if the test holds."""
    e.last_field(field_kind(Source.COLD, SHAPES[branch(e, test)]), len(e.cold))


# -- branches ----------------------------------------------------------------------------------------------------------


@emits(Op.LABEL)
def label(e: Emitter, op: Instruction) -> None:
    assert isinstance(op.aux, Label)
    e.at_boundary()
    e.bind(e.host_label(op.aux))
    e.flags_value = None


@emits(Op.BR)
def br(e: Emitter, op: Instruction) -> None:
    assert isinstance(op.aux, Label)
    e.at_boundary()
    following = e.next_is(Op.LABEL)
    if following is None or following.aux is not op.aux:
        e.B_label(e.host_label(op.aux))


def _leave_in_cold(e: Emitter, test: Test, if_true: Label, if_false: Label) -> bool:
    """Put what leaves the block under the condition into the cold part."""
    span = e.leaves_if(if_true, if_false)
    if span is None:
        return False
    branch_to_cold(e, test)
    e.emit_in_cold(span)
    return True


def _conditional_move(e: Emitter, value: Instruction, if_true: Label, if_false: Label) -> bool:
    """Emit what only sets one pinned field under a condition of the guest's flags without a branch, which might be
    mispredicted. It is at most one addition: what it computes it computes in vain sometimes.
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
    if _conditional_move(e, op.args[0], if_true, if_false):
        return
    test = test_of(e, op.args[0])
    if _leave_in_cold(e, test, if_true, if_false):
        return
    leave = e.exits_if(if_true, if_false)
    if leave is not None:
        branch_to_cold(e, test)
        hot, e.code = e.code, e.cold
        _exit(e, leave)
        e.code = hot
        e.done.add(leave.position)
        return
    following = e.next_is(Op.LABEL)
    if following is not None and following.aux is if_true:
        branch_to(e, test.inverted(), e.host_label(if_false))
    else:
        branch_to(e, test, e.host_label(if_true))
        if following is None or following.aux is not if_false:
            e.B_label(e.host_label(if_false))


# -- exits -------------------------------------------------------------------------------------------------------------


def _exit(e: Emitter, op: Instruction) -> None:
    """A chainable exit to where `op` (a goto) leads."""
    offset = op.aux
    assert isinstance(offset, int)
    e.B_i(0)
    e.last_field(EXIT26, offset, *op.args)


@emits(Op.GOTO)
def goto(e: Emitter, op: Instruction) -> None:
    e.needs_block(op)
    e.at_boundary()
    _exit(e, op)


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
    if e.routine_exit is None:
        e.routine_exit = e.label()
    if e.position + 1 < len(e.function):
        e.B_label(e.routine_exit)
