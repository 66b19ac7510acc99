# SPDX-License-Identifier: Apache-2.0
"""What fuzz.py has found stays mended: every file in regressions/ is run again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("raddle.runtime._native", reason="the native runtime is not built")
pytestmark = [
    pytest.mark.peer("qemu-system-arm", "unicorn"),
    pytest.mark.host,
]

sys.path.insert(0, str(Path(__file__).parent))

FILES = sorted((Path(__file__).parent / "regressions").glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_finds_nothing_any_more(path: Path) -> None:
    from tests.targets import fuzzing

    import fuzz

    assert fuzzing.replay(path, fuzz.LAYERS) == []


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["instructions", "programs", "lockstep", "guests", "interrupts"])
def test_a_round_finds_nothing(layer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import fuzz

    status = fuzz.main(["--only", layer, "--round", "0", "--seed", "a test", "--keep", str(tmp_path)])
    assert status == 0, capsys.readouterr().out


def test_a_difference_is_noticed_shortened_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a program whose ADDs are the peer's SUBs."""
    from tests.targets.arm.differential import Case
    from tests.targets.arm.differential_vfp import Vfp
    from tests.targets.arm.sequences import shortened

    import fuzz

    nop, add, sub = 0xE320_F000, 0xE081_0002, 0xE041_0002
    programs = fuzz.Programs()
    run = programs.peer.run_vfp

    def wrong(vfp: Vfp) -> object:
        words = [("a32", sub if word == add else word) for _, word in vfp.case.words]
        case = Case("a32", words[0][1], vfp.case.registers, vfp.case.cpsr, more=tuple(words[1:]))
        return run(Vfp(case, vfp.d, vfp.fpscr))

    monkeypatch.setattr(programs.peer, "run_vfp", wrong)
    words = (0xE283_3001, add, 0xE284_4001)
    program = Vfp(Case("a32", words[0], tuple(range(15)), 0x1D3, more=tuple(("a32", word) for word in words[1:])))
    found = programs.differences(program)
    assert found == ["r0 0x3, 0xffffffff"]
    short = shortened(program, lambda candidate: bool(programs.differences(candidate)))
    assert [word for _, word in short.case.words] == [nop, add]
    assert programs.replay(short.stored()) == found
    programs.native.close()
