# SPDX-License-Identifier: Apache-2.0
"""The tiny guest's order of memory, which x86-64 does not keep by itself: barriers are there, and they are needed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from tests.plugins.tiny import TINY, Environment

pytestmark = [pytest.mark.alone, pytest.mark.host("x86_64")]  # each CPU wants a core


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """The guest's sources on the path: test_tiny.py installs its wheel, which makes no difference here."""
    information = tmp_path / "raddle_target_tiny-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: raddle-target-tiny\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[raddle]\ntarget.tiny = raddle_target_tiny.plugin\n")
    path = os.pathsep.join((str(TINY / "src"), str(tmp_path)))
    return Environment(tmp_path, (sys.executable,), {**os.environ, "PYTHONPATH": path})


def test_barriers_keep_a_store_before_a_later_load(environment: Environment) -> None:
    assert environment.run("store_buffer", 2, "tcg,order=fenced")["console"] == "0"


def test_without_barriers_the_store_is_seen_late(environment: Environment) -> None:
    """The control: where the host's own order is all there is, the program does see what it must not.

    Both CPUs must have a core at once for that, for which it may have to wait on a busy machine.
    """
    assert any(environment.run("store_buffer", 2, "tcg,thread=multi")["console"] == "+" for _ in range(30))


def test_litmus_tests_run_on_the_guest(environment: Environment) -> None:
    """With barriers it shows only what its architecture allows; without, as a control, the host's store buffers."""
    litmus = ("-m", "raddle.cli.main", "litmus", "SB", "--target", "tiny")
    done = environment(*litmus, "--iterations", "100000")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    done = environment(*litmus, "--iterations", "100000", "--accel", "tcg,thread=multi,order=native")
    assert done.returncode == 1, done.stdout
    assert "FORBIDDEN" in done.stdout
