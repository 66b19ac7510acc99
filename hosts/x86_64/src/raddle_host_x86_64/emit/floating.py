# SPDX-License-Identifier: Apache-2.0
"""Floating point: values are bit patterns in general registers; arithmetic calls the runtime's exact soft float."""

from __future__ import annotations

from typing import Final

from raddle.ir.builder import FloatCompare, FloatToInt, Instruction, IntToFloat, native
from raddle.ir.opcodes import Op
from raddle.ir.types import Type
from raddle_host_x86_64.emit.control import call_native
from raddle_host_x86_64.emitter import Emitter, emits


@emits(Op.BITCAST)
def bitcast(e: Emitter, op: Instruction) -> None:
    e.move(e.define(op), op.args[0])


@emits(Op.FNEG, Op.FABS)
def sign(e: Emitter, op: Instruction) -> None:
    target = e.define(op)
    e.move(target, op.args[0])
    if op.type is Type.F64:
        (e.BTCQ_ri if op.op is Op.FNEG else e.BTRQ_ri)(target, 63)
    else:
        (e.BTC_ri if op.op is Op.FNEG else e.BTR_ri)(target, 31)
    e.clobber()


_NAMES: Final = {
    Op.FADD: "fp_add",
    Op.FSUB: "fp_sub",
    Op.FMUL: "fp_mul",
    Op.FDIV: "fp_div",
    Op.FSQRT: "fp_sqrt",
    Op.FMA: "fp_fma",
}


def _bits(type: Type) -> int:
    return 64 if type is Type.F64 or type is Type.I64 else 32


@emits(*_NAMES)
def arithmetic(e: Emitter, op: Instruction) -> None:
    call_native(e, op, native(f"{_NAMES[op.op]}{_bits(op.type)}", pure_state=True), op.args)


@emits(Op.FCMP)
def fcmp(e: Emitter, op: Instruction) -> None:
    name = "fp_compare" if op.aux is FloatCompare.QUIET else "fp_compare_signalling"
    call_native(e, op, native(f"{name}{_bits(op.args[0].type)}", pure_state=True), op.args)


@emits(Op.FCVT)
def fcvt(e: Emitter, op: Instruction) -> None:
    name = "fp_f32_to_f64" if op.type is Type.F64 else "fp_f64_to_f32"
    call_native(e, op, native(name, pure_state=True), op.args)


@emits(Op.FTOI)
def ftoi(e: Emitter, op: Instruction) -> None:
    how = op.aux
    assert isinstance(how, FloatToInt)
    width = how.width or _bits(op.type)
    word = int(how.signed) | int(how.rounding) << 1 | how.fraction << 8 | width << 16
    constant = Instruction(Op.CONST, Type.I32, (), word)
    call_native(e, op, native(f"fp_f{_bits(op.args[0].type)}_to_int", pure_state=True), (*op.args, constant))


@emits(Op.ITOF)
def itof(e: Emitter, op: Instruction) -> None:
    how = op.aux
    assert isinstance(how, IntToFloat)
    word = int(how.signed) | int(how.rounding) << 1 | how.fraction << 8 | _bits(op.args[0].type) << 16
    constant = Instruction(Op.CONST, Type.I32, (), word)
    call_native(e, op, native(f"fp_int_to_f{_bits(op.type)}", pure_state=True), (*op.args, constant))
