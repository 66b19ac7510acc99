# SPDX-License-Identifier: Apache-2.0
"""What machines leave behind in the process that made them, and in one that was forked from it: nothing."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from weakref import ref

import pytest

from raddle import Machine, MachineError, workers
from raddle.machine.chardev import NullDevice
from raddle.machine.machine import State
from raddle.threads import callbacks, process
from raddle.threads.lifecycle import Lifecycle

pytest.importorskip("raddle.runtime._native", reason="the native runtime is not built")
pytestmark = pytest.mark.host

GUESTS = Path(__file__).parents[1] / "guests/arm/prebuilt"
LIMIT = 30


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.001)


# --- memory -----------------------------------------------------------------------------------------------------


@pytest.fixture
def no_search() -> Iterator[None]:
    """Nothing searches for cycles of references."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def plain(machine: Machine) -> None:
    machine.start()
    machine.wait(LIMIT)


def looked_into(machine: Machine) -> None:
    machine.add_block_hook(lambda cpu, pc: machine.state)
    machine.add_memory_hook(lambda *_: machine.state, 0x4000_0000, 0x4000_0004)
    machine.add_exception_hook(lambda *_: None)
    with Path(os.devnull).open("w") as log:
        machine.log(["in_asm", "int", "exec", "mmu"], log)
        machine.profile()
        machine.start(paused=True)
        _ = machine.describe(), machine.stats(), machine.cpus[0].regs.pc, machine.cpus[0].info()
        machine.resume()
        machine.wait(LIMIT)


def paused(machine: Machine) -> None:
    machine.start()
    machine.pause()
    machine.console.send("x")
    machine.request_reset()


def never_started(_: Machine) -> None:
    pass


@pytest.mark.parametrize("life", [plain, looked_into, paused, never_started])
@pytest.mark.parametrize("options", [{}, {"cpus": 2}, {"icount": "shift=3"}], ids=str)
def test_no_cycle_of_references_keeps_a_closed_machine(
    no_search: None, life: Callable[[Machine], None], options: dict[str, Any]
) -> None:
    with Machine(kernel=GUESTS / "hello.elf", **options) as machine:
        engine: Any = machine.engine
        parts = [ref(one) for one in (machine, machine._control, engine, engine.translator, machine.board)]
        parts += [ref(one) for one in (*machine.cpus, machine.memory, engine.callees, engine.observer)]
        del engine
        life(machine)
    del machine
    until(lambda: [part() for part in parts] == [None] * len(parts))


def test_a_machine_that_cannot_be_made_leaves_nothing(no_search: None) -> None:
    class Broken(NullDevice):
        def on_input(self, notify: Callable[[], None]) -> None:
            raise ValueError("no input")

    engines = len(callbacks.ENGINES), len(callbacks.CPUS)
    for _ in range(2):
        with pytest.raises(ValueError, match="no input"):
            Machine(kernel=GUESTS / "hello.elf", serial=Broken())
        assert (len(callbacks.ENGINES), len(callbacks.CPUS)) == engines


MACHINES = """
import gc, sys
from raddle import Machine

gc.disable()

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def use(number):
    for _ in range(number):
        with Machine(kernel=sys.argv[1], cpus=2) as machine:
            machine.start()
            machine.wait(60)

use(10)
before = resident()
use(int(sys.argv[2]))
print(resident() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="/proc says what is resident")
def test_a_process_that_makes_many_machines_does_not_grow() -> None:
    command = [sys.executable, "-c", MACHINES, str(GUESTS / "hello.elf"), "60"]
    grown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=280).stdout
    assert int(grown) < 20 << 20


MANY = """
import os, sys
from raddle import Machine

MODES = [{"cpus": 2}, {"cpus": 2, "accelerator": "tcg,thread=single"}, {"icount": "shift=3"}, {"cpus": 4}]
kernel, number, keeps = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "keep"
kept = []

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def plain(machine):
    machine.start()
    machine.wait(60)

def paused(machine):
    machine.start(paused=True)
    machine.add_block_hook(lambda cpu, pc: None)
    machine.console.send("x")
    machine.cpus[0].regs.r0 = machine.memory[0x4000_0000]

def never_started(machine):
    pass

def use(count):
    for index in range(count):
        with Machine(kernel=kernel, **MODES[index % len(MODES)]) as machine:
            (plain, paused, plain, never_started, plain)[index % 5](machine)
        if keeps:
            kept.append(machine)

use(10)
before = resident()
use(number - 10)
print(resident() - before)
"""
MOST_GROWTH = 20 << 20


@pytest.mark.stress
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="/proc says what is resident")
@pytest.mark.parametrize("keeps", [False, True], ids=["", "control"])
def test_hundreds_of_machines_in_all_modes_take_no_more_memory_than_ten(keeps: bool) -> None:
    """The control keeps each machine, closed as it is. With RADDLE_MACHINES=1000 there are so many."""
    number = os.environ.get("RADDLE_MACHINES", "500")
    command = [sys.executable, "-c", MANY, str(GUESTS / "hello.elf"), number, "keep" if keeps else ""]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert (grown > MOST_GROWTH) is keeps, f"{grown >> 10} KiB more"


# --- settings ---------------------------------------------------------------------------------------------------


def settings() -> tuple[float, tuple[int, int, int]]:
    return sys.getswitchinterval(), gc.get_threshold()


def test_the_process_has_its_settings_again_when_the_last_machine_has_ended() -> None:
    before = settings()
    with Machine(kernel=GUESTS / "endless-loop.elf") as one, Machine(kernel=GUESTS / "endless-loop.elf") as other:
        assert settings() == before
        one.start()
        assert sys.getswitchinterval() == pytest.approx(process.SWITCH_INTERVAL)
        assert gc.get_threshold()[0] == process.GC_THRESHOLD
        other.start()
        one.stop()
        assert settings() != before
        other.stop()
        until(lambda: settings() == before)


def test_the_settings_come_back_though_no_thread_has_begun_before_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    body = Lifecycle._thread

    def late(engine: Lifecycle, *arguments: Any) -> None:
        until(lambda: engine._stopping)
        body(engine, *arguments)

    monkeypatch.setattr(Lifecycle, "_thread", late)
    before = settings()
    with Machine(kernel=GUESTS / "endless-loop.elf") as machine:
        machine.start()
        machine.stop()
        until(lambda: settings() == before)


def test_what_somebody_else_sets_meanwhile_stays() -> None:
    before = settings()
    with Machine(kernel=GUESTS / "endless-loop.elf") as machine:
        machine.start()
        gc.set_threshold(123)
    assert gc.get_threshold()[0] == 123
    gc.set_threshold(*before[1])
    assert settings() == before


# --- dropped machines -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pause", [False, True], ids=["running", "paused"])
def test_a_machine_that_is_dropped_while_it_runs_warns_and_ends(pause: bool) -> None:
    machine = Machine(kernel=GUESTS / "endless-loop.elf", cpus=2)
    machine.start(paused=pause)
    control = machine._control
    with pytest.warns(ResourceWarning, match="dropped"):
        del machine
    assert control.finished.wait(LIMIT)
    until(lambda: control.engine.closed)  # type: ignore[attr-defined]


@pytest.mark.parametrize("start", [False, True], ids=["ready", "stopped"])
def test_a_machine_that_is_dropped_before_or_after_ends_in_silence(start: bool) -> None:
    machine = Machine(kernel=GUESTS / "hello.elf")
    if start:
        machine.start()
        machine.wait(LIMIT)
    control = machine._control
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del machine
    until(lambda: control.engine.closed)  # type: ignore[attr-defined]


# --- children ---------------------------------------------------------------------------------------------------


def in_child(function: Callable[[], None]) -> int:
    """The exit status of a child that is forked, and does this: 0, or 1 when it fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about forking where there are threads
        child = os.fork()
    if not child:
        status = 1
        try:
            function()
            status = 0
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(status)
    deadline = time.monotonic() + LIMIT
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            return -9
        time.sleep(0.001)


def busy(machine: Any) -> list[Any]:
    """All locks that a thread may have had when the child was forked."""
    control, condition, hooks = machine._control, machine.engine._condition, machine._control.instruments.hooks
    return [control._lock, control._holders_changed, condition, hooks._lock, machine.console._changed]


def test_closing_the_parents_machine_in_a_child_returns() -> None:
    taken, go_on = threading.Event(), threading.Event()

    def take() -> None:
        for lock in busy(machine):
            lock.acquire()
        taken.set()
        go_on.wait(LIMIT)
        for lock in busy(machine):
            lock.release()

    def child() -> None:
        with machine:
            pass
        machine.stop()
        machine.request_stop()
        machine.close()
        closed.close()
        for question in (
            machine.start,
            machine.pause,
            machine.resume,
            machine.wait,
            machine.request_reset,
            machine.describe,
            machine.stats,
            machine.hold,
            lambda: machine.cpus,
            lambda: machine.memory,
            lambda: machine.add_block_hook(print),
        ):
            with pytest.raises(MachineError, match="forked"):
                question()
        hook.remove()
        machine.console.send("x")
        assert machine.console.read() is not None
        with Machine(kernel=GUESTS / "hello.elf") as another:
            another.start()
            another.wait(LIMIT)

    with Machine(kernel=GUESTS / "hello.elf") as closed:
        pass
    with Machine(kernel=GUESTS / "endless-loop.elf", cpus=2) as machine:
        hook = machine.add_exception_hook(print)
        machine.start()
        holder = workers.Thread(take, "holder")
        holder.start()
        assert taken.wait(LIMIT)
        status = in_child(child)
        go_on.set()
        holder.join(LIMIT)
        assert status == 0
        assert machine.state is State.RUNNING
        machine.pause()
        machine.resume()
