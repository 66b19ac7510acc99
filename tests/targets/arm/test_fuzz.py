# SPDX-License-Identifier: Apache-2.0
"""What the fuzzer does with rounds that do not end by themselves; what it finds is in test_regressions.py."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

pytest.importorskip("raddle.runtime._native", reason="the native runtime is not built")

sys.path.insert(0, str(Path(__file__).parent))

from tests.targets import fuzzing
from tests.targets.arm import random_guest
from tests.targets.arm.differential import Case
from tests.targets.arm.differential_vfp import Vfp

import fuzz
from raddle import Machine
from raddle.ir.opcodes import Op
from raddle.ir.types import Type
from raddle_host_aarch64.emitter import HANDLERS
from raddle_target_arm.state import MODE_E, MODE_T

pytestmark = [pytest.mark.peer("unicorn"), pytest.mark.host]

LIMIT = 10.0
MACHINE = os.uname().machine
(OTHER,) = fuzz.COMPILERS.keys() - {MACHINE}
TO_ITSELF, NOP = 0xEAFF_FFFE, 0xE320_F000


def program(*words: int) -> Vfp:
    return Vfp(Case("a32", words[0], tuple(range(15)), 0x1D3, more=tuple(("a32", word) for word in words[1:])))


class Sometimes(fuzz.Programs):
    """Rounds of one program; in that of number 0 it is one that never ends on the host."""

    def round(self, random: Random, done: fuzzing.Round) -> None:
        word = TO_ITSELF if random.getstate() == Random("a test sometimes 0").getstate() else NOP
        done.compared["programs"] += 1
        self.native.run_vfp(self._begun(program(NOP, word)))

    def _begun(self, vfp: Vfp) -> Vfp:
        self.begins(vfp)
        return vfp


class Never(Sometimes):
    """The control."""

    def round(self, random: Random, done: fuzzing.Round) -> None:
        super().round(Random("another"), done)


class Crashing(Sometimes):
    def round(self, random: Random, done: fuzzing.Round) -> None:
        self.begins(program(NOP))
        os.kill(os.getpid(), signal.SIGSEGV)


class Failing(Sometimes):
    def round(self, random: Random, done: fuzzing.Round) -> None:
        self.begins(program(NOP))
        raise ValueError("it cannot be compared")


class WithChild(Sometimes):
    """Hangs with a process of its own, as one that waits for QEMU does."""

    def round(self, random: Random, done: fuzzing.Round) -> None:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        self.begins({"pid": child.pid})
        time.sleep(60)


class Telling(fuzzing.Layer):
    """Says which process it is in."""

    def round(self, random: Random, done: fuzzing.Round) -> None:
        done.differs(str(os.getpid()), {})


class TellingThenHanging(Telling):
    def round(self, random: Random, done: fuzzing.Round) -> None:
        super().round(random, done)
        time.sleep(60)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the rounds of these numbers; the exit status, what the fuzzer says and the files that it keeps."""

    def run(layer: type[fuzzing.Layer], *numbers: int) -> tuple[int, str, list[Path]]:
        name = layer.__name__.lower()
        monkeypatch.setitem(fuzz.LAYERS, name, layer)
        tasks = [fuzzing.Task(name, layer, number, "a test") for number in numbers]
        monkeypatch.setattr(fuzzing, "rounds", lambda _: iter(tasks))
        kept = str(tmp_path / "kept")
        status = fuzz.main(["--only", name, "--seed", "a test", "--limit", str(LIMIT), "--keep", kept])
        return status, capsys.readouterr().out, sorted((tmp_path / "kept").glob("*"))

    return run


def test_a_round_that_hangs_is_kept_and_the_next_one_goes_on(run: Any) -> None:
    status, out, kept = run(Sometimes, 0, 1, 2)
    assert status == 1
    assert f"HANG in sometimes, --seed a test --only sometimes --round 0\nno end after {LIMIT:g} s\n" in out
    assert "in run_vfp" in out, "where it hangs"
    assert out.endswith("0 differences, 1 hang\n")
    assert ", 2 programs\n" in out, "in the rounds after it"
    data = json.loads(kept[0].read_text())
    assert (data["layer"], data["kind"]) == ("sometimes", "hang")
    assert fuzz.read_case(data) == program(NOP, TO_ITSELF)


def test_a_kept_hang_is_replayed_within_the_limit(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    _, _, kept = run(Sometimes, 0)
    assert fuzz.main(["--replay", str(kept[0]), "--limit", str(LIMIT)]) == 1
    assert f"{kept[0].name}: hang: no end after {LIMIT:g} s" in capsys.readouterr().out


def test_rounds_that_end_are_no_hangs(run: Any) -> None:
    status, out, kept = run(Never, 0, 1, 2)
    assert (status, kept) == (0, [])
    assert ", 3 programs\n" in out
    assert out.endswith("\n0 differences\n")


def test_a_crash_is_kept(run: Any) -> None:
    status, out, kept = run(Crashing, 7)
    assert status == 1
    assert "CRASH in crashing, --seed a test --only crashing --round 7\nthe process has ended with status -11\n" in out
    assert out.endswith("0 differences, 1 crash\n")
    assert fuzz.read_case(json.loads(kept[0].read_text())) == program(NOP)


def test_what_cannot_be_compared_is_kept(run: Any) -> None:
    status, out, kept = run(Failing, 0)
    assert status == 1
    assert "ValueError('it cannot be compared')" in out
    assert json.loads(kept[0].read_text())["kind"] == "error"


def test_what_hangs_takes_its_processes_along(run: Any) -> None:
    _, _, kept = run(WithChild, 0)
    assert has_ended(json.loads(kept[0].read_text())["pid"])


def has_ended(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_process_is_replaced_after_some_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "TASKS_A_PROCESS", 2)
    said = list(fuzzing.supervise(iter([fuzzing.Task("telling", Telling, number) for number in range(5)]), 1, 60))
    pids = [one.text for _, one in said if isinstance(one, fuzzing.Finding)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [2, 2, 1]


def test_processes_end_with_a_fuzzer_that_is_killed() -> None:
    script = (
        "import sys; sys.path[:0] = sys.argv[1:3]\n"
        "from tests.targets.fuzzing import Task, supervise\n"
        "from tests.targets.arm.test_fuzz import TellingThenHanging\n"
        "for _, said in supervise(iter([Task('', TellingThenHanging)]), 1, 60): print(said.text)"
    )
    here = Path(__file__).parent
    with subprocess.Popen([sys.executable, "-uc", script, str(here), str(here.parents[2])], stdout=-1) as fuzzer:
        assert fuzzer.stdout is not None
        pid = int(fuzzer.stdout.readline())
        assert not has_ended(pid)
        fuzzer.kill()
    end = time.monotonic() + 240
    while not has_ended(pid):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_nothing_of_an_earlier_case_is_left() -> None:
    """An LDR from behind the case, in T16, after a case whose ISB is longer: both read zero there."""
    layer = fuzz.Instructions()
    state = (0,) * 15
    assert layer.differences(Vfp(Case("a32", NOP, state, 0x1D3))) == []
    assert layer.differences(Vfp(Case("t16", 0x4C00, state, 0x1F3))) == []
    layer.native.close()
    layer.vfp_native.close()


@pytest.mark.parametrize("long", [False, True], ids=["short", "long"])
def test_random_guests_take_exceptions_in_every_way(long: bool, tmp_path: Path) -> None:
    """By SCTLR.EE, TE and, where the tables have room for them, V."""
    ways: set[tuple[bool, bool, bool]] = set()

    def taken(cpu: Any, event: Any) -> None:
        mode = cpu["mode"]
        ways.add((event.target >= 0xFFFF_0000, bool(mode & MODE_T), bool(mode & MODE_E)))

    high = (False,) if long else (False, True)
    wanted = {(v, te, ee) for v in high for te in (False, True) for ee in (False, True)}
    for number in range(50):
        if ways == wanted:
            break
        guest = random_guest.random_guest(Random(f"ways {number}"), 60, long=long)
        path = tmp_path / "guest.elf"
        path.write_bytes(guest.elf())
        with Machine("virt", memory="256M", kernel=path, icount="shift=3", reboot=False) as machine:
            machine.hook("exception", taken)
            machine.start()
            assert machine.wait(timeout=60) == 0
    assert ways == wanted


@pytest.mark.parametrize("words", [["--limit", "0"], ["--jobs", "0"], ["--minutes", "-1"]])
def test_refuses_what_is_no_bound(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        fuzz.main(words)
    assert ended.value.code == 2
    assert "must be" in capsys.readouterr().err


# -- programs of IR ----------------------------------------------------------------------------------------------------


def ors_instead(e: Any, ins: Any) -> None:
    """Not a mistake of a subtraction: those count loops, which must end."""
    first, second = e.use(ins.args[0], 16), e.use(ins.args[1], 17)
    (e.ORR_xxx if ins.type is Type.I64 else e.ORR_www)(e.define(ins, ins.args), first, second)


@pytest.mark.peer("qemu-aarch64")
@pytest.mark.cross("aarch64-linux-gnu-gcc")
@pytest.mark.parametrize("wrong", [False, True])
def test_programs_of_ir_show_a_wrong_operation_and_shorten_it(
    wrong: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of a host that this machine need not be; the control is the host as it is."""
    if wrong:
        monkeypatch.setitem(HANDLERS, Op.XOR, ors_instead)
    monkeypatch.setattr(fuzz, "IR_PROGRAMS_A_ROUND", 60)
    with contextlib.closing(fuzz.IrPrograms(fuzz.build_runners(["aarch64"], tmp_path))) as layer:
        found: list[fuzzing.Finding] = []
        done = fuzzing.Round(found.append)
        layer.round(Random("a test"), done)
        assert done.compared["programs of IR"] == 60
        assert bool(found) == wrong
        for finding in found:
            assert finding.text.startswith("aarch64: ")
            assert len(finding.text.splitlines()) < 20
            assert "xor." in finding.text
        if found:
            assert layer.replay(found[0].stored) == [found[0].text]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "vax"], "invalid choice: 'vax'"),
        (["--host", OTHER, "--only", "programs"], f"programs: only this machine's host ({MACHINE}) runs this"),
        (["--host", OTHER], f"the code of host {OTHER} cannot be run here: "),
    ],
)
def test_a_host_that_cannot_be_asked_for(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fuzz, "runs_here", lambda host: "--only" in words)
    with pytest.raises(SystemExit) as ended:
        fuzz.main(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_the_host_says_which_layers_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(fuzz, "runs_here", lambda host: True)
    assert fuzz.layers_for([OTHER]) == ["ir"]
    assert fuzz.layers_for([OTHER, MACHINE]) == fuzz.layers_for([]) == list(fuzz.LAYERS)
    monkeypatch.setattr(fuzz, "runs_here", lambda host: False)
    assert "ir" not in fuzz.layers_for([])
    assert capsys.readouterr().out == "not run: ir, as there is no compiler for any host\n"
