# SPDX-License-Identifier: Apache-2.0
"""What all semantics functions share.

A semantics function is called as ``NAME(b, f)`` with the operands that the decode tables list (``decode/*.dec``) as
attributes of ``f``, and these besides:

    mode      the block mode (``state.MODE_…``)
    mmu       MMU index of accesses
    model     the `CpuModel`

/V of the manual's names is _V here.
"""

from __future__ import annotations

from typing import Final

from raddle.ir.builder import Builder, Value
from raddle.ir.opcodes import Op
from raddle.ir.types import Condition, Type
from raddle.translate.decode import Fields
from raddle_target_alpha.state import read

I32, I64 = Type.I32, Type.I64

QUAD: Final = 0xFFFF_FFFF_FFFF_FFFF


def operand(b: Builder, f: Fields) -> Value:
    """Rbv: the register, or the literal in its place."""
    return b.const(f.imm, I64) if "imm" in f else read(b, f.b)


def is_zero(value: Value) -> bool:
    """Whether it is R31, or another constant 0. Compilers write moves, constants, negations and extensions with R31
    (A.4), which then need no operation, or another one.
    """
    return value.op is Op.CONST and value.aux == 0


def add(b: Builder, x: Value, y: Value) -> Value:
    """The sum of two I64."""
    return y if is_zero(x) else x if is_zero(y) else b.add(x, y)


def test(b: Builder, condition: str, value: Value) -> Value:
    """Whether an I64 satisfies the condition of a branch or a conditional move (4.3.1, 4.4.13): I1."""
    if condition in ("LBS", "LBC"):
        low = b.bit(value, 0)
        return low if condition == "LBS" else b.not_(low)
    return b.icmp(_CONDITIONS[condition], value, 0)


_CONDITIONS: Final = {
    "EQ": Condition.EQ,
    "NE": Condition.NE,
    "LT": Condition.SLT,
    "GE": Condition.SGE,
    "LE": Condition.SLE,
    "GT": Condition.SGT,
}
