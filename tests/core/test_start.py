# SPDX-License-Identifier: Apache-2.0
"""What a start costs: a boot imports nothing that it does not use, and looks for no garbage."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

GUEST = Path(__file__).parents[1] / "guests/arm/prebuilt/hello.elf"

UNUSED = {"argparse", "capstone", "cffi", "elftools", "importlib.metadata", "logging", "pycparser", "rich", "socket"}
"""Each of these takes a hundredth of a start or more to import."""

PROGRAM = """
import atexit, gc, json, sys
from raddle_command import main
atexit.register(lambda: print(json.dumps([gc.get_threshold()[0], gc.get_freeze_count(), sorted(sys.modules)])))
sys.exit(main())
"""


@pytest.mark.host
def test_a_boot_imports_only_what_it_uses_and_searches_for_no_garbage() -> None:
    command = [sys.executable, "-c", PROGRAM, "boot", "-kernel", str(GUEST), "-nographic"]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=240, check=True)
    threshold, frozen, modules = json.loads(result.stdout.splitlines()[-1])
    assert UNUSED.isdisjoint(modules)
    assert threshold >= 1_000_000
    assert frozen > 0
