# SPDX-License-Identifier: Apache-2.0
"""Every integer instruction against QEMU, in the interpreter; what QEMU does not show, by the manual."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from tests.targets.alpha.integer_cases import EVENTS, LINES, REGISTERS, SIZES, interpreted, random_case
from tests.targets.alpha.peer import COMPILER, EMULATOR, WINDOW, Peer

from raddle.ir.builder import Builder
from raddle.ir.opcodes import Op
from raddle.ir.types import Type
from raddle.testing.differential import MISALIGNED, UNDEFINED, Case, Interpreted, check, random_word
from raddle.translate.decode import Pattern
from raddle_target_alpha import decode, insns
from raddle_target_alpha.cpus import MODELS
from raddle_target_alpha.frontend import front_end
from raddle_target_alpha.state import INDEX_KERNEL, USER_INDICES

CASES = 40
"""Cases of each line of the table."""


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.close()


@pytest.mark.peer(EMULATOR)
@pytest.mark.cross(COMPILER)
@pytest.mark.parametrize("pattern", LINES, ids=lambda pattern: f"{pattern.name}-{pattern.where.rpartition(':')[2]}")
def test_instruction(pattern: Pattern, peer: Peer) -> None:
    random = Random(pattern.where)
    cases = [random_case(random, pattern, peer.slot) for _ in range(CASES)]
    assert check(interpreted(), peer, cases) == CASES


# -- what QEMU's user programs do not show -----------------------------------------------------------------------------

CODE = 0x1000
STQ_C, LDQ_L, STL_C, LDL_L = 0xBC61_0000, 0xAC41_0000, 0xB861_0000, 0xA841_0000
"""STx_C r3, 0(r1) and LDx_L r2, 0(r1)."""


def words(*code: int) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in code)


def opcode(name: str) -> int:
    """The bits that all lines of an access have in common."""
    return min(line.value for line in LINES if line.name == name)


@pytest.mark.parametrize("name", ["LDWU", "LDL", "LDQ", "LDL_L", "LDQ_L", "STW", "STL", "STQ", "STL_C", "STQ_C"])
@pytest.mark.parametrize("displacement", [0, 8])
def test_a_misaligned_access_faults(name: str, displacement: int) -> None:
    code = words(opcode(name) | 2 << 21 | 1 << 16 | displacement)
    size = SIZES[name[2]]
    for offset in range(8):
        case = Case(code, CODE, {"r1": WINDOW + offset - displacement}, {WINDOW: bytes(16)})
        assert interpreted().run(case).event == (MISALIGNED if offset % size else "")


@pytest.mark.parametrize("name", ["LDBU", "LDWU", "LDL", "LDQ", "LDQ_U"])
@pytest.mark.parametrize("displacement", [0, 8])
def test_a_load_into_r31_is_a_prefetch(name: str, displacement: int) -> None:
    code = words(opcode(name) | 31 << 21 | 1 << 16 | displacement)
    assert not interpreted().run(Case(code, CODE, {"r1": 3})).event


@pytest.mark.parametrize(("load", "store", "done"), [(LDQ_L, STQ_C, 1), (LDL_L, STL_C, 1), (0x47FF041F, STQ_C, 0)])
def test_a_store_conditional_needs_the_lock_flag(load: int, store: int, done: int) -> None:
    case = Case(words(load, store, store), CODE, {"r1": WINDOW, "r3": 5}, {WINDOW: bytes(8)}, steps=2)
    after = interpreted().run(case)
    assert after.registers["r3"] == done
    assert after.memory[WINDOW][0] == 5 * done
    again = interpreted().run(Case(case.code, CODE, case.registers, case.memory, steps=3))
    assert again.registers["r3"] == 0  # the first store has cleared the flag


@pytest.mark.parametrize("cpu", MODELS)
def test_a_model_lacks_what_its_extensions_have(cpu: str) -> None:
    model = MODELS[cpu]
    for line in LINES:
        word = random_word(decode.alpha(), line, Random(line.where))
        found = front_end(cpu).instruction_set(0).decode(word or 0, 4)
        assert (found is None) == bool(line.constants.get("feature", 0) & ~int(model.features))
    amask, implver = 0x47E0_0C22 | 3 << 16, 0x47E0_3D82  # amask r3, r2; implver r2
    for code, result in ((amask, 0xFFFF ^ model.features), (implver, model.implementation)):
        assert interpreted(cpu).run(Case(words(code), CODE, {"r3": 0xFFFF})).registers["r2"] == result


def test_the_interrupt_flag_is_read_and_set_or_cleared() -> None:
    rs, rc = 0x6000_F000 | 1 << 21, 0x6000_E000 | 2 << 21
    after = interpreted().run(Case(words(rs, rc, rc | 1 << 21), CODE, {"r1": 7}, steps=3))
    assert [after.registers[f"r{n}"] for n in (1, 2, 3)] == [0, 1, 0]


def test_the_cycle_counter_has_the_offset_of_the_process() -> None:
    ticks = {"clock_ticks": lambda cpu, frequency: 0x5_1234_5678}
    runner = Interpreted(front_end("ev67"), REGISTERS, callees=ticks)
    case = Case(words(0x6000_C000 | 1 << 21), CODE, {"pcc_offset": 7 << 32})
    assert runner.run(case).registers["r1"] == 7 << 32 | 0x1234_5678


def test_a_block_ends_behind_a_read_of_the_cycle_counter() -> None:
    """So that a program does not time the translation of what follows."""
    instructions, b, rpcc = front_end("ev67").instruction_set(0), Builder(Type.I64), 0x6000_C000
    instructions.translate(b, instructions.decode(rpcc, 4), rpcc, 0, 0)
    assert b.code[-1].op is Op.GOTO


def test_an_undefined_word_and_privileged_palcode_in_user_mode_are_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    assert interpreted().run(Case(words(0x0400_0000), CODE)).event == UNDEFINED
    monkeypatch.setattr(insns, "PRIVILEGED", frozenset({"RDUNIQUE"}))
    case = Case(words(0x9E), CODE)
    for mode, event in ((INDEX_KERNEL, ""), (USER_INDICES[0], UNDEFINED)):
        assert Interpreted(front_end("ev67"), REGISTERS, mode=mode, events=EVENTS).run(case).event == event
