# SPDX-License-Identifier: Apache-2.0
"""Printing and parsing IR: an exact round trip, and errors with their place for any other text."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raddle.ir.builder import Builder, Callee, Instruction, Label, Local
from raddle.ir.header import COMMON
from raddle.ir.invalid import VerifyError
from raddle.ir.opcodes import TABLE, Op
from raddle.ir.parser import IRSyntaxError, parse_function
from raddle.ir.printer import print_function, print_instruction
from raddle.ir.types import Field, Hole, StateLayout, Type
from raddle.ir.verifier import verify
from raddle.testing.generate import random_program
from raddle.testing.host_contract import CASES
from raddle.testing.ir_programs import LAYOUT


def same(a: Builder, b: Builder) -> None:
    """Assert that the functions differ in the identity of their objects only."""
    assert [(x.type, x.index, x.name) for x in a.locals] == [(x.type, x.index, x.name) for x in b.locals]
    assert len(a.code) == len(b.code)
    twin: dict[object, object] = dict(zip(a.code, b.code, strict=True)) | dict(zip(a.locals, b.locals, strict=True))

    def paired(x: object, y: object) -> bool:
        if isinstance(x, Instruction) and x.op in (Op.CONST, Op.HOLE):
            return isinstance(y, Instruction) and (x.op, x.type, x.aux) == (y.op, y.type, y.aux)
        if isinstance(x, tuple) and isinstance(y, tuple):
            return len(x) == len(y) and all(map(paired, x, y))
        if isinstance(x, Label) and isinstance(y, Label):
            return twin.setdefault(x, y) is y and x.name == y.name
        if isinstance(x, Instruction | Local):
            return twin[x] is y
        return x == y

    for x, y in zip(a.code, b.code, strict=True):
        assert (x.op, x.type) == (y.op, y.type)
        assert paired(x.args, y.args), f"{x} {y}"
        assert paired(x.aux, y.aux), f"{x} {y}"


@pytest.mark.parametrize("seed", range(100))
def test_random_functions_make_the_round_trip(seed: int) -> None:
    word = Type.I64 if seed % 3 == 0 else Type.I32
    function = random_program(Random(seed), LAYOUT, word=word).function
    text = print_function(function)
    parsed = parse_function(text, LAYOUT, word)
    same(function, parsed)
    assert print_function(parsed) == text


def test_shipped_functions_make_the_round_trip() -> None:
    for case in CASES:
        for function in (case.program.function, *case.program.routines.values()):
            same(function, parse_function(print_function(function), LAYOUT, function.word))


EXAMPLE = """\
  local.i32 $0.count
  local.i1 $1
       local_set.i32 $0.count, 4
       local_set.i1 $1, 1
@0.loop:
  v0 = get.i32 r3
  v1 = shl.i32 v0, 4
  v2 = add.i32 v1, %0.imm
       set_nzcv.i32 v2
       set.i32 r1, v2
  v3 = get.i64 cpu.fault_address
  v4 = icmp.i1 ult, v3, 0xffffffff:i64
       brcond v4, @0.loop, @1
@1:
  v5 = load.i32 [s2 be align=natural order=LD_LD|LD_ST mmu=1], v0
  v6 = deposit.i32 [8 4], v5, 4096
       mb ST_LD
  v7 = cond.i1 hi
  v8 = bitcast.f32 v6
  v9 = ftoi.i32 [unsigned rounding=zero fraction=16 width=16], v8
  v10 = itof.f32 [signed rounding=current fraction=3], v9
  v11 = fcmp.i32 signalling, v8, v10
  v12 = call.i32 [native f may_exit pure_state], v11, %1:i64, 5:i1
  v13 = pc.i32 -8, %2
       set_at.i32 r, v12, v13
       goto +0x10
"""


def test_canonical_text() -> None:
    text = EXAMPLE.replace("5:i1", "1:i1").replace("+0x10", "+16")
    assert print_function(parse_function(text, LAYOUT)) == text
    verify(parse_function(text, LAYOUT), layout=LAYOUT)


def test_what_is_free_in_text() -> None:
    text = "; a comment\n\n\tv7=get.i32 r0;another\r\n  set.i32 r1 , -1\n v9 = add.i32 v7, 0x10\n"
    assert print_function(parse_function(text, LAYOUT)) == (
        "  v0 = get.i32 r0\n       set.i32 r1, 0xffffffff\n  v1 = add.i32 v0, 16\n"
    )


def test_equal_names_of_labels_and_locals_stay_apart() -> None:
    b = Builder(Type.I32, LAYOUT.nzcv)
    first, second = b.label("x"), b.label("x")
    b.local(Type.I32, 1, "y")
    b.local(Type.I64, 2, "y")
    b.br(second)
    b.bind(first)
    b.bind(second)
    text = print_function(b)
    assert "@0.x" in text
    assert "@1.x" in text
    assert "$0.y" in text
    same(b, parse_function(text, LAYOUT))


def test_a_guest_field_called_like_a_common_one() -> None:
    layout = StateLayout()
    layout.field("pc", Type.I32)
    b = Builder()
    b.get(layout.fields["pc"])
    b.get(COMMON["pc"])
    assert print_function(b) == "  v0 = get.i32 pc\n  v1 = get.i64 cpu.pc\n"
    same(b, parse_function(print_function(b), layout))


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("  v0 = frob.i32 r0", 1, 8, "there is no instruction 'frob'"),
        ("  v0 = const.i32 5", 1, 8, "there is no instruction 'const'"),
        ("  v0 = get.i33 r0", 1, 8, "'i33' is no type"),
        ("\n\n  v0 = get.i32 r99", 3, 16, "there is no state field 'r99'"),
        ("  v0 = get.i32 cpu.r0", 1, 16, "there is no state field 'cpu.r0'"),
        ("  v0 = get_at.i32 w, 1", 1, 19, "there is no field array 'w'"),
        ("  v0 = get.i32 r0\n  v0 = get.i32 r0", 2, 3, "v0 is defined twice"),
        ("  v0 = not.i32 v1", 1, 16, "v1 is not defined above"),
        ("  v0 = not.i32 0x100000000", 1, 16, "4294967296 does not fit into i32"),
        ("  v0 = not.i32 -0x80000001", 1, 16, "-2147483649 does not fit into i32"),
        ("  v0 = not.i32 " + "9" * 5000, 1, 16, "the number is too long"),
        ("  v0 = not.i32 %" + "9" * 5000, 1, 16, "the number is too long"),
        ("  v0 = not.i32 5:i64", 1, 18, "not takes i32 here"),
        ("  v0 = icmp.i1 eq, 5, 5:i32", 1, 20, "the literal needs a type here"),
        ("  v0 = add 5, 5", 1, 12, "add lacks its type"),
        ("  v0 = icmp.i1 like, 5:i32, 5:i32", 1, 16, "like is none of eq, ne, ult"),
        ("  not.i32 5", 1, 12, "not yields a value, which needs a name"),
        ("  v0 = exit_main", 1, 17, "exit_main yields no value"),
        ("  v0 = not.i32 5 5", 1, 18, "5 stands after the end of the instruction"),
        ("  v0 = not.i32 5,", 1, 18, "an operand is wanted here, not the end of the line"),
        ("  v0 = not.i32 #5", 1, 16, "'#' begins nothing that IR knows"),
        ("  v0 get.i32 r0", 1, 6, "'=' is wanted here, not get.i32"),
        ("  v0 =", 1, 7, "an instruction is wanted here, not the end of the line"),
        ("  br @0, @1", 1, 12, "br takes 1 label, not 2"),
        ("  exit_main @0", 1, 15, "exit_main takes no labels, not 1"),
        ("  v0 = get.i1 n\n  brcond @0, v0, @1", 2, 14, "operands stand before labels"),
        ("@0:\n@0:", 2, 1, "label @0 is bound twice"),
        ("@0.a:\n  br @0.b", 2, 6, "label @0 is called 'a' elsewhere"),
        ("@0", 1, 3, "':' is wanted here"),
        ("  local.i32 $1", 1, 13, "locals are declared in order; $0 is next"),
        ("  local.i99 $0", 1, 3, "'i99' is no type"),
        ("  v0 = local_get.i32 $0", 1, 22, "this local is not declared above"),
        ("  local.i32 $0.a\n  v0 = local_get.i32 $0.b", 2, 22, "this local is not declared above"),
        ("  v0 = local_get.i32 x", 1, 22, "a local is wanted here, not x"),
        ("  v0 = load.i32 [u3 mmu=0], 0", 1, 18, "u3 is no size"),
        ("  v0 = load.i32 [u4], 0", 1, 20, "mmu= is missing"),
        ("  v0 = load.i32 [u4 mmu=0 mmu=1], 0", 1, 27, "mmu stands twice"),
        ("  v0 = load.i32 [u4 mmu=0 fast], 0", 1, 27, "fast is not known here; known: be, align, order, mmu"),
        ("  v0 = load.i32 [u4 mmu=0 align=odd], 0", 1, 33, "odd is none of none, half, word"),
        ("  v0 = load.i32 [u4 mmu=0", 1, 26, "a word or ']' is wanted here"),
        ("  v0 = load.i32 5, 0", 1, 17, "'[' is wanted here, not 5"),
        ("  mb LD", 1, 6, "LD is none of NONE, LD_LD"),
        ("  v0 = extract.i32 [1], 5", 1, 22, "a number is wanted here, not ]"),
        ("  v0 = ftoi.i32 [rounding=zero], 5:f32", 1, 18, "signed or unsigned is wanted here, not rounding"),
        ("  v0 = itof.f32 [signed width=3], 5:i32", 1, 25, "width is not known here"),
        ("  call [magic f]", 1, 9, "magic is none of native, routine, python"),
        ("  call [native f always]", 1, 18, "always is not known here"),
        ("  goto 0x", 1, 8, "'0' begins nothing"),
        ("  goto 4.5", 1, 8, "'4' begins nothing"),
    ],
)
def test_errors_have_their_place(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(IRSyntaxError) as error:
        parse_function(text, LAYOUT)
    assert (error.value.line, error.value.column) == (line, column), str(error.value)
    assert message in str(error.value)


def no_stumbling(text: str) -> None:
    try:
        function = parse_function(text, LAYOUT)
    except IRSyntaxError:
        return
    printed = print_function(function)
    assert print_function(parse_function(printed, LAYOUT)) == printed
    try:
        verify(function, layout=LAYOUT)
    except VerifyError:
        return


@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    no_stumbling(text)


WORDS = sorted(
    {info.name for info in TABLE.values()}
    | {word for line in EXAMPLE.splitlines() for word in line.replace(",", " , ").split()}
    | {",", "=", ":", "[", "]", "|", "\n", "v0", "v1", "r0", "5", "-1", "i32", ".i32", "@0", "$0", "%0", ";"}
)


@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
def test_any_words_are_parsed_or_refused(text: str) -> None:
    no_stumbling(text)


@given(st.integers(0, len(EXAMPLE)), st.integers(0, 6), st.sampled_from(["", *WORDS]))
def test_any_damage_is_parsed_or_refused(at: int, length: int, inserted: str) -> None:
    no_stumbling(EXAMPLE[:at] + inserted + EXAMPLE[at + length :])


def test_invalid_functions_can_be_printed() -> None:
    b = Builder()
    stray = Instruction(Op.ADD, Type.I32, ())
    b.code += [
        Instruction(Op.GET, Type.I32, (), "no field"),
        Instruction(Op.NOT, Type.I32, (stray,)),
        Instruction(Op.BR, Type.VOID, (), None),
        Instruction(Op.CONST, Type.I32, (), 5),
        Instruction(Op.LABEL, Type.VOID, (), None),
        Instruction(Op.SET, Type.VOID, (), Field("x", Type.I32, 0)),
        Instruction(Op.CALL, Type.VOID, (Instruction(Op.HOLE, Type.I1, (), Hole(3, "")),), Callee),
    ]
    assert "<'no field'>" in print_function(b)
    assert print_instruction(b, b.code[1]) == "v1 = not.i32 v?"
