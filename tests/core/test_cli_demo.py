# SPDX-License-Identifier: Apache-2.0
"""`raddle demo`: reading what the guest prints, and drawing when its vCPUs ran."""

import pytest

from raddle.accel import Decision, Mode
from raddle.cli.demo import Result, Share, _read, strip
from raddle.cli.main import main
from raddle.errors import MachineError

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


def test_cpus_are_limited(capsys):
    assert main(["demo", "-smp", "9"]) == 2
    assert capsys.readouterr().err == "raddle: the demo runs on 1 to 8 CPUs, not 9\n"
