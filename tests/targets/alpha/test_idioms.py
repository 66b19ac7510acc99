# SPDX-License-Identifier: Apache-2.0
"""How compilers write what Alpha has no instruction for (A.4), and what becomes of it: no operation too many."""

from __future__ import annotations

import pytest

from raddle.ir.builder import Builder
from raddle.ir.opcodes import Op
from raddle.ir.types import Condition, Type
from raddle_target_alpha.frontend import front_end
from raddle_target_alpha.insns import AlphaInstructions
from raddle_target_alpha.state import MODE_FEN

ZERO = 31


def operate(opcode: int, function: int, a: int, b: int, c: int) -> int:
    return opcode << 26 | a << 21 | b << 16 | function << 5 | c


def literal(opcode: int, function: int, a: int, number: int, c: int) -> int:
    return opcode << 26 | a << 21 | number << 13 | 1 << 12 | function << 5 | c


def memory(opcode: int, a: int, b: int, disp: int) -> int:
    return opcode << 26 | a << 21 | b << 16 | disp


IDIOMS = {
    "mov": (operate(0x11, 0x20, ZERO, 2, 3), [Op.GET, Op.SET]),
    "mov from Ra": (operate(0x11, 0x20, 2, ZERO, 3), [Op.GET, Op.SET]),
    "mov literal": (literal(0x11, 0x20, ZERO, 5, 3), [Op.SET]),
    "clr": (operate(0x11, 0x20, ZERO, ZERO, 3), [Op.SET]),
    "nop": (operate(0x11, 0x20, ZERO, ZERO, ZERO), []),
    "not": (operate(0x11, 0x28, ZERO, 2, 3), [Op.GET, Op.NOT, Op.SET]),
    "sextl": (operate(0x10, 0x00, ZERO, 2, 3), [Op.GET, Op.SEXTRACT, Op.SET]),
    "negl": (operate(0x10, 0x09, ZERO, 2, 3), [Op.GET, Op.NEG, Op.SEXTRACT, Op.SET]),
    "negq": (operate(0x10, 0x29, ZERO, 2, 3), [Op.GET, Op.NEG, Op.SET]),
    "lda constant": (memory(0x08, 3, ZERO, 5), [Op.SET]),
    "addl": (operate(0x10, 0x00, 1, 2, 3), [Op.GET, Op.GET, Op.ADD, Op.SEXTRACT, Op.SET]),
    "extbl literal": (literal(0x12, 0x06, 1, 3, 2), [Op.GET, Op.SHR, Op.AND, Op.SET]),
    "extqh literal": (literal(0x12, 0x7A, 1, 3, 2), [Op.GET, Op.SHL, Op.SET]),
    "inswl literal": (literal(0x12, 0x1B, 1, 3, 2), [Op.GET, Op.AND, Op.SHL, Op.SET]),
    "inslh literal": (literal(0x12, 0x67, 1, 7, 2), [Op.GET, Op.AND, Op.SHR, Op.SET]),
    "inslh literal 8": (literal(0x12, 0x67, 1, 8, 2), [Op.GET, Op.AND, Op.SET]),
    "mskbl literal": (literal(0x12, 0x02, 1, 3, 2), [Op.GET, Op.AND, Op.SET]),
    "mskqh literal": (literal(0x12, 0x72, 1, 3, 2), [Op.GET, Op.AND, Op.SET]),
    "ldl 0(r2)": (memory(0x28, 3, 2, 0), [Op.GET, Op.LOAD, Op.SET]),
    "ldl 4(r2)": (memory(0x28, 3, 2, 4), [Op.GET, Op.ADD, Op.LOAD, Op.SET]),
    "stb 0(r2)": (memory(0x0E, 3, 2, 0), [Op.GET, Op.GET, Op.STORE]),
}


def translate(word: int) -> Builder:
    instructions = front_end("ev67").instruction_set(0)
    assert isinstance(instructions, AlphaInstructions)
    b = Builder(Type.I64)
    instructions.translate(b, instructions.decode(word, 4), word, 0, MODE_FEN)
    return b


@pytest.mark.parametrize("name", IDIOMS)
def test_idiom(name: str) -> None:
    word, operations = IDIOMS[name]
    assert [ins.op for ins in translate(word).code] == operations


@pytest.mark.parametrize(
    ("function", "condition"),
    [
        (0x2D, Condition.EQ),
        (0x4D, Condition.SGT),
        (0x6D, Condition.SGE),
        (0x1D, Condition.UGT),
        (0x3D, Condition.UGE),
    ],
    ids=["cmpeq", "cmplt", "cmple", "cmpult", "cmpule"],
)
def test_a_comparison_with_r31_has_the_constant_second(function: int, condition: Condition) -> None:
    code = translate(operate(0x10, function, ZERO, 2, 3)).code
    (compared,) = [ins for ins in code if ins.op is Op.ICMP]
    assert compared.aux is condition
    assert [arg.op for arg in compared.args] == [Op.GET, Op.CONST]
