# SPDX-License-Identifier: Apache-2.0
"""The pytest plug-in: the `guest` fixture, its modes, and what it says about a guest that failed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HELLO = Path(__file__).parents[1] / "guests" / "arm" / "prebuilt" / "hello-smp.elf"

pytestmark = pytest.mark.host

TESTS = f"""
import pytest

seen = []

@pytest.mark.guest_modes("multi", "single", "icount")
def test_every_mode(guest):
    machine = guest("virt", cpus=2, kernel={str(HELLO)!r})
    assert machine.wait(240) == 0
    seen.append((guest.mode, machine.accel.mode.value))

def test_the_default_mode(guest):
    assert guest.mode == "default"
    machine = guest("virt", kernel={str(HELLO)!r}, start=False)
    assert machine.state.value == "ready"

def test_machines_are_closed():
    assert seen == [("multi", "multi"), ("single", "single"), ("icount", "single")]

def test_that_fails(guest):
    machine = guest("virt", cpus=2, kernel={str(HELLO)!r})
    machine.wait(240)
    assert False
"""

BAD_MARKER = """
import pytest

@pytest.mark.guest_modes("fast")
def test_mode(guest):
    pass
"""


def run(directory: Path, tests: str) -> tuple[int, str]:
    (directory / "test_guest.py").write_text(tests)
    (directory / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    # By name and without the entry point: the tree's plug-in, whether or not the installed one knows it.
    options = ["-p", "no:raddle", "-p", "raddle.testing.plugin"]
    command = [sys.executable, "-m", "pytest", *options]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=280, check=False)
    return done.returncode, done.stdout


def test_modes_and_report(tmp_path: Path) -> None:
    status, output = run(tmp_path, TESTS)
    assert status == 1, output
    assert "1 failed, 5 passed" in output
    assert "console of machine 0, multi" in output
    assert "hello" in output.partition("console of machine 0")[2].lower()


def test_an_unknown_mode_is_refused(tmp_path: Path) -> None:
    status, output = run(tmp_path, BAD_MARKER)
    assert status == 2, output
    assert "guest_modes takes some of default, multi, single, icount, not fast" in output
