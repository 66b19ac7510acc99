# SPDX-License-Identifier: Apache-2.0
"""Ticks of the interval timer need no Python: the clock chip's timer runs a routine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import patience

from raddle import Machine, MachineError
from raddle.devices import mc146818
from raddle.ir.builder import routine
from raddle_target_alpha import tsunami

pytestmark = pytest.mark.host

PREBUILT = Path(__file__).parents[2] / "guests/alpha/prebuilt"
LIMIT = patience.seconds(20)
CPUS = 2
TICKS = 300
C = 12


def made(mode: str) -> Machine[Any]:
    return Machine("alpha/clipper", cpus=CPUS, memory="64M", kernel=PREBUILT / "ticks.elf", accelerator=mode)


@pytest.fixture(params=["tcg,thread=multi", "tcg,thread=single"])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine[Any]]:
    with made(request.param) as one:
        one.profile()
        one.start()
        yield one


def ticks(machine: Machine[Any]) -> int:
    return sum(cpu["count_exception"] for cpu in machine.cpus)


def calls(machine: Machine[Any]) -> int:
    """Into Python, except for translation."""
    paths: Any = machine.stats()["paths"]
    return sum(sum(path["calls"]) for path in paths if path["kind"] != "translation")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "it never comes"
        time.sleep(0.001)


def after(machine: Machine[Any], count: int) -> int:
    """The calls into Python when so many ticks have come."""
    wanted = ticks(machine) + count
    wait_until(lambda: ticks(machine) >= wanted)
    return calls(machine)


def flags(machine: Machine[Any], new: int | None = None) -> int:
    rtc = machine.board.rtc  # type: ignore[attr-defined]
    with machine.engine.big_lock:
        old: int = rtc.cmos[C]
        if new is not None:
            rtc.cmos[C] = new
    return old


def test_ticks_need_no_python(machine: Machine[Any]) -> None:
    wait_until(lambda: bool(flags(machine)))
    before = after(machine, 20 * CPUS)
    assert after(machine, TICKS * CPUS) == before


def test_a_tick_that_changes_the_line_is_told_to_python_once(machine: Machine[Any]) -> None:
    """The control: as if the guest had read register C."""
    wait_until(lambda: bool(flags(machine)))
    before = after(machine, 20 * CPUS)
    for number in range(1, 4):
        flags(machine, 0)
        assert after(machine, 20 * CPUS) == before + number
        assert flags(machine) == mc146818.C_PERIODIC


def test_the_routine_of_such_a_timer_calls_no_python() -> None:
    with made("tcg") as machine:
        ports = f"I/O {tsunami.PCI_IO:#x}"
        for name, message in (
            ("interrupt", "routine 'interrupt' calls Python,"),
            (ports, f"routine '{ports}' calls Python,"),
            ("nobodys", "the routine 'nobodys', which does not exist"),
        ):
            with pytest.raises(MachineError, match=message):
                machine.engine.native_timer(name)
        callees = machine.engine.callees
        callees._routines["outer"] = lambda b: b.call(routine("interrupt"))  # type: ignore[assignment,return-value]
        with pytest.raises(MachineError, match="routine 'outer' calls Python by routine 'interrupt',"):
            callees.require_native("outer")
