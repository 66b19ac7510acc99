# SPDX-License-Identifier: Apache-2.0
"""What surrounds the instructions of a block: the entry check, instruction counting, exits, the thunks."""

from __future__ import annotations

import capstone
import pytest
from raddle.runtime._native import lib
from tests.core.test_fields import Given

from raddle.codegen.backend import CodegenConfig
from raddle.codegen.fields import Source, field_kind, pack_fixups
from raddle.codegen.joiner import Joiner
from raddle.errors import MachineError
from raddle.ir.builder import Builder
from raddle.ir.types import MMU_INDICES, Align, MemOp, StateLayout, Type
from raddle.testing.foreign_harness import ForeignHarness, Runner
from raddle.testing.generate import Program
from raddle.testing.host_contract import check
from raddle.testing.ir_programs import LAYOUT, Execution
from raddle_host_aarch64.backend import AArch64BackEnd
from raddle_host_aarch64.features import BASELINE
from raddle_host_aarch64.fields import SHAPES

runs = [pytest.mark.peer("qemu-aarch64"), pytest.mark.cross("aarch64-linux-gnu-gcc")]
PC = 0x8000


def counting(config: CodegenConfig) -> AArch64BackEnd:
    return AArch64BackEnd(config._replace(icount=True), BASELINE)


def run(runner: Runner, header: dict[str, int]) -> Execution:
    """One instruction that lets r0 be 1, with counted instructions."""
    b = Builder(Type.I32)
    b.set(LAYOUT.fields["r0"], b.const(1, Type.I32))
    program = Program(b, bytes(LAYOUT.size), header, b"", (), PC)
    return ForeignHarness(counting, runner, tlb=True).run(program)


def r0(execution: Execution) -> int:
    offset = LAYOUT.fields["r0"].offset
    return int.from_bytes(execution.state[offset : offset + 4], "little")


class TestEntry:
    pytestmark = runs

    @pytest.mark.parametrize("left", [1, 2, 50_000])
    def test_a_block_takes_its_instructions_from_the_budget(self, runner: Runner, left: int) -> None:
        done = run(runner, {"icount_left": left})
        assert (r0(done), done.header["icount_left"], done.header["pc"]) == (1, left - 1, PC + 4)

    def test_one_that_has_too_many_is_left_as_it_was(self, runner: Runner) -> None:
        done = run(runner, {"icount_left": 0, "trace_hash": 5})
        assert (r0(done), done.header["icount_left"], done.header["pc"]) == (0, 0, PC)
        assert done.header["trace_hash"] == 5

    def test_one_is_left_at_a_request_and_gives_its_budget_back(self, runner: Runner) -> None:
        done = run(runner, {"icount_left": 7, "exit_request": 1})
        assert (r0(done), done.header["icount_left"], done.header["pc"]) == (0, 7, PC)

    def test_runs_are_told_apart_by_a_hash(self, runner: Runner) -> None:
        hashes = {run(runner, {"icount_left": 9, "trace_hash": seed}).header["trace_hash"] for seed in (0, 1, 2)}
        assert len(hashes) == 3


class TestFlags:
    pytestmark = runs

    @pytest.mark.parametrize("names", ["nzcv", "vczn"])
    def test_flags_lie_anywhere_in_the_state(self, runner: Runner, names: str) -> None:
        """A guest whose flags are no four bytes in a row, in that order."""
        layout = StateLayout()
        layout.fields.update(LAYOUT.fields)
        layout.size = LAYOUT.size
        layout.nzcv = tuple(LAYOUT.fields[name] for name in names)  # type: ignore[assignment]

        def make(config: CodegenConfig) -> AArch64BackEnd:
            return AArch64BackEnd(config._replace(state=layout), BASELINE)

        b = Builder(Type.I32, layout.nzcv)
        difference = b.sub(b.get(LAYOUT.fields["r1"]), b.get(LAYOUT.fields["r2"]))
        b.set_nzcv(difference)
        state = bytearray(LAYOUT.size)
        for values in ((5, 5), (3, 5), (5, 3), (1 << 31, 1)):
            for name, value in zip(("r1", "r2"), values, strict=True):
                offset = LAYOUT.fields[name].offset
                state[offset : offset + 4] = value.to_bytes(4, "little")
            check(Program(b, bytes(state), {}, b"", (), PC), ForeignHarness(make, runner, tlb=True))


def disassembled(code: bytes) -> list[capstone.CsInsn]:
    return list(capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN).disasm(code, 0))


def test_only_plain_branches_are_chained() -> None:
    """A conditional branch may not be changed while it runs: it goes to one in the cold part."""
    b = Builder(Type.I32, LAYOUT.nzcv)
    with b.if_(b.ne(b.get(LAYOUT.fields["r0"]), 0)):
        b.goto(0x40)
    backend = AArch64BackEnd(CodegenConfig(LAYOUT, Type.I32, 12, lambda callee: 0), BASELINE)
    variant = backend.template(b.code, b.locals, 4, 0, 0).variant(0, False)
    engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)
    assert [ins.mnemonic for ins in engine.disasm(variant.hot, 0)] == ["cbnz", "b"]
    assert [ins.mnemonic for ins in engine.disasm(variant.cold, 0)] == ["b"]
    rules = backend.rules()
    assert SHAPES[rules.chaining.shape].pieces == ((0, 26),)
    assert rules.chaining.span == 4
    assert rules.chaining.flush
    assert len(SHAPES) <= lib.RADDLE_SHAPES


@pytest.mark.parametrize("distance", [-(1 << 27), (1 << 27) - 4, -64, 64])
def test_a_chained_jump_reaches_128_mib(distance: int) -> None:
    (jump,) = disassembled(_jump(distance))
    assert (jump.mnemonic, jump.op_str) == ("b", f"#{distance & (1 << 64) - 1:#x}")


@pytest.mark.parametrize("distance", [-(1 << 27) - 4, 1 << 27, 1 << 31])
def test_a_jump_that_would_reach_farther_is_not_made(distance: int) -> None:
    """What the runtime does not chain then: it goes through its stub, as the toy host's tests show."""
    with pytest.raises(MachineError, match=f"source HOT, shape 0 .*, distance {distance}: "):
        _jump(distance)


def _jump(distance: int) -> bytes:
    """A plain branch that is aimed as chained jumps are."""
    backend = AArch64BackEnd(CodegenConfig(LAYOUT, Type.I32, 12, lambda callee: 0), BASELINE)
    kind = field_kind(Source.HOT, backend.rules().chaining.shape)
    joiner = Joiner(backend)
    template = Given(b"\0\0\0\x14", fixups=pack_fixups(0, [(kind, 0, distance)]))
    block = joiner.join([joiner.enter(None, 0, template, ())], PC)
    return block.code[block.hot_start : block.cold_start]


def test_a_probe_takes_eight_instructions_at_most() -> None:
    """With the access itself, in each software TLB."""
    engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)
    for align, most in ((Align.NATURAL, 7), (Align.NONE, 8)):
        for index in range(MMU_INDICES):
            b = Builder(Type.I32, LAYOUT.nzcv)
            b.set(LAYOUT.fields["r0"], b.load(b.get(LAYOUT.fields["r1"]), MemOp(4, align=align), index))
            backend = AArch64BackEnd(CodegenConfig(LAYOUT, Type.I32, 12, lambda callee: 0), BASELINE)
            hot = backend.template(b.code, b.locals, 4, 0, 0).variant(0, False).hot
            assert len(list(engine.disasm(hot, 0))) == most
