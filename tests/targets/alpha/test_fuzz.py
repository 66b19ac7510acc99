# SPDX-License-Identifier: Apache-2.0
"""The fuzzer's rounds find nothing, and would find something."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

pytest.importorskip("raddle.runtime._native", reason="the native runtime is not built")

from tests import fuzz
from tests.targets import fuzzing
from tests.targets.alpha import programs
from tests.targets.alpha.fuzz import LAYERS, Generated, Kept, Programs
from tests.targets.alpha.peer import ARITHMETIC, COMPILER, EMULATOR

from raddle.testing.differential import FAULT, Case, Outcome

pytestmark = [pytest.mark.host, pytest.mark.peer(EMULATOR), pytest.mark.cross(COMPILER)]

ADD, SUBTRACT = (0x4022_0403).to_bytes(4, "little"), (0x4022_0523).to_bytes(4, "little")
"""ADDQ and SUBQ r1, r2, r3."""
REGISTERS = {"r1": 7, "r2": 5, f"r{programs.BASE}": programs.UNMAPPED}


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS)
def test_a_round_finds_nothing(layer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--guest", "alpha", "--only", layer, "--round", "0", "--seed", "a test", "--keep", str(tmp_path)]
    assert fuzz.main(words) == 0, capsys.readouterr().out


def test_a_difference_is_noticed_shortened_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a program whose additions are the peer's subtractions."""
    layer = Programs()
    run = layer.peer.run

    def wrong(case: Case) -> Outcome:
        return run(Case(case.code.replace(ADD, SUBTRACT), case.pc, case.registers, case.memory))

    monkeypatch.setattr(layer.peer, "run", wrong)
    found: list[fuzzing.Finding] = []
    layer.check(fuzzing.Round(found.append), layer.case(SUBTRACT + ADD + ADD, REGISTERS, bytes(64)), "")
    assert [finding.text.partition(":")[2] for finding in found] == [" r3 is 0xc, not 0x2"]
    assert found[0].stored == Kept(layer.case(2 * programs.NOTHING + ADD, REGISTERS, bytes(64))).stored()
    assert layer.replay(found[0].stored) == [" ".join(found[0].text.split()[3:])]
    layer.close()


def test_wrong_generated_code_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: additions are subtractions."""
    layer = Generated()
    run = layer.native.run
    case = layer.case(SUBTRACT + ADD, REGISTERS, bytes(64))
    assert layer.replay(Kept(case).stored()) == []
    monkeypatch.setattr(layer.native, "run", lambda case: run(replace(case, code=case.code.replace(ADD, SUBTRACT))))
    assert layer.replay(Kept(case).stored()) == ["generated: r3 is 0x2, not 0xc"]
    layer.close()


def test_programs_end_in_every_way() -> None:
    ends: Counter[str] = Counter()
    layer = Programs()
    for number in range(300):
        case = layer.case(*programs.random_program(Random(f"ends {number}")))
        ends[programs.RUNNER.run(case).event] += 1
    layer.close()
    assert ends.keys() == {"", FAULT, ARITHMETIC}
