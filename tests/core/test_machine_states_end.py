# SPDX-License-Identifier: Apache-2.0
"""How a machine ends: whoever asks for it, wherever it is asked, and whatever fails on the way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raddle import Machine, workers
from raddle.errors import MachineError, UsageError
from raddle.machine.chardev import NullDevice
from raddle.machine.machine import State

pytest.importorskip("raddle.runtime._native", reason="the native runtime is not built")
pytestmark = pytest.mark.host

GUESTS = Path(__file__).parents[1] / "guests/arm/prebuilt"
LIMIT = 240

REQUESTS: dict[str, Callable[[Machine], object]] = {
    "request_stop": Machine.request_stop,
    "request_reset": Machine.request_reset,
    "fail": lambda machine: machine.fail(ValueError("it failed")),
    "pause": Machine.pause,
}


def call_inside(machine: Machine, where: str, function: Callable[[], object]) -> Callable[[], None]:
    """Have `function` called once by a hook, or under the big lock by a timer, when the machine runs and what this
    gives has been called.
    """
    if where == "hook":
        wanted = threading.Event()

        def hook(*_: object) -> None:
            if wanted.is_set():
                wanted.clear()
                function()

        machine.add_block_hook(hook)
        return wanted.set
    timer: Any = machine.engine.timer(function)
    return lambda: timer.set(0)


@pytest.mark.parametrize("request_", list(REQUESTS))
@pytest.mark.parametrize("where", ["hook", "timer"])
def test_nobody_who_is_waited_for_waits_for_the_machines_lock(
    where: str, request_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who pauses a machine has the lock while it waits for the vCPUs, and for the big lock."""
    asked = threading.Event()

    def ask() -> None:
        asked.set()
        REQUESTS[request_](machine)

    machine = Machine(kernel=GUESTS / "endless-loop.elf")
    begin = call_inside(machine, where, ask)

    def start_and_pause() -> None:
        with machine._control._lock:
            machine.start()
            begin()
            assert asked.wait(LIMIT)
            machine.pause()

    with monkeypatch.context() as patched:
        patched.setattr(machine._control, "_watch", lambda: None)  # the start is not over yet
        starter = workers.Thread(start_and_pause, "starter")  # whose lock it is
        starter.start()
        starter.join(LIMIT / 3)
        assert not starter.is_alive()
    machine._control._watch()
    machine.close()
    assert machine.state is State.STOPPED


@pytest.mark.parametrize("request_", ["request_stop", "fail"])
@pytest.mark.parametrize("when", ["before", "meanwhile", "after"])
def test_a_machine_that_has_not_run_yet_ends(when: str, request_: str) -> None:
    machine = Machine(kernel=GUESTS / "endless-loop.elf", serial="null")
    device: Any = machine.consoles[0]
    if when == "before":
        REQUESTS[request_](machine)
    elif when == "meanwhile":
        device.start = lambda: REQUESTS[request_](machine)
    machine.start(paused=True)
    if when == "after":
        REQUESTS[request_](machine)
    try:
        assert machine.wait(LIMIT / 3) == 0
        assert request_ == "request_stop"
    except ValueError:
        assert request_ == "fail"
    machine.close()


@pytest.mark.parametrize("where", ["hook", "timer"])
@pytest.mark.parametrize("name", ["start", "resume", "stop", "wait", "close"])
def test_who_is_waited_for_cannot_wait(name: str, where: str) -> None:
    errors: list[UsageError] = []

    def ask() -> None:
        try:
            getattr(machine, name)()
        except UsageError as error:
            errors.append(error)
        machine.request_stop()

    machine = Machine(kernel=GUESTS / "endless-loop.elf")
    begin = call_inside(machine, where, ask)
    machine.start()
    begin()
    assert machine.wait(LIMIT / 3) == 0
    machine.close()
    assert len(errors) == 1
    assert "request_stop" in str(errors[0])
    assert "\n" not in str(errors[0])


def test_a_timer_of_a_counted_machine_leaves_no_trace_on_its_thread() -> None:
    """Which calls timers there and may have, when it has ended, the number of a thread that comes after."""
    with Machine(kernel=GUESTS / "hello.elf", icount="shift=3") as machine:
        engine: Any = machine.engine
        fired: list[bool] = []
        engine.timer(lambda: fired.append(engine.big_lock.held)).set(1000)
        machine.start()
        assert machine.wait(LIMIT) == 0
        assert fired == [True]
        assert engine.big_lock.timer_thread == 0


class Broken(NullDevice):
    def close(self) -> None:
        super().close()
        raise OSError("it does not close")


class Orderly(NullDevice):
    closed = False

    def close(self) -> None:
        super().close()
        self.closed = True


@pytest.mark.parametrize("failed", [True, False], ids=["failed", "in order"])
def test_a_device_that_fails_to_close(failed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(kernel=GUESTS / "hello.elf", serial=Broken())
    orderly = Orderly()
    monkeypatch.setattr(machine._control, "consoles", (*machine.consoles, orderly))

    def fail(*_: object) -> None:
        raise ValueError("it failed")

    if failed:
        machine.add_block_hook(fail)
    machine.start()
    with pytest.raises(ValueError if failed else OSError, match="it failed" if failed else "it does not close"):
        machine.wait(LIMIT / 3)
    machine.close()
    assert orderly.closed


def test_a_device_that_fails_to_close_after_the_machine_could_not_be_made() -> None:
    with pytest.raises(UsageError, match="no-such"):
        Machine(kernel=GUESTS / "no-such.elf", serial=Broken())


@pytest.mark.parametrize("paused", [False, True], ids=["running", "paused"])
def test_a_reset_that_fails_ends_the_machine(
    paused: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ValueError("it failed")

    machine = Machine(kernel=GUESTS / "endless-loop.elf", cpus=2)
    machine.start(paused=paused)
    monkeypatch.setattr(machine.board, "reset", fail)
    machine.request_reset()
    with pytest.raises(ValueError, match="it failed"):
        machine.wait(LIMIT / 3)
    machine.close()
    assert capfd.readouterr() == ("", "")


def refuse(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """There is no room for a thread of this name."""
    start = threading.Thread.start

    def start_others(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_others)


def test_a_reset_without_a_free_thread_is_an_error_and_the_next_one_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    with Machine(kernel=GUESTS / "endless-loop.elf") as machine:
        machine.start()
        reset = machine.board.reset

        def reset_and_tell() -> None:
            reset()
            done.set()

        monkeypatch.setattr(machine.board, "reset", reset_and_tell)
        with monkeypatch.context() as full:
            refuse(full, "raddle-reset")
            for _ in range(2):
                with pytest.raises(MachineError, match="cannot start the thread that resets the machine"):
                    machine.request_reset()
        assert not done.is_set()
        machine.request_reset()
        assert done.wait(LIMIT / 3)


@pytest.mark.parametrize("where", ["hook", "timer"])
def test_a_pause_without_a_free_thread_is_an_error_and_nothing_stands(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, bool]] = []
    asked = threading.Event()
    with Machine(kernel=GUESTS / "endless-loop.elf") as machine:
        engine: Any = machine.engine

        def pause() -> None:
            try:
                machine.pause()
            except MachineError as error:
                seen.append((str(error), engine.paused))
            asked.set()

        call = call_inside(machine, where, pause)
        machine.start()
        with monkeypatch.context() as full:
            refuse(full, "raddle-pause")
            call()
            assert asked.wait(LIMIT / 3)
        assert seen == [("cannot start the thread that waits until all vCPUs stand: can't start new thread", False)]
        machine.pause()
        assert machine.state is State.PAUSED
        machine.resume()
