# SPDX-License-Identifier: Apache-2.0
"""Each refusal of the verifier, from ir/refused.ir or, where text cannot say it, built by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from raddle.ir.builder import (
    Builder,
    FloatToInt,
    Instruction,
    IntToFloat,
    Label,
    Local,
    MemAccess,
    Rounding,
    native,
)
from raddle.ir.invalid import VerifyError
from raddle.ir.opcodes import TABLE, Op
from raddle.ir.parser import parse_function
from raddle.ir.types import Field, FlagCondition, Hole, MemOp, StateLayout, Type
from raddle.ir.verifier import verify
from raddle.testing.ir_programs import LAYOUT

FILES = Path(__file__).parent / "ir"


def sections(file: str, keyword: str) -> list[tuple[str, str]]:
    """Title and text of each part of the file that begins with ``keyword``."""
    parts: list[tuple[str, list[str]]] = []
    for line in (FILES / file).read_text(encoding="utf-8").splitlines():
        if line.startswith(keyword + " "):
            parts.append((line.removeprefix(keyword + " "), []))
        elif parts:
            parts[-1][1].append(line)
    return [(title, "\n".join(lines)) for title, lines in parts]


@pytest.mark.parametrize(("title", "text"), sections("refused.ir", "refuse"))
def test_refused(title: str, text: str) -> None:
    routine = title.startswith("routine ")
    function = parse_function(text, LAYOUT)
    with pytest.raises(VerifyError) as error:
        verify(function, routine=routine, layout=LAYOUT)
    assert title.removeprefix("routine ") in str(error.value)


@pytest.mark.parametrize(("title", "text"), sections("accepted.ir", "accept"))
def test_accepted(title: str, text: str) -> None:
    verify(parse_function(text, LAYOUT), routine=title.startswith("routine"), layout=LAYOUT)


WIDE = Field("wide", Type.V128, 0)


def builder() -> Builder:
    return Builder(Type.I32, LAYOUT.nzcv)


def appended(b: Builder, op: Op, type: Type, *args: Instruction, aux: object = None) -> Instruction:
    instruction = Instruction(op, type, args, aux)
    b.code.append(instruction)
    return instruction


def twice(b: Builder) -> None:
    b.code.append(b.get(LAYOUT.fields["r0"]))


def constant_as_instruction(b: Builder) -> None:
    b.code.append(b.const(5))


def constant_out_of_range(b: Builder) -> None:
    appended(b, Op.NOT, Type.I32, Instruction(Op.CONST, Type.I32, (), 1 << 32))


def constant_of_no_number(b: Builder) -> None:
    appended(b, Op.NOT, Type.I32, Instruction(Op.CONST, Type.I32, (), "five"))


def hole_of_nothing(b: Builder) -> None:
    appended(b, Op.NOT, Type.I32, Instruction(Op.HOLE, Type.I32, (), Hole(-1, "imm")))


def used_before_definition(b: Builder) -> None:
    value = b.get(LAYOUT.fields["r0"])
    b.not_(value)
    b.code.reverse()


def value_of_another_function(b: Builder) -> None:
    b.not_(builder().get(LAYOUT.fields["r0"]))


def operand_without_value(b: Builder) -> None:
    b.set(LAYOUT.fields["r0"], 1)
    appended(b, Op.NOT, Type.I32, b.code[0])


def aux_of_another_kind(b: Builder) -> None:
    appended(b, Op.GET, Type.I32, aux="r0")


def aux_where_none_belongs(b: Builder) -> None:
    appended(b, Op.NOT, Type.I32, b.const(1), aux=5)


def pair_of_three(b: Builder) -> None:
    appended(b, Op.EXTRACT, Type.I32, b.const(1), aux=(1, 2, 3))


def local_of_another_function(b: Builder) -> None:
    b.assign(Local(0, Type.I32, "x"), 1)


def field_of_another_state(b: Builder) -> None:
    b.get(Field("r0", Type.I32, 0))


def field_of_another_header(b: Builder) -> None:
    b.get(Field("pc", Type.I64, -8))


def array_of_another_state(b: Builder) -> None:
    b.get_at(StateLayout().array("r", Type.I32, 8), 0)


def label_bound_twice(b: Builder) -> None:
    label = b.label("here")
    b.bind(label)
    appended(b, Op.LABEL, Type.VOID, aux=label)


def memory_order_of_nothing(b: Builder) -> None:
    b.load(0, MemOp(4, order=16), 0)


def vector_that_is_read(b: Builder) -> None:
    b.get(WIDE)


def vector_that_is_written(b: Builder) -> None:
    b.set(WIDE, Instruction(Op.CONST, Type.V128, (), 0))


def vector_that_a_callee_yields(b: Builder) -> None:
    appended(b, Op.CALL, Type.V128, aux=native("f"))


def branch_without_labels(b: Builder) -> None:
    appended(b, Op.BR, Type.VOID, aux=None)


def rounding_of_another_kind(b: Builder) -> None:
    appended(b, Op.FTOI, Type.I32, Instruction(Op.CONST, Type.F32, (), 0), aux=FloatToInt(True, 3))  # type: ignore[arg-type]


def rounding_of_another_kind_to_float(b: Builder) -> None:
    appended(b, Op.ITOF, Type.F32, b.const(0), aux=IntToFloat(True, 0, 3))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (twice, "stands in the code twice"),
        (constant_as_instruction, "no instructions of their own"),
        (constant_out_of_range, "constant 4294967296 is out of range for i32"),
        (constant_of_no_number, "constant 'five' is out of range"),
        (hole_of_nothing, "the hole names no literal"),
        (used_before_definition, "uses a value that is not defined before it"),
        (value_of_another_function, "uses a value that is not defined before it"),
        (operand_without_value, "operand 0 is an instruction without a value"),
        (aux_of_another_kind, "needs Field beside its operands, not 'r0'"),
        (aux_where_none_belongs, "needs None beside its operands, not 5"),
        (pair_of_three, "needs tuple[int, int] beside its operands"),
        (local_of_another_function, "local x belongs to another function"),
        (field_of_another_state, "field r0 is not in this guest's state"),
        (field_of_another_header, "field pc is not in this guest's state"),
        (array_of_another_state, "field array r is not in this guest's state"),
        (label_bound_twice, "label here is bound twice"),
        (memory_order_of_nothing, "16 is no memory order"),
        (vector_that_is_read, "get does not work in v128"),
        (vector_that_is_written, "set does not work in v128"),
        (vector_that_a_callee_yields, "call does not work in v128"),
        (branch_without_labels, "needs Label beside its operands"),
        (rounding_of_another_kind, "3 is no rounding"),
        (rounding_of_another_kind_to_float, "3 is no rounding"),
    ],
)
def test_refused_though_text_cannot_say_it(build: Callable[[Builder], None], message: str) -> None:
    b = builder()
    build(b)
    with pytest.raises(VerifyError) as error:
        verify(b, layout=LAYOUT)
    assert message in str(error.value)


@pytest.mark.parametrize("op", [Op.SET_NZ, Op.SET_NZCV, Op.COND])
def test_refuses_flags_where_the_guest_has_none(op: Op) -> None:
    b = Builder(Type.I32)
    value = b.add(b.get(LAYOUT.fields["r0"]), 1)
    if op is Op.COND:
        b.cond(FlagCondition.EQ)
    else:
        appended(b, op, Type.I32, value)
    with pytest.raises(VerifyError, match="has no N, Z, C and V fields"):
        verify(b)


def test_tells_the_place() -> None:
    b = builder()
    b.not_(b.get(LAYOUT.fields["r0"]))
    b.br(Label("nowhere"))
    with pytest.raises(VerifyError) as error:
        verify(b)
    assert error.value.index == 2
    assert str(error.value) == "instruction 2 (br @0.nowhere): label is bound nowhere"


@pytest.mark.parametrize("op", [op for op in TABLE if op not in (Op.CONST, Op.HOLE)])
def test_no_operation_takes_rubbish(op: Op) -> None:
    """Whatever stands in its operands and aux, the verifier refuses it and does not stumble."""
    floats = TABLE[op].types & {Type.F32, Type.F64} or op in (Op.FCMP, Op.FTOI)
    rubbish = LAYOUT.fields["n" if floats else "s0"]
    for type in Type:
        for aux in (None, 5, "x", (1, 2), (Label(), 3), MemAccess(MemOp(3), 9), native("f"), Rounding.UP):
            for count in range(4):
                b = builder()
                value = b.get(rubbish)
                appended(b, op, type, *[value] * count, aux=aux)
                try:
                    verify(b)
                except VerifyError:
                    continue
                assert TABLE[op].operands in ("", "*")
