# SPDX-License-Identifier: Apache-2.0
"""Timers of virtual time: the end of time never comes, and one that sets itself again for ever holds nobody up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from raddle import Machine
from raddle.machine.clock import END_OF_TIME

pytest.importorskip("raddle.runtime._native", reason="the native runtime is not built")
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
