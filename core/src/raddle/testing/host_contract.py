# SPDX-License-Identifier: Apache-2.0
"""The tests that every host back end must pass: its code does to state, memory and control flow what the IR
interpreter does.

A host's tests inherit them and say how code is run::

    class TestMyHost(HostContract):
        @pytest.fixture
        def backend(self) -> Backend:
            return MyBackend()

The suite runs all shipped programs (``raddle.testing.programs``) and random ones. A random program that fails is
reduced before it is shown. The seed in the test's name makes it again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import ClassVar, Protocol

import pytest

from raddle.codegen.allocation import Allocation
from raddle.ir.builder import Builder, Instruction
from raddle.ir.interpreter import InterpreterError
from raddle.ir.opcodes import Op
from raddle.ir.types import Type
from raddle.testing.generate import (
    GENERATED,
    Program,
    focused_program,
    let_operands_die,
    random_program,
    random_start,
    rare_program,
    reduced,
)
from raddle.testing.ir_programs import LAYOUT, Case, Execution, compare, interpreted, shipped_cases

CASES = shipped_cases()
CHOICES = [choice for choice in Allocation if choice is not Allocation.USUAL]


class Backend(Protocol):
    """A host under test. One thread at a time."""

    def run(self, program: Program, allocation: Allocation = Allocation.USUAL) -> Execution:
        """Compile ``program.function`` as a guest instruction at ``program.pc`` and run it from the given start.

        The guest state is ``raddle.testing.ir_programs.LAYOUT``, and addresses have the type ``function.word``.
        ``program.memory`` is mapped at ARENA_BASE under MMU indices 0 and 1; all other addresses fault. A function with
        ``ret`` is compiled as a routine. A memory fault ends the run. GOTO may be reported as GOTO_INDIRECT, and the
        other way round. `allocation` is the one of `CodegenConfig`.
        """


class _Choosing:
    """A host whose allocator chooses registers as `choice` says."""

    def __init__(self, backend: Backend, choice: Allocation) -> None:
        self._backend = backend
        self._choice = choice

    def run(self, program: Program, allocation: Allocation = Allocation.USUAL) -> Execution:
        return self._backend.run(program, allocation or self._choice)


def check(program: Program, backend: Backend) -> None:
    """Fail, and show a reduced program, unless ``backend`` and the interpreter give the same result."""
    if differing(program, backend):
        small = smallest(program, backend)
        pytest.fail("\n".join([small.describe(LAYOUT), *differing(small, backend)]), pytrace=False)


def smallest(program: Program, backend: Backend, allocation: Allocation = Allocation.USUAL) -> Program:
    """The smallest program found that still differs, made by reducing ``program``, which differs."""

    def fails(function: Builder) -> bool:
        return bool(differing(replace(program, function=function), backend, allocation))

    def values_of(function: Builder) -> dict[Instruction, int]:
        values: dict[Instruction, int] = {}
        interpreted(replace(program, function=function), values)
        return values

    return replace(program, function=reduced(program.function, fails, values_of))


def differing(program: Program, backend: Backend, allocation: Allocation = Allocation.USUAL) -> list[str]:
    """What ``backend`` does with ``program`` that the interpreter does not, a line each."""
    try:
        expected = interpreted(program)
    except InterpreterError:
        return []  # a reduced program that does not end: its results cannot be compared
    return compare(expected, backend.run(program, allocation))


class HostContract:
    """Inherit this, and supply the fixture ``backend``."""

    words: ClassVar[tuple[Type, ...]] = (Type.I32, Type.I64)
    """Guest address types that the host supports."""
    unsupported: ClassVar[frozenset[Op]] = frozenset()
    """Operations that the host does not have yet. Their tests are skipped."""
    programs_per_seed: ClassVar[int] = 10
    strict: ClassVar[bool] = False
    """Whether reservations are exact: `CodegenConfig.strict`."""

    @pytest.fixture
    def backend(self) -> Backend:
        raise NotImplementedError("a host's tests supply the fixture `backend`")

    def _skip_unsupported(self, program: Program) -> None:
        if program.function.word not in self.words:
            pytest.skip(f"the host has no guests with {program.function.word.name} addresses")
        for function in (program.function, *program.routines.values()):
            lacking = sorted({i.op.name for i in function.code} & {op.name for op in self.unsupported})
            if lacking:
                pytest.skip(f"the host has no {', '.join(lacking)}")

    def _rounds(self, seed: int | str, make: Callable[[Random, Type], Program], backend: Backend) -> None:
        for number in range(self.programs_per_seed):
            random = Random(f"{seed}.{number}")
            check(replace(make(random, self.words[number % len(self.words)]), strict=self.strict), backend)

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
    def test_shipped_program(self, backend: Backend, case: Case) -> None:
        self._skip_unsupported(case.program)
        program = replace(case.program, strict=self.strict)
        expected = interpreted(program) if self.strict else case.expected
        lines = compare(expected, backend.run(program))
        assert not lines, "\n".join([program.describe(LAYOUT), *lines])

    @pytest.mark.parametrize("op", GENERATED, ids=lambda op: op.name.lower())
    def test_operation(self, backend: Backend, op: Op) -> None:
        if op in self.unsupported:
            pytest.skip(f"the host has no {op.name}")

        def make(random: Random, word: Type) -> Program:
            literals = random.random() < 0.5
            while True:
                program = focused_program(random, LAYOUT, op, word=word, literals=literals)
                if not {i.op for i in program.function.code} & self.unsupported:
                    return program

        def dying(random: Random, word: Type) -> Program:
            program = make(random, word)
            let_operands_die(program.function, op)
            return program

        self._rounds(op.name, make, backend)
        # These choices find emitters that read an operand too late, or that rely on the register it is in.
        for choice in CHOICES:
            self._rounds(f"{op.name} {choice.name}", dying, _Choosing(backend, choice))

    @pytest.mark.parametrize("seed", range(30))
    def test_random_programs(self, backend: Backend, seed: int) -> None:
        def make(random: Random, word: Type) -> Program:
            return random_program(random, LAYOUT, word=word, without=self.unsupported)

        self._rounds(seed, make, backend)

    @pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.name.lower())
    @pytest.mark.parametrize("seed", range(8))
    def test_random_programs_whatever_registers_they_get(self, backend: Backend, seed: int, choice: Allocation) -> None:
        def make(random: Random, word: Type) -> Program:
            return random_program(random, LAYOUT, word=word, without=self.unsupported)

        self._rounds(seed, make, _Choosing(backend, choice))

    @pytest.mark.parametrize("seed", range(20))
    def test_rare_code(self, backend: Backend, seed: int) -> None:
        def make(random: Random, word: Type) -> Program:
            return rare_program(random, LAYOUT, word=word, without=self.unsupported)

        self._rounds(seed, make, backend)
        for choice in CHOICES:
            self._rounds(seed, make, _Choosing(backend, choice))

    @pytest.mark.parametrize("seed", range(5))
    def test_one_function_serves_all_literals_and_places(self, backend: Backend, seed: int) -> None:
        random = Random(seed)
        function = random_program(random, LAYOUT, word=self.words[0], without=self.unsupported).function
        for _ in range(self.programs_per_seed):
            check(random_start(random, function, LAYOUT), backend)
