# SPDX-License-Identifier: Apache-2.0
"""Raddle runs on Linux only, and says so in one line where it is started or installed on another system."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BUILD_BACKEND = Path(__file__).parents[2] / "core" / "build_backend"


def on(system: str, module: str, call: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Call something of a module that takes this machine for another system once it is imported."""
    path = f"sys.path.insert(0, {str(BUILD_BACKEND)!r})"
    program = f"import sys; {path}; import {module}; sys.platform = {system!r}; sys.exit({module}.{call}())"
    command = [sys.executable, "-c", program, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_the_command_says_where_it_runs(system: str) -> None:
    done = on(system, "raddle_command", "main", "info")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"raddle: runs on Linux only, not on {system}: a Linux virtual machine will do\n"


@pytest.mark.parametrize("system", ["darwin", "win32"])
@pytest.mark.parametrize("hook", ["get_requires_for_build_wheel", "get_requires_for_build_editable"])
def test_the_first_step_of_a_build_says_where_it_runs(system: str, hook: str) -> None:
    done = on(system, "raddle_build", hook)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"raddle: runs on Linux only, not on {system}: a Linux virtual machine will do\n"
