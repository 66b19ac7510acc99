# SPDX-License-Identifier: Apache-2.0
"""The host contract suite, on the interpreter itself and on hosts that are wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from raddle.codegen.allocation import Allocation
from raddle.ir.interpreter import Leave
from raddle.ir.opcodes import TABLE, Op
from raddle.ir.parser import IRSyntaxError
from raddle.ir.types import ANY_LITERAL, Hole, Type
from raddle.testing.generate import GENERATED, Program, random_program
from raddle.testing.host_contract import CASES, Backend, HostContract, check
from raddle.testing.ir_programs import LAYOUT, CaseError, Execution, compare, interpreted, parse_cases


class InterpreterBackend:
    def run(self, program: Program, allocation: Allocation = Allocation.USUAL) -> Execution:
        return interpreted(program)


class TestInterpreter(HostContract):
    programs_per_seed = 3

    @pytest.fixture
    def backend(self) -> Backend:
        return InterpreterBackend()


def operations(program: Program) -> set[Op]:
    functions = [program.function, *program.routines.values()]
    instructions = [i for function in functions for i in function.code]
    return {i.op for i in instructions} | {arg.op for i in instructions for arg in i.args}


def test_the_shipped_programs_use_every_operation() -> None:
    used = set().union(*(operations(case.program) for case in CASES))
    assert set(TABLE) == used


def test_random_programs_use_every_operation_but_calls() -> None:
    used: set[Op] = set()
    for seed in range(300):
        used |= operations(random_program(Random(seed), LAYOUT))
    assert set(TABLE) - used == {Op.CALL, Op.RET}
    assert set(GENERATED) <= used


def test_random_programs_leave_out_what_they_are_told_to() -> None:
    without = frozenset({Op.FMA, Op.BRCOND, Op.GOTO})
    for seed in range(100):
        assert not operations(random_program(Random(seed), LAYOUT, without=without)) & without


class WrongBackend:
    """The interpreter, with something done wrongly after each run in which ``op`` stands."""

    def __init__(self, op: Op, spoil: Callable[[Execution], Execution]) -> None:
        self.op = op
        self.spoil = spoil

    def run(self, program: Program, allocation: Allocation = Allocation.USUAL) -> Execution:
        execution = interpreted(program)
        return self.spoil(execution) if self.op in operations(program) else execution


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


SPOILERS: dict[str, Callable[[Execution], Execution]] = {
    "state": lambda e: replace(e, state=flip(e.state, LAYOUT.fields["r3"].offset)),
    "memory": lambda e: replace(e, memory=flip(e.memory, 0xFFF)),
    "flags": lambda e: replace(e, header={**e.header, "fp_flags": e.header.get("fp_flags", 0) ^ 1}),
    "outcome": lambda e: replace(e, outcome=replace(e.outcome, how=Leave.RETURN)),
}


@pytest.mark.parametrize("what", SPOILERS)
def test_a_wrong_host_is_found_and_the_program_reduced(what: str) -> None:
    backend = WrongBackend(Op.CLZ, SPOILERS[what])
    seed = next(seed for seed in range(100) if Op.CLZ in operations(random_program(Random(seed), LAYOUT)))
    program = random_program(Random(seed), LAYOUT)
    with pytest.raises(pytest.fail.Exception) as failure:
        check(program, backend)
    code = [line for line in str(failure.value).splitlines() if line.startswith("  ")]
    assert len(code) <= 3, str(failure.value)
    assert "clz" in str(failure.value)


def literals(program: Program) -> dict[int, Hole]:
    code = program.function.code
    return {arg.aux.index: arg.aux for ins in code for arg in ins.args if isinstance(arg.aux, Hole)}


def test_programs_have_literals_of_many_ranges_which_they_keep() -> None:
    ranges: set[tuple[int, int]] = set()
    steps: set[int] = set()
    for seed in range(300):
        program = random_program(Random(seed), LAYOUT)
        for index, hole in literals(program).items():
            low, high = hole.range
            value = program.holes[index] - (program.holes[index] >> 31 << 32)
            assert low <= value <= high
            assert value % hole.step == 0
            ranges.add(hole.range)
            steps.add(hole.step)
    assert {ANY_LITERAL, (0, 0xFF), (0, 0xFFF), (0, 0xFFFF), (-0x100, 0xFF), (-0xFFF, 0xFFF)} <= ranges
    assert {1, 4, 0x100, 0x1000, 0x10000} <= steps


class ShortBackend:
    """The interpreter, with a short form for literals of a range: it keeps some bits and sign-extends them."""

    def __init__(self, short: tuple[int, int], bits: int) -> None:
        self.short = short
        self.sign = 1 << bits - 1

    def run(self, program: Program, allocation: Allocation = Allocation.USUAL) -> Execution:
        holes = list(program.holes)
        for index, hole in literals(program).items():
            if hole.range == self.short:
                holes[index] = (holes[index] & 2 * self.sign - 1 ^ self.sign) - self.sign & 0xFFFF_FFFF
        return interpreted(replace(program, holes=tuple(holes)))


class Long(HostContract):
    programs_per_seed = 100


@pytest.mark.parametrize("op", [Op.ADD, Op.AND, Op.STORE], ids=lambda op: op.name.lower())
def test_a_host_whose_short_form_is_wrong_is_found(op: Op) -> None:
    with pytest.raises(pytest.fail.Exception, match="%"):
        Long().test_operation(ShortBackend((0, 0xFF), 8), op)
    Long().test_operation(ShortBackend((-0x100, 0xFF), 9), op)


def test_a_right_host_passes() -> None:
    check(random_program(Random(1), LAYOUT, word=Type.I64), InterpreterBackend())


def test_every_shipped_program_is_right_by_the_interpreter_alone() -> None:
    """A wrong expectation in a file must be seen without any host."""
    for case in CASES:
        assert not compare(case.expected, interpreted(case.program)), case.name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  v0 = get.i32 r0\n", "line 1: a test begins with"),
        ("test a\nruns r0=1 => r0=1\n", "line 2: 'runs' is none of"),
        ("test a\n  set.i32 r0, 1\nrun r0=1\n", "line 3: a run needs '=>'"),
        ("test a\n  set.i32 r0, 1\nrun => r0\n", "line 3: 'r0' is not NAME=VALUE"),
        ("test a\n  set.i32 r0, 1\nrun => r99=1\n", "line 3: 'r99'"),
        ("test a\n  set.i32 r0, 1\nrun => [0x10].4=1\n", "is not in the arena"),
        ("test a\n  set.i32 r0, 1\nrun => leave=sideways\n", "there is no end 'sideways'"),
    ],
)
def test_files_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(CaseError) as error:
        parse_cases(text, "file")
    assert message in str(error.value)


def test_errors_in_functions_have_the_line_of_the_file() -> None:
    with pytest.raises(IRSyntaxError, match="line 3, column 14"):
        parse_cases("test a\n\n  set.i32 r0,\nrun => r0=1\n", "file")
