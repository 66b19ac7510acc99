# SPDX-License-Identifier: Apache-2.0
"""`raddle demo`: reading what the guest prints, drawing when its vCPUs ran, and its picture."""

import contextlib
import io
import threading
from pathlib import Path

import pytest

from raddle.accel import Decision, Mode
from raddle.cli import cores, demo
from raddle.cli.demo import Result, Share, _read, host_text, strip
from raddle.cli.main import main
from raddle.errors import MachineError
from raddle.machine.machine import Machine

GUESTS = ("alpha", "arm")
PICTURE = Path(__file__).resolve().parents[1] / "guests" / "arm" / "recorded" / "demo.txt"

OUTPUT = """\
..:-=+*#%@ |0
   x  y    |1
DEMO-CPU 0 rows=1 first=0 last=0 ticks=1000
DEMO-CPU 1 rows=1 first=1 last=1 ticks=2000
DEMO-CPU 2 rows=0 first=-1 last=-1 ticks=5
DEMO-TIME cpus=3 ticks=31250000 frequency=62500000
DEMO-OK crc=a9725eb5
"""


@pytest.fixture
def result():
    return Result(Decision(Mode.MULTI, ("why",)))


def test_output_is_taken_apart(result):
    _read(OUTPUT.replace("\n", "\r\n"), result)
    assert result.picture == [("..:-=+*#%@", 0), ("   x  y   ", 1)]
    assert result.shares == {0: Share(1, 0, 0, 1000), 1: Share(1, 1, 1, 2000), 2: Share(0, -1, -1, 5)}
    assert (result.drawing_seconds, result.frequency) == (0.5, 62_500_000)
    assert result.verdict == "DEMO-OK crc=a9725eb5"


def test_a_guest_that_is_not_content_is_an_error(result):
    with pytest.raises(MachineError, match="reports: row 3 differs"):
        _read("DEMO-FAIL row 3 differs\n", result)


def test_a_guest_that_says_nothing_is_an_error(result):
    with pytest.raises(MachineError, match="without a verdict; it printed 'oops'"):
        _read("oops", result)


@pytest.mark.parametrize(
    ("states", "width", "drawn"),
    [
        (["off", "running", "halted", "off"], 60, " █· "),
        (["halted", "running", "halted", "halted", "off", "off"], 3, "█· "),
        (["running"] * 1000, 10, "█" * 10),
        (["strange"], 10, " "),
        ([], 10, ""),
    ],
)
def test_strips(states, width, drawn):
    assert strip(states, width) == drawn


def test_a_guest_without_a_demo_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(demo, "_demo", lambda target: None)
    assert main(["demo", "--target", "arm"]) == 2
    assert capsys.readouterr().err == "raddle: guest arm has no demo\n"


@pytest.mark.parametrize(("guest", "most"), [("alpha", 4), ("arm", 8)])
def test_cpus_are_limited(guest, most, capsys):
    assert main(["demo", "--target", guest, "-smp", f"{most + 1}"]) == 2
    assert capsys.readouterr().err == f"raddle: the demo runs on 1 to {most} CPUs, not {most + 1}\n"


def test_several_guests_have_one(capsys):
    assert main(["demo"]) == 2
    assert capsys.readouterr().err == "raddle: several guests have a demo; say which: --target alpha|arm\n"


@pytest.mark.parametrize(
    ("threads", "gains", "said"),
    [
        (1, [1.0], "With one core for all threads"),
        (2, [1.99, 1.9, 2.01], "got 1.99, 1.90, 2.01 times as much done as one. So they had 2 cores to themselves."),
        (
            2,
            [1.99, 0.87, 2.0],
            "got 1.99, 0.87, 2.00 times as much done as one. On free cores it would be 2: something",
        ),
    ],
)
def test_what_the_host_gave_is_told(threads, gains, said):
    assert said in host_text(threads, gains)


def test_threads_that_share_what_there_is_gain_nothing(monkeypatch):
    """A host of one core: work takes its turns, and time goes on by what is done."""
    now, lock = [0.0], threading.Lock()

    def work():
        with lock:
            now[0] += 1

    monkeypatch.setattr(cores, "_work", work)
    monkeypatch.setattr(cores.time, "monotonic", lambda: now[0])
    assert cores.gain(4) == 1


def test_threads_that_have_a_core_each_gain_their_number(monkeypatch):
    """Each of them works at the same time: the clock stands at what one has done when all have begun."""
    now, together = [0.0], threading.Barrier(3)

    def work():
        if threading.current_thread() is not threading.main_thread() and together.wait(240):
            return
        now[0] += 1

    monkeypatch.setattr(cores, "_work", work)
    monkeypatch.setattr(cores.time, "monotonic", lambda: now[0])
    assert cores.gain(3) == 3


@pytest.fixture(scope="module", params=GUESTS)
def shown(request) -> tuple[str, list[int]]:
    """What the demo shows, and for how many threads it has measured the host."""
    measured: list[int] = []
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as output:
        patch.setenv("COLUMNS", "80")
        patch.setattr(demo.cores, "gain", lambda threads: measured.append(threads) or 0.87)
        patch.setattr(demo.cores, "count", lambda: 2)
        assert main(["demo", "--target", request.param, "-smp", "3"]) == 0
    return output.getvalue(), measured


@pytest.mark.host
@pytest.mark.slow
def test_the_host_is_measured_beside_the_runs(shown):
    output, measured = shown
    assert measured == [2, 2, 2]
    assert "got 0.87, 0.87, 0.87 times as much" in " ".join(output.split())


@pytest.mark.host
@pytest.mark.slow
def test_the_picture_is_the_same_on_every_host(shown):
    picture = PICTURE.read_text().splitlines()
    lines = shown[0].splitlines()
    assert [line[: len(row)] for line, row in zip(lines, picture, strict=False)] == picture
    assert lines[len(picture)] == "DEMO-OK crc=a9725eb5, checked by the guest"


@pytest.mark.host
@pytest.mark.slow
@pytest.mark.parametrize("guest", GUESTS)
def test_all_cpus_draw_with_counted_instructions(guest):
    target, kernel = demo._find_guest(guest)
    result = Result(Decision(Mode.SINGLE, ("why",)))
    with Machine(cpus=4, memory="64M", kernel=kernel, icount="shift=2", target=target.name) as machine:
        machine.start()
        assert machine.wait(240) == 0
        _read(machine.console.text, result)
    rows = [row.rstrip() for row in PICTURE.read_text().splitlines()]
    assert [dots.rstrip() for dots, _cpu in result.picture] == rows
    assert result.verdict == "DEMO-OK crc=a9725eb5"
    assert {cpu for _dots, cpu in result.picture} == {0, 1, 2, 3}
