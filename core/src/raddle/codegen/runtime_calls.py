# SPDX-License-Identifier: Apache-2.0
"""Operations that hosts leave to the native runtime, always or in a slow path: the functions and their arguments."""

from __future__ import annotations

from typing import Final

from raddle.ir.builder import Callee, FloatCompare, FloatToInt, Instruction, IntToFloat, native
from raddle.ir.opcodes import Op
from raddle.ir.types import Type

ATOMIC_OPS: Final = {
    Op.LOAD_EXCLUSIVE: 0,
    Op.STORE_EXCLUSIVE: 1,
    Op.ATOMIC_CMPXCHG: 2,
    Op.ATOMIC_XCHG: 3,
    Op.ATOMIC_FETCH_ADD: 4,
    Op.ATOMIC_FETCH_AND: 5,
    Op.ATOMIC_FETCH_OR: 6,
    Op.ATOMIC_FETCH_XOR: 7,
    Op.ATOMIC_FETCH_SMIN: 8,
    Op.ATOMIC_FETCH_SMAX: 9,
    Op.ATOMIC_FETCH_UMIN: 10,
    Op.ATOMIC_FETCH_UMAX: 11,
}
"""Numbers of the operations for `raddle_slow_atomic`."""

_ARITHMETIC: Final = {
    Op.FADD: "fp_add",
    Op.FSUB: "fp_sub",
    Op.FMUL: "fp_mul",
    Op.FDIV: "fp_div",
    Op.FSQRT: "fp_sqrt",
    Op.FMA: "fp_fma",
}
FLOAT_OPS: Final = frozenset({*_ARITHMETIC, Op.FCMP, Op.FCVT, Op.FTOI, Op.ITOF})
"""The floating-point operations that can round, raise flags or depend on the guest's modes: those of `float_call`."""


def float_call(ins: Instruction) -> tuple[Callee, tuple[Instruction, ...]]:
    """The native helper that does the floating-point operation exactly as the guest wants it, and its arguments."""
    name, args = _float_call(ins)
    return native(name, pure_state=True), args


def _float_call(ins: Instruction) -> tuple[str, tuple[Instruction, ...]]:
    source = ins.args[0]
    if ins.op in _ARITHMETIC:
        return f"{_ARITHMETIC[ins.op]}{ins.type.bits}", ins.args
    if ins.op is Op.FCVT:
        return "fp_f32_to_f64" if ins.type is Type.F64 else "fp_f64_to_f32", ins.args
    how = ins.aux
    if ins.op is Op.FCMP:
        return f"fp_compare{'' if how is FloatCompare.QUIET else '_signalling'}{source.type.bits}", ins.args
    if ins.op is Op.FTOI:
        assert isinstance(how, FloatToInt)
        word = int(how.signed) | int(how.rounding) << 1 | how.fraction << 8 | (how.width or ins.type.bits) << 16
        return f"fp_f{source.type.bits}_to_int", (source, _constant(word))
    assert isinstance(how, IntToFloat)
    word = int(how.signed) | int(how.rounding) << 1 | how.fraction << 8 | source.type.bits << 16
    return f"fp_int_to_f{ins.type.bits}", (source, _constant(word))


def _constant(number: int) -> Instruction:
    return Instruction(Op.CONST, Type.I32, (), number)
