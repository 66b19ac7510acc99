# SPDX-License-Identifier: Apache-2.0
"""The command is started as `raddle` or as `python -m raddle`, and tells a user how to start it again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from raddle.cli import commands

STARTS = {
    "raddle": [str(Path(sys.executable).with_name("raddle"))],
    "python -m raddle": [sys.executable, "-m", "raddle"],
}


@pytest.mark.parametrize("name", STARTS)
def test_the_command_knows_how_it_was_started(name: str) -> None:
    def run(*words: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [*STARTS[name], *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, check=False
        )
        return done.returncode, done.stdout, done.stderr

    assert run("--help")[1].startswith(f"usage: {name} [-h]")
    assert run("info", "--help")[1].startswith(f"usage: {name} info [-h]")
    assert run("boot", "--help")[1].startswith(f"usage: {name} boot [OPTION]")
    assert run("info", "-x") == (2, "", f"raddle: option '-x' is not supported (see {name} info --help)\n")
    assert run("-x") == (2, "", f"raddle: option '-x' is not supported before a command (see {name} --help)\n")
    status, said, errors = run("info")
    assert (status, errors) == (0, "")
    assert said.startswith("raddle ")


def test_a_program_that_calls_the_command_is_not_named_as_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `python -m pytest` does."""
    monkeypatch.setattr(sys, "argv", ["/lib/pytest/__main__.py", "test_info.py"])
    assert commands.program() == "raddle"
