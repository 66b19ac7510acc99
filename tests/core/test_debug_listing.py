# SPDX-License-Identifier: Apache-2.0
"""The code around a vCPU's pc, in what the machine says of itself."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest

from raddle import Machine

pytestmark = pytest.mark.host

GUESTS = Path(__file__).parents[1] / "guests/arm/prebuilt"
LINE = re.compile(r"(=>|  ) 0x([0-9a-f]{8}): ((?:[0-9a-f]{4}){1,2}) +(\S.*)")
LIMIT = 240


def listed(guest: str, ready: Callable[[Machine], bool]) -> tuple[int, list[str]]:
    """The pc and the lines of a guest that is paused when it is `ready`."""
    with Machine(kernel=GUESTS / f"{guest}.elf") as machine:
        machine.start()
        deadline = time.monotonic() + LIMIT
        while not ready(machine):
            assert time.monotonic() < deadline, "it does not happen"
            time.sleep(0.01)
        assert "=>" not in machine.describe()
        machine.pause()
        return code_of(machine)


def code_of(machine: Machine) -> tuple[int, list[str]]:
    """The pc of a paused machine, and the lines around it."""
    lines = machine.describe().splitlines()
    return machine.cpus[0].regs.pc, [line for line in lines if "0x" in line[:5]]


def counter(machine: Machine, name: str) -> int:
    value = machine.cpus[0].info()[name]
    assert isinstance(value, int)
    return value


def loops(machine: Machine) -> bool:
    """Whether the guest has come to a branch to itself."""
    machine.pause()
    pc = machine.cpus[0].regs.pc
    word = machine.memory[pc : pc + 4]
    machine.resume()
    return bool(word == b"\xfe\xff\xff\xea")


def test_around_a_loop() -> None:
    pc, lines = listed("endless-loop", loops)
    rows = [LINE.fullmatch(line) for line in lines]
    assert [row and int(row[2], 16) for row in rows] == [pc + 4 * n for n in range(-4, 4)]
    assert [row and row[1] for row in rows] == ["  "] * 4 + ["=>"] + ["  "] * 3
    assert rows[4] is not None
    assert rows[4][4] == f"b #{pc:#x}"


def test_thumb_instructions_follow_each_other_up_to_the_pc() -> None:
    blocks = count(1)
    stands = threading.Event()

    def hold_at_50(cpu: object, pc: int) -> None:
        if next(blocks) == 50:
            stands.set()
            deadline = time.monotonic() + LIMIT
            while not engine.paused and time.monotonic() < deadline:
                time.sleep(0.001)

    with Machine(kernel=GUESTS / "crc32-thumb.elf") as machine:  # it ends by itself: it is held until it is paused
        engine: Any = machine.engine
        machine.add_block_hook(hold_at_50)
        machine.start()
        assert stands.wait(LIMIT)
        machine.pause()
        pc, lines = code_of(machine)
    rows = [LINE.fullmatch(line) for line in lines]
    places = [(int(row[2], 16), len(row[3]) // 2) for row in rows if row]
    assert len(places) == len(rows) >= 5
    assert all(at + size == following for (at, size), (following, _) in pairwise(places))
    assert [row[2] for row in rows if row and row[1] == "=>"] == [f"{pc:08x}"]


def test_a_pc_that_has_gone_astray() -> None:
    pc, lines = listed("stray-pc", lambda machine: counter(machine, "count_exception") > 10)
    assert lines == [f"=> {pc:#010x}: there is no memory"]
