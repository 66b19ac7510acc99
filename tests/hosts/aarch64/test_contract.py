# SPDX-License-Identifier: Apache-2.0
"""The AArch64 back end passes the host contract: with all accesses hitting the software TLB and with all missing, on a
baseline CPU and on one with every feature, and where one thread runs all vCPUs."""

from __future__ import annotations

import pytest

from raddle.codegen.backend import CodegenConfig
from raddle.codegen.emitter import Handler
from raddle.ir.builder import Instruction
from raddle.ir.opcodes import Op
from raddle.ir.types import Hole, Type
from raddle.testing.foreign_harness import ForeignHarness, Runner
from raddle.testing.host_contract import Backend, HostContract
from raddle.testing.ir_programs import Case, shipped_cases
from raddle_host_aarch64.backend import AArch64BackEnd
from raddle_host_aarch64.emit.integer import is_wide
from raddle_host_aarch64.emitter import HANDLERS, Emitter
from raddle_host_aarch64.features import BASELINE, Features

pytestmark = [pytest.mark.peer("qemu-aarch64"), pytest.mark.cross("aarch64-linux-gnu-gcc")]

ALL = Features(*[True] * len(BASELINE))
ATOMICS = [op for op in Op if op.name.startswith("ATOMIC_") or op.name.endswith("_EXCLUSIVE")]
MEMORY_CASES = [case for case in shipped_cases() if case.name.startswith("memory-")]


class TestHits(HostContract):
    @pytest.fixture
    def backend(self, runner: Runner) -> Backend:
        return ForeignHarness(lambda config: AArch64BackEnd(config, ALL), runner, tlb=True)


class TestMisses(HostContract):
    @pytest.fixture
    def backend(self, runner: Runner) -> Backend:
        return ForeignHarness(lambda config: AArch64BackEnd(config, ALL), runner, tlb=False)


class Strict(HostContract):
    strict = True


@pytest.mark.parametrize("features", [BASELINE, ALL], ids=["baseline", "all"])
@pytest.mark.parametrize("tlb", [True, False], ids=["hits", "misses"])
class TestStrict:
    """Exact reservations."""

    @pytest.fixture
    def backend(self, runner: Runner, features: Features, tlb: bool) -> Backend:
        return ForeignHarness(lambda config: AArch64BackEnd(config, features), runner, tlb)

    @pytest.mark.parametrize("op", [Op.STORE, *ATOMICS], ids=lambda op: op.name.lower())
    def test_operation(self, backend: Backend, op: Op) -> None:
        Strict().test_operation(backend, op)

    @pytest.mark.parametrize("case", MEMORY_CASES, ids=lambda case: case.name)
    def test_shipped_program(self, backend: Backend, case: Case) -> None:
        Strict().test_shipped_program(backend, case)

    @pytest.mark.parametrize("seed", range(5))
    def test_random_programs(self, backend: Backend, seed: int) -> None:
        Strict().test_random_programs(backend, seed)


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("op", ATOMICS, ids=lambda op: op.name.lower())
def test_atomics_of_a_baseline_cpu(runner: Runner, op: Op, parallel: bool) -> None:
    """Exclusive loads and stores in loops; plain ones where nobody else runs."""

    def make(config: CodegenConfig) -> AArch64BackEnd:
        return AArch64BackEnd(config._replace(parallel=parallel), BASELINE)

    HostContract().test_operation(ForeignHarness(make, runner, tlb=True), op)


@pytest.mark.parametrize("seed", range(5))
def test_random_programs_of_a_baseline_cpu(runner: Runner, seed: int) -> None:
    harness = ForeignHarness(lambda config: AArch64BackEnd(config, BASELINE), runner, tlb=True)
    HostContract().test_random_programs(harness, 1000 + seed)


def _reads_too_late(e: Emitter, ins: Instruction) -> None:
    """A subtraction whose emitter does not think of results in an operand's register."""
    target = e.define(ins, ins.args)
    e.move(target, ins.args[0])
    (e.SUB_xxx if is_wide(ins) else e.SUB_www)(target, target, e.use(ins.args[1], 17))


def _forgets_the_flags(e: Emitter, ins: Instruction) -> None:
    """One that changes the host's flags, which are the guest's."""
    a, b = e.use(ins.args[0], 16), e.use(ins.args[1], 17)
    (e.SUBS_xxx if is_wide(ins) else e.SUBS_www)(e.define(ins, ins.args), a, b)


def test_a_short_form_that_sign_extends_an_unsigned_literal_fails(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Emitter.literal

    def signed(e: Emitter, register: int, value: Instruction) -> None:
        load(e, register, value)
        assert isinstance(value.aux, Hole)
        if value.aux.range == (0, 0xFFFF):
            (e.SXTH_xw if value.type is Type.I64 else e.SXTH_ww)(register, register)

    monkeypatch.setattr(Emitter, "literal", signed)
    harness = ForeignHarness(lambda config: AArch64BackEnd(config, BASELINE), runner, tlb=True)
    with pytest.raises(pytest.fail.Exception, match="and"):
        Long().test_operation(harness, Op.AND)


class Long(HostContract):
    programs_per_seed = 100


@pytest.mark.parametrize("mistake", [_reads_too_late, _forgets_the_flags])
def test_an_emitter_that_is_wrong_fails(
    runner: Runner, mistake: Handler[Emitter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: its programs have no other operation that it could go wrong with."""
    monkeypatch.setitem(HANDLERS, Op.SUB, mistake)
    harness = ForeignHarness(lambda config: AArch64BackEnd(config, BASELINE), runner, tlb=True)
    with pytest.raises(pytest.fail.Exception, match="sub"):
        HostContract().test_operation(harness, Op.SUB)
