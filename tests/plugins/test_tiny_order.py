# SPDX-License-Identifier: Apache-2.0
"""The tiny guest's order of memory, which x86-64 does not keep by itself: barriers are there, and they are needed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.plugins.tiny import Environment, with_sources

pytestmark = [pytest.mark.alone, pytest.mark.host("x86_64")]  # each CPU wants a core


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return with_sources(tmp_path)


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
