# SPDX-License-Identifier: Apache-2.0
"""A program of the tiny guest whose loads have barriers, most of which are left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.plugins.tiny import Environment, with_sources

SOURCE = """
    MOVI r1, 0
    MOVHI r1, 1
    STW r2, r1, 0
    LDW r3, r1, 4
    LDW r4, r1, 8
    STW r5, r1, 12
    LDW r6, r1, 16
    LDW r7, r1, {offset}
    MOVI r9, 0
    MOVHI r9, 0xF000
    STW r0, r9, 4
off:
    JAL r10, off
"""
"""Its last load is misaligned, or it turns itself off."""
LAST_LOAD = 0x101C
RUN = """
import json, sys
import raddle
from raddle_target_tiny.assembler import assemble

with open("program.bin", "wb") as file:
    file.write(assemble(sys.argv[1]))
with raddle.Machine("desk", memory="1M", kernel="program.bin", accelerator="tcg,order=fenced") as machine:
    machine.start()
    print(machine.wait(240))
    (cpu,) = machine.stats()["cpus"]
    print(json.dumps([cpu["barriers"], cpu["barriers_left_out"]]))
"""


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return with_sources(tmp_path)


def test_barriers_are_counted(environment: Environment) -> None:
    """Of the four loads, the second and the fourth have nothing to wait for."""
    done = environment("-c", RUN, SOURCE.format(offset=20))
    assert done.returncode == 0, done.stderr
    status, barriers = done.stdout.splitlines()
    assert (status, json.loads(barriers)) == ("0", [4, 2])


def test_an_exception_behind_them_has_its_address(environment: Environment) -> None:
    done = environment("-c", RUN, SOURCE.format(offset=19))
    assert done.returncode == 1
    assert f"misaligned access to 0x10013 (pc {LAST_LOAD:#x})" in done.stderr
