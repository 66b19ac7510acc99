# SPDX-License-Identifier: Apache-2.0
"""The x86-64 back end passes the host contract, with all accesses hitting the software TLB and with all missing."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from raddle.codegen.emitter import Handler
from raddle.ir.builder import Instruction
from raddle.ir.interpreter import Outcome
from raddle.ir.opcodes import Op
from raddle.ir.types import Type
from raddle.runtime.layout import GRANULE_LOCK
from raddle.testing.host_contract import Backend, HostContract
from raddle.testing.host_harness import Harness
from raddle.testing.ir_programs import Case, shipped_cases
from raddle_host_x86_64.backend import X86BackEnd
from raddle_host_x86_64.emit.integer import apply
from raddle_host_x86_64.emitter import HANDLERS, Emitter
from raddle_host_x86_64.registers import RDX

pytestmark = pytest.mark.host("x86_64")

IN_THE_RUNTIME = frozenset(
    {
        Op.LOAD_EXCLUSIVE, Op.STORE_EXCLUSIVE, Op.ATOMIC_CMPXCHG, Op.ATOMIC_XCHG, Op.ATOMIC_FETCH_ADD,
        Op.ATOMIC_FETCH_SMIN, Op.ATOMIC_FETCH_SMAX, Op.ATOMIC_FETCH_UMIN, Op.ATOMIC_FETCH_UMAX,
        Op.ATOMIC_FETCH_AND, Op.ATOMIC_FETCH_OR, Op.ATOMIC_FETCH_XOR, Op.FADD, Op.FSUB, Op.FMUL, Op.FDIV, Op.FSQRT,
        Op.FMA, Op.FCMP, Op.FCVT, Op.FTOI, Op.ITOF,
    }
)  # fmt: skip
"""Operations that generated code leaves to the native runtime; they are tested with it."""
MEMORY_CASES = [
    case
    for case in shipped_cases()
    if case.name.startswith("memory-") and not IN_THE_RUNTIME.intersection(i.op for i in case.program.function.code)
]


class TestHits(HostContract):
    unsupported: ClassVar[frozenset[Op]] = IN_THE_RUNTIME

    @pytest.fixture
    def backend(self) -> Backend:
        return Harness(X86BackEnd, tlb=True)


def _reads_too_late(e: Emitter, ins: Instruction) -> None:
    """A subtraction whose emitter does not think of results in the second operand's register."""
    target = e.define(ins, ins.args)
    e.move(target, ins.args[0])
    apply(e, Op.SUB, ins.type is Type.I64, target, ins.args[1])
    e.clobber()


def _destroys_too_early(e: Emitter, ins: Instruction) -> None:
    """One that counts on it that a result that is spilled is not computed where an operand waits."""
    operand = e.use(ins.args[1], RDX)
    target = e.define(ins)
    e.move(target, ins.args[0])
    (e.SUBQ_rr if ins.type is Type.I64 else e.SUB_rr)(target, operand)
    e.clobber()


@pytest.mark.parametrize("mistake", [_reads_too_late, _destroys_too_early])
def test_an_emitter_that_is_wrong_about_its_operands_fails(
    mistake: Handler[Emitter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: its programs have no other operation that it could go wrong with."""
    monkeypatch.setitem(HANDLERS, Op.SUB, mistake)
    contract, harness = HostContract(), Harness(X86BackEnd, tlb=True)
    with pytest.raises(pytest.fail.Exception, match="sub"):
        contract.test_operation(harness, Op.SUB)


def test_a_granule_that_is_left_locked_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness(X86BackEnd, tlb=True)
    run = harness._run_instruction

    def locking(*arguments: Any) -> Outcome:
        harness.granules[7] = 1 << GRANULE_LOCK
        return run(*arguments)

    harness.run(MEMORY_CASES[0].program)
    monkeypatch.setattr(harness, "_run_instruction", locking)
    with pytest.raises(AssertionError, match="a granule has been left locked"):
        harness.run(MEMORY_CASES[0].program)


class TestCommonAddend:
    """The addend of loads, which is the header's or the entry's."""

    @pytest.fixture(params=[False, True], ids=["common", "apart"])
    def backend(self, request: pytest.FixtureRequest) -> Backend:
        return Harness(X86BackEnd, tlb=True, apart=request.param)

    def test_loads(self, backend: Backend) -> None:
        TestHits().test_operation(backend, Op.LOAD)

    @pytest.mark.parametrize("strict", [False, True], ids=["fast", "strict"])
    @pytest.mark.parametrize("case", MEMORY_CASES, ids=lambda case: case.name)
    def test_shipped_program(self, backend: Backend, case: Case, strict: bool) -> None:
        (Strict() if strict else TestHits()).test_shipped_program(backend, case)

    @pytest.mark.parametrize("seed", range(5))
    def test_random_programs(self, backend: Backend, seed: int) -> None:
        TestHits().test_random_programs(backend, seed)


class Strict(HostContract):
    unsupported: ClassVar[frozenset[Op]] = IN_THE_RUNTIME
    strict = True


class TestStrict:
    """Exact reservations; exclusives are tested with the runtime."""

    @pytest.fixture
    def backend(self) -> Backend:
        return Harness(X86BackEnd, tlb=True)

    def test_stores(self, backend: Backend) -> None:
        Strict().test_operation(backend, Op.STORE)

    @pytest.mark.parametrize("case", MEMORY_CASES, ids=lambda case: case.name)
    def test_shipped_program(self, backend: Backend, case: Case) -> None:
        Strict().test_shipped_program(backend, case)

    @pytest.mark.parametrize("seed", range(5))
    def test_random_programs(self, backend: Backend, seed: int) -> None:
        Strict().test_random_programs(backend, seed)


class TestMisses(HostContract):
    unsupported: ClassVar[frozenset[Op]] = IN_THE_RUNTIME

    @pytest.fixture
    def backend(self) -> Backend:
        return Harness(X86BackEnd, tlb=False)
