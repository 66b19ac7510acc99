# SPDX-License-Identifier: Apache-2.0
"""`raddle litmus`: tests run as guests, what it shows, and its exit status."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from raddle.accel import Mode
from raddle.cli.litmus import allowed_outcomes
from raddle.cli.main import main
from raddle.errors import MachineError, PluginError, UsageError
from raddle.litmus.assembly import SPINS, SPINS_IN_TURN, ThreadLayout, lacking, thread_code
from raddle.litmus.files import load, names
from raddle.litmus.guest import LitmusGuest
from raddle.litmus.models import Model
from raddle.litmus.program import LitmusTest
from raddle.litmus.run import run
from raddle.translate.frontend import FrontEnd
from raddle_target_alpha.frontend import front_end as alpha_front_end
from raddle_target_alpha.litmus import GUEST as ALPHA
from raddle_target_alpha.state import MODE_FEN
from raddle_target_arm.frontend import FRONT_END
from raddle_target_arm.litmus import GUEST
from raddle_target_arm.state import MODE_PRIVILEGED

ADDRESS = 0x4020_0000


class Guest(NamedTuple):
    """A guest that is installed."""

    litmus: LitmusGuest
    target: str
    cpu: str
    front_end: FrontEnd
    mode: int


GUESTS: Final = {
    one.target: one
    for one in (
        Guest(GUEST, "arm", "cortex-a15", FRONT_END, MODE_PRIVILEGED),
        Guest(ALPHA, "alpha", "ev67", alpha_front_end("ev67"), MODE_FEN),
    )
}
MODES = {
    "multi": ({"accelerator": "tcg,thread=multi"}, Mode.MULTI),
    "single": ({"accelerator": "tcg,thread=single"}, Mode.SINGLE),
    "icount": ({"icount": "shift=0"}, Mode.SINGLE),
}


def layout(name: str, thread: int, direct_map: int = 0) -> ThreadLayout:
    test, start = load(name), direct_map + ADDRESS
    places = {location: start + 0x1000 * number for number, location in enumerate(test.initial)}
    arrivals = tuple(start + 64 * number for number in range(len(test.threads)))
    return ThreadLayout(thread, arrivals, start, start + 64, start + 128, places, start, 1000)


@pytest.mark.parametrize(
    ("target", "name"),
    [(one, name) for one in GUESTS for name in names() if not lacking(load(name), GUESTS[one].litmus)],
)
def test_a_guest_has_machine_code_for_the_suite(target: str, name: str) -> None:
    """Each word is an instruction."""
    guest = GUESTS[target]
    instructions = guest.front_end.instruction_set(guest.mode)
    for thread in range(len(load(name).threads)):
        code = thread_code(load(name), guest.litmus, layout(name, thread, guest.litmus.direct_map))
        words = [int.from_bytes(code[at : at + 4], "little") for at in range(0, len(code), 4)]
        assert all(instructions.decode(word, 4) for word in words)


def test_what_a_guest_lacks_is_named() -> None:
    assert lacking(load("MP+rel+acq"), GUEST) == ["load_acquire", "store_release"]
    assert lacking(load("ADD+ADD"), GUEST) == ["atomic_add"]
    operations = {name: encode for name, encode in GUEST.operations.items() if name != "jump"}
    with pytest.raises(PluginError, match="lack jump"):
        thread_code(load("SB"), GUEST._replace(operations=operations), layout("SB", 0))
    with pytest.raises(UsageError, match="needs 13 registers in thread 1"):
        thread_code(load("PPOCA"), GUEST._replace(registers=12), layout("PPOCA", 1))


@pytest.mark.host
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "cpus"), [("MP+mb+addr", 4), ("SB+mbs", 2), ("LLSC+LLSC", 2), ("ISA2+mbs", 3)])
@pytest.mark.parametrize("target", GUESTS)
def test_a_guest_shows_only_what_its_architecture_allows(target: str, name: str, cpus: int, mode: str) -> None:
    options, expected = MODES[mode]
    test = load(name)
    litmus, cpu = GUESTS[target].litmus, GUESTS[target].cpu
    result = run(test, litmus, target, cpu, cpus=cpus, iterations=3000, rounds=1000, **options)  # type: ignore[arg-type]
    assert result.decision.mode is expected
    assert result.cpus == cpus
    assert result.counts.total() >= 3000
    assert result.counts.keys() <= allowed_outcomes(test, litmus.models[cpu])


@pytest.mark.alone
@pytest.mark.host("x86_64")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
@pytest.mark.parametrize("target", GUESTS)
def test_the_relaxed_outcome_of_store_buffering_comes(target: str) -> None:
    """Threads do meet: a store waits in one core's buffer while the other core loads."""
    relaxed = (("0:r0", 0), ("1:r0", 0))
    options = MODES["multi"][0]
    litmus, cpu = GUESTS[target].litmus, GUESTS[target].cpu
    assert any(
        run(load("SB"), litmus, target, cpu, cpus=2, iterations=100_000, **options).counts[relaxed]  # type: ignore[arg-type]
        for _ in range(50)
    )


@pytest.mark.host
@pytest.mark.parametrize("mode", MODES)
def test_a_cpu_looks_for_another_one_only_while_that_may_arrive(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spins: set[int] = set()

    def noted(test: LitmusTest, guest: LitmusGuest, where: ThreadLayout) -> bytes:
        spins.add(where.spins)
        return thread_code(test, guest, where)

    monkeypatch.setattr("raddle.litmus.run.thread_code", noted)
    options, expected = MODES[mode]
    run(load("SB"), GUEST, "arm", "cortex-a15", cpus=2, iterations=10, **options)  # type: ignore[arg-type]
    assert spins == {SPINS if expected is Mode.MULTI else SPINS_IN_TURN}


@pytest.mark.host
@pytest.mark.parametrize("target", GUESTS)
def test_last_values_of_locations_and_initial_ones_are_those_of_memory(target: str, tmp_path: Path) -> None:
    text = (
        "Raddle T\n{ x=7; y=5; }\n P0 | P1 ;\n r[] r0 x | r[] r0 y ;\n w[] y 9 | ;\nexists (0:r0=7 /\\ x=7 /\\ y=9)\n"
    )
    (tmp_path / "t.litmus").write_text(text)
    test = load(str(tmp_path / "t.litmus"))
    result = run(test, GUESTS[target].litmus, target, GUESTS[target].cpu, cpus=2, iterations=500, rounds=250)
    assert result.counts == {(("0:r0", 7), ("x", 7), ("y", 9)): 500}


@pytest.mark.host
@pytest.mark.parametrize("target", GUESTS)
@pytest.mark.parametrize(
    "value", [0, 1, 0x7FFF, 0x8000, 0x7FFF_7FFF, 0x7FFF_8000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF]
)
def test_words_have_32_bits(target: str, value: int, tmp_path: Path) -> None:
    """Whatever a guest's registers have: twice 2**31 is 0, for branches too."""
    twice = value * 2 % 2**32
    text = (
        f"Raddle T\n{{ }}\n P0 | P1 ;\n mov r0 {value} | r[] r1 y ;\n mov r1 (add r0 r0) | ;\n b[] r1 END | ;\n"
        f" w[] x 1 | ;\n END: | ;\nexists (0:r0={value} /\\ 0:r1={twice} /\\ x={int(not twice)})\n"
    )
    (tmp_path / "t.litmus").write_text(text)
    test = load(str(tmp_path / "t.litmus"))
    result = run(test, GUESTS[target].litmus, target, GUESTS[target].cpu, cpus=2, iterations=10, rounds=10)
    assert result.counts == {(("0:r0", value), ("0:r1", twice), ("x", int(not twice))): 10}


def with_store(guest: LitmusGuest, store: bytes) -> LitmusGuest:
    """The guest, whose stores in the tests' threads are other code, of the same length."""
    return guest._replace(operations={**guest.operations, "store": lambda s, a, offset: store})


@pytest.mark.host
@pytest.mark.parametrize("mode", MODES)
def test_a_cpu_that_only_takes_exceptions_ends_it(mode: str, capfd: pytest.CaptureFixture[str]) -> None:
    """An undefined instruction, and nothing at the vectors. One line, and no registers."""
    litmus = with_store(GUEST, bytes.fromhex("f000f0e7"))
    with pytest.raises(MachineError, match=r"vCPU \d of a litmus test does nothing any more but take exceptions at pc"):
        run(load("SB"), litmus, "arm", "cortex-a15", cpus=2, iterations=10, **MODES[mode][0])  # type: ignore[arg-type]
    assert capfd.readouterr() == ("", "")


@pytest.mark.host
@pytest.mark.parametrize("mode", MODES)
def test_a_cpu_that_begins_no_other_round_ends_it(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A branch to itself in place of each store: no thread says that it has arrived."""
    monkeypatch.setattr("raddle.litmus.progress.IN_VAIN_NS", 200_000_000)
    monkeypatch.setattr("raddle.litmus.progress.LOOK_SECONDS", 0.05)
    litmus = with_store(GUEST, bytes.fromhex("feffffea"))
    with pytest.raises(
        MachineError, match=r"^vCPU \d of a litmus test makes no progress: it is in round 0 of 5 after 0 s"
    ):
        run(load("SB"), litmus, "arm", "cortex-a15", cpus=2, iterations=5, **MODES[mode][0])  # type: ignore[arg-type]


@pytest.mark.host
def test_a_test_needs_as_many_cpus_as_threads() -> None:
    with pytest.raises(UsageError, match="has 4 threads and needs as many CPUs, but there are 2"):
        run(load("IRIW"), GUEST, "arm", "cortex-a15", cpus=2, iterations=1)


# --- the command


@pytest.mark.host
def test_the_command_shows_outcomes_and_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["litmus", "--target", "arm", "SB", "MP+rel+acq", "--iterations", "1000"]) == 0
    shown = capsys.readouterr().out
    assert "outcome" in shown
    assert [word for word in ("multi", "single", "icount", "armv7") if word not in shown] == []
    assert "armv7 allows it" in shown
    assert "not run: MP+rel+acq (no load_acquire, store_release)" in shown
    assert re.search(r"\n1 test, 1000 iterations in each mode, \d+ a second; forbidden outcomes: 0\n$", shown)


@pytest.mark.host
@pytest.mark.parametrize(
    ("options", "mode"),
    [(["-icount", "shift=0"], "icount"), (["-accel", "tcg,thread=single"], "single"), (["-accel", "tcg"], "multi")],
)
def test_a_mode_that_is_asked_for_is_named(capsys: pytest.CaptureFixture[str], options: list[str], mode: str) -> None:
    assert main(["litmus", "--target", "arm", "SB", "--iterations", "100", *options]) == 0
    assert re.search(rf"\n +outcome +{mode} +armv7\n", capsys.readouterr().out)


@pytest.mark.host
def test_a_forbidden_outcome_ends_it_with_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that allows nothing finds everything forbidden."""
    nothing = GUEST._replace(models={"cortex-a15": Model("armv7", "", "", lambda execution: False)})
    monkeypatch.setattr("raddle_target_arm.litmus.GUEST", nothing)
    assert main(["litmus", "--target", "arm", "SB", "--iterations", "100", "--accel", "tcg,thread=single"]) == 1
    shown = capsys.readouterr().out
    assert "FORBIDDEN" in shown
    assert "forbidden outcomes: 100" in shown


def test_models_run_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["litmus", "SB", "--model", "sc,x86-tso"]) == 0
    shown = capsys.readouterr().out
    assert "  * 0:r0=0 1:r0=0        -  allowed\n" in shown
    assert "sc forbids it" in shown
    assert "x86-tso allows it" in shown
    assert main(["litmus", "--target", "arm", "SB", "--model"]) == 0
    assert "armv7 allows it" in capsys.readouterr().out


def test_the_suite_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["litmus", "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == names()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["SBB"], "unknown litmus test 'SBB'; did you mean SB?"),
        (["./nowhere.litmus"], "cannot read litmus test ./nowhere.litmus: No such file"),
        (["SB", "--model", "power"], "unknown memory model 'power'"),
        (["SB", "--model", "sc,arm"], "unknown memory model 'arm'; did you mean"),
        (["SB", "--iterations", "0"], "--iterations must be a number from 1 to"),
        (["SB", "--iterations", "x" * 5000], "--iterations must be a number from 1 to"),
        (["SB", "-smp", "9"], "-smp must be a number from 2 to 8, not '9'"),
        (["SB", "--target", "z80"], "unknown target plug-in 'z80'"),
        (["SB", "--cpu", "cortex-a99"], "unknown CPU 'cortex-a99'"),
        (["MP+rel+acq"], "none of these tests can run on the arm guest"),
        (["IRIW", "-smp", "2"], "none of these tests can run on the arm guest: IRIW (4 threads)"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["litmus", "--target", "arm", *arguments]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1


def test_an_unknown_test_is_named_and_the_remedy_too(capsys: pytest.CaptureFixture[str]) -> None:
    """The suite has more names than a line has room for."""
    remedy = "(raddle litmus --list shows the suite; the name of a file ends in .litmus or has a slash)\n"
    assert main(["litmus", "NOPE"]) == 2
    assert capsys.readouterr().err == f"raddle: unknown litmus test 'NOPE' {remedy}"
    assert main(["litmus", "NOPE" * 1000]) == 2
    assert capsys.readouterr().err.endswith(remedy)


def test_a_mistake_in_a_file_has_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t.litmus"
    file.write_text("Raddle T\n{ }\n P0 ;\n w[] x ;\nexists (x=1)\n")
    assert main(["litmus", str(file)]) == 2
    assert f"{file}:4:8: expected a register, r0 to r99, not the end" in capsys.readouterr().err
    file.write_bytes(b"\xef\xbb\xbfRaddle T\n")
    assert main(["litmus", str(file)]) == 2
    assert f"{file}:1:1: the file begins with a byte-order mark" in capsys.readouterr().err
    file.write_bytes(b"\xff\xfe")
    assert main(["litmus", str(file)]) == 2
    assert f"{file}:1:1: byte 0xff is not UTF-8" in capsys.readouterr().err
    file.write_bytes("Raddle T\n(* ä \udcff *)".encode("utf-8", "surrogateescape"))
    assert main(["litmus", str(file)]) == 2
    assert f"{file}:2:6: byte 0xff is not UTF-8" in capsys.readouterr().err


def test_a_file_without_end_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["litmus", "/dev/zero"]) == 2
    assert "/dev/zero: a litmus test has at most 65536 characters" in capsys.readouterr().err
