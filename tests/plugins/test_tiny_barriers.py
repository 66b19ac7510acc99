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
    LDW r3, r1, 16
    LDW r4, r1, 20
    LDW r6, r1, 24
    LDW r7, r1, 28
    LDW r3, r1, 32
    ADDI r8, r1, 20
    ADDI r11, r1, 21
    {last}
    MOVI r9, 0
    MOVHI r9, 0xF000
    STW r0, r9, 4
off:
    JAL r10, off
"""
LAST = 0x1034
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
    """Of the two loads after the first store, and the six after the second one, the first ones have to wait."""
    done = environment("-c", RUN, SOURCE.format(last="LDW r7, r8, 0"))
    assert done.returncode == 0, done.stderr
    status, barriers = done.stdout.splitlines()
    assert (status, json.loads(barriers)) == ("0", [8, 6])


@pytest.mark.parametrize("last", ["LDW r7, r8, 1", "FETCHADD r7, r11, r1"])
def test_an_exception_behind_them_has_its_address(environment: Environment, last: str) -> None:
    """The runtime is called from the cold part; for the atomic operation, on x86-64, from the hot part."""
    done = environment("-c", RUN, SOURCE.format(last=last))
    assert done.returncode == 1
    assert f"misaligned access to 0x10015 (pc {LAST:#x})" in done.stderr
