# SPDX-License-Identifier: Apache-2.0
"""Timers of virtual time: the end of time never comes, and one that sets itself again for ever holds nobody up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raddle import Machine
from raddle.machine.clock import END_OF_TIME

lib = pytest.importorskip("raddle.runtime._native", reason="the native runtime is not built").lib
pytestmark = pytest.mark.host

GUESTS = Path(__file__).parents[1] / "guests/arm/prebuilt"
LIMIT = 20
MODES = [
    pytest.param({"accelerator": "tcg,thread=multi"}, id="multi"),
    pytest.param({"accelerator": "tcg,thread=single"}, id="single"),
    pytest.param({"icount": "shift=2"}, id="icount"),
]


def in_time(function: Callable[[], object]) -> None:
    """Have a thread do it that this test outlives."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(LIMIT)
    assert not thread.is_alive(), "it hangs"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "it never comes"
        time.sleep(0.001)


@pytest.mark.parametrize("deadline", [END_OF_TIME, END_OF_TIME + 1, 1 << 70])
def test_the_end_of_time_never_comes(deadline: int) -> None:
    """All CPUs sleep, so that counted time goes to the next deadline, if there is one."""
    machine = Machine(kernel=GUESTS / "endless-sleep.elf", icount="shift=2")
    calls: list[int] = []
    soon = threading.Event()
    machine.engine.timer(lambda: calls.append(machine.engine.clock_ns())).set(deadline)
    machine.engine.timer(soon.set).set(1_000_000)
    machine.start()
    assert soon.wait(LIMIT)
    in_time(machine.close)
    assert not calls


@pytest.mark.parametrize("guest", ["endless-sleep", "endless-loop"])
@pytest.mark.parametrize("deadline", [0, END_OF_TIME - 1], ids=["past", "last"])
@pytest.mark.parametrize("mode", MODES)
def test_a_timer_that_sets_itself_again_holds_nobody_up(mode: dict[str, str], deadline: int, guest: str) -> None:
    """Another timer comes, the machine can be paused, resumed and closed, and the guest goes on."""
    machine = Machine(kernel=GUESTS / f"{guest}.elf", **mode)  # type: ignore[arg-type]
    rounds, soon, ran = threading.Event(), threading.Event(), threading.Event()

    def again() -> None:
        rounds.set()
        timer.set(deadline)

    timer = machine.engine.timer(again)
    timer.set(0)
    machine.engine.timer(soon.set).set(1_000_000)
    machine.start()
    assert rounds.wait(LIMIT)
    assert soon.wait(LIMIT)
    in_time(machine.pause)
    if guest == "endless-loop":
        machine.add_block_hook(lambda *_: ran.set())
        in_time(machine.resume)
        assert ran.wait(LIMIT)
    in_time(machine.close)


@pytest.mark.parametrize("mode", MODES[:2])
def test_a_timer_has_its_deadline_until_its_function_is_called(mode: dict[str, str]) -> None:
    """Also while that waits for the big lock, which it never does with counted instructions."""
    machine = Machine(kernel=GUESTS / "endless-loop.elf", **mode)  # type: ignore[arg-type]
    engine, called = machine.engine, threading.Event()
    timer = engine.timer(called.set)
    assert timer.save() is None
    for deadline in (3_600_000_000_000, None, END_OF_TIME):
        timer.restore(deadline)
        assert timer.save() == (deadline if deadline != END_OF_TIME else None)
    machine.start()
    with engine.big_lock:
        timer.set(1_000_000)
        wait_until(lambda: lib.raddle_timer_next(engine.context) != 1_000_000)
        assert timer.save() == 1_000_000
        assert not called.is_set()
    assert called.wait(LIMIT)
    assert timer.save() is None
    in_time(machine.close)
