# SPDX-License-Identifier: Apache-2.0
"""Every floating-point instruction against QEMU, in the interpreter; what QEMU does not show, by the manual."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from tests.targets.alpha.float_cases import EASY, LINES, interpreted, random_case, wrong
from tests.targets.alpha.peer import COMPILER, EMULATOR, NAMES, WINDOW, Peer

from raddle.ir.builder import Builder, Label
from raddle.ir.opcodes import Op
from raddle.ir.types import Type
from raddle.testing.differential import Case, Interpreted, Outcome, random_word
from raddle.translate.decode import Pattern
from raddle_target_alpha import decode
from raddle_target_alpha.exceptions import Entry, Fault
from raddle_target_alpha.fpcr import DNOD, DZE, INE, INED, INVD_TO_OVFD, OVF, STATUS_SHIFT, UNF, UNFD
from raddle_target_alpha.frontend import front_end
from raddle_target_alpha.state import FPCR_REST, MODE_FEN

CASES = 100


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
    for _ in range(CASES):
        case = random_case(random, pattern, peer.slot)
        assert not wrong(pattern, case, interpreted().run(case), peer.run(case))


# -- what QEMU does not show -------------------------------------------------------------------------------------------

CODE = 0x1000
F0_TO_F2 = 1 << 16 | 2
"""Operands of an operate instruction: Fa is F0, Fb is F1, Fc is F2."""


def run(word: int, fpcr: int = 0, memory: bytes = b"", **registers: int) -> Outcome:
    case = Case(word.to_bytes(4, "little"), CODE, registers | {"fpcr": fpcr, "r9": WINDOW}, {WINDOW: memory})
    return interpreted().run(case)


@pytest.mark.parametrize(
    ("exponent", "field"), [(0x7F, 0x3FF), (0x80, 0x400), (0xD6, 0x456), (0xFF, 0x47F), (1, 0x381), (0, 0)]
)
def test_f_numbers_have_their_exponent_moved(exponent: int, field: int) -> None:
    """MAP_F (2.2.5.1), in memory with the word of sign and exponent first."""
    bits = 1 << 31 | exponent << 23 | 0x12_3456
    memory = (bits >> 16 | (bits & 0xFFFF) << 16).to_bytes(4, "little")
    register = 1 << 63 | field << 52 | 0x12_3456 << 29
    ldf, stf, itoff = 0x8029_0000, 0x9029_0000, 0x5000_0000 | 3 << 21 | 31 << 16 | 0x014 << 5 | 1
    assert run(ldf, memory=memory).registers["f1"] == register
    assert run(stf, memory=bytes(4), f1=register).memory[WINDOW] == memory
    assert run(itoff, r3=bits).registers["f1"] == register


def test_the_summary_bit_is_that_of_the_status_bits() -> None:
    mf_fpcr = 0x5C00_0000 | 1 << 21 | 0x025 << 5
    for status in range(64):
        read = run(mf_fpcr, EASY | status << STATUS_SHIFT).registers["f1"]
        assert read == EASY | status << STATUS_SHIFT | bool(status) << 63


@pytest.mark.parametrize(
    ("qualifiers", "fpcr", "a", "b", "summary"),
    [
        (0x080, 0, 0x3FF << 52, 0, 0x04),  # DIVT of 1 by 0
        (0x080, EASY, 0x3FF << 52, 0, 0x04),  # FPCR disables nothing without /S
        (0x580, 0, 0x3FF << 52, 0, 0x05),
        (0x580, EASY, 0x3FF << 52, 0, None),
        (0x080, 0, 0, 0, 0x02),
        (0x080, 0, 1, 0x3FF << 52, 0x02),  # a denormal operand
        (0x580, INED | UNFD | INVD_TO_OVFD, 1, 0x3FF << 52, 0x03),  # DNOD is 0
        (0x080, 0, 0x001 << 52, 0x400 << 52, None),  # an underflow
        (0x180, 0, 0x001 << 52, 0x400 << 52, 0x10),
        (0x580, DNOD, 0x001 << 52, 0x400 << 52, 0x11),
        (0x780, DNOD, 0x3FF << 52, 0x4008 << 48, 0x21),  # 1 by 3 is inexact
        (0x580, DNOD, 0x3FF << 52, 0x4008 << 48, None),
    ],
)
def test_a_trap_has_its_exceptions_and_the_register(
    qualifiers: int, fpcr: int, a: int, b: int, summary: int | None
) -> None:
    traps: list[tuple[int, ...]] = []
    runner = Interpreted(
        front_end("ev67"), NAMES, callees={Entry.ARITH.routine: lambda cpu, *arguments: traps.append(arguments) or 0}
    )
    divt = 0x5800_0000 | 0x023 << 5 | qualifiers << 5 | F0_TO_F2
    after = runner.run(Case(divt.to_bytes(4, "little"), CODE, {"f0": a, "f1": b, "fpcr": fpcr}))
    assert traps == ([] if summary is None else [(summary, 1 << 34, 0)])
    assert after.registers["pc"] == CODE + 4


def test_floating_point_that_is_disabled_is_a_fault() -> None:
    faults: list[tuple[int, ...]] = []
    callees = {Entry.IF.routine: lambda cpu, *arguments: faults.append(arguments) or 0}
    for line in LINES:
        word = random_word(decode.alpha(), line, Random(1)) or 0
        outcome = Interpreted(front_end("ev67"), NAMES, mode=0, callees=callees).run(
            Case(word.to_bytes(4, "little"), CODE)
        )
        assert outcome.registers["pc"] == CODE
    assert faults == [(Fault.FEN, 0, 0)] * len(LINES)


# -- how much is done for usual operands -------------------------------------------------------------------------------

ONE, TWO = 0x3FF << 52, 0x400 << 52
IEEE = 0x5800_0000 | F0_TO_F2
USUAL = {"ADDT": 0x0A0, "SUBT": 0x0A1, "MULT": 0x0A2, "DIVT": 0x0A3, "CMPTLT": 0x0A6, "CVTTQ": 0x0AF, "CVTQT": 0x0BE}
"""Functions without qualifiers; conversions have F31 as Fa."""


@pytest.mark.parametrize("name", USUAL)
def test_the_check_of_operands_and_results_is_rare_code(name: str) -> None:
    """Nothing before it writes FPCR, and there is not much."""
    instructions = front_end("ev67").instruction_set(MODE_FEN)
    b = Builder(Type.I64)
    word = IEEE | USUAL[name] << 5 | (31 << 21 if name.startswith("CVT") else 0)
    instructions.translate(b, instructions.decode(word, 4), word, 0, MODE_FEN)
    rare = next(
        at for at, ins in enumerate(b.code) if isinstance(ins.aux, Label) and ins.op is Op.LABEL and ins.aux.rare
    )
    assert rare < 50
    assert not any(ins.op is Op.SET and ins.aux is FPCR_REST for ins in b.code[:rare])
    assert any(ins.op is Op.SET and ins.aux is FPCR_REST for ins in b.code[rare:])


def test_what_arithmetic_without_traps_has_raised_is_moved_once() -> None:
    """Or each instruction that checks would find its flags from then on."""
    divt_su, addt = IEEE | 0x5A3 << 5, IEEE | 0x0A0 << 5
    runner = Interpreted(front_end("ev67"), (*NAMES, "fp_flags"))
    code = divt_su.to_bytes(4, "little") + (addt | 3).to_bytes(4, "little")
    before = {"f0": ONE, "f1": 0, "fpcr": EASY | INE << STATUS_SHIFT}
    raised = runner.run(Case(code[:4], CODE, before)).registers
    after = runner.run(Case(code, CODE, before, steps=2)).registers
    assert raised["f2"] == 0x7FF << 52
    assert raised["fp_flags"] == INE | DZE
    assert after["fp_flags"] == INE
    assert after["fpcr"] == raised["fpcr"] == EASY | (INE | DZE) << STATUS_SHIFT | 1 << 63


@pytest.mark.parametrize("known", [0, INE << STATUS_SHIFT])
@pytest.mark.parametrize("sticky", [0, OVF << STATUS_SHIFT])
def test_a_sum_that_is_inexact_is_recorded_if_it_was_not_known(known: int, sticky: int) -> None:
    addt = IEEE | 0x0A0 << 5
    after = run(addt, EASY | known | sticky, f0=ONE, f1=1 << 52 | 0x300 << 52)
    assert after.registers["f2"] == ONE
    assert after.registers["fpcr"] == EASY | INE << STATUS_SHIFT | sticky | 1 << 63


def test_a_denormal_difference_is_a_true_zero_that_has_underflown() -> None:
    """Though it is exact, so that arithmetic without traps raises nothing (4.7.7.7)."""
    subt = IEEE | 0x0A1 << 5
    after = run(subt, EASY | INE << STATUS_SHIFT, f0=6 << 50, f1=5 << 50)
    assert after.registers["f2"] == 0
    assert after.registers["fpcr"] == EASY | (INE | UNF) << STATUS_SHIFT | 1 << 63
