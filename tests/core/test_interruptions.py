# SPDX-License-Identifier: Apache-2.0
"""An exception from a signal's handler, at each bytecode of each call of the API: nothing is left taken or half done.

The exception is raised by a trace function, at one bytecode after the other, so nothing depends on when a signal comes.
"""

from __future__ import annotations

import _thread
import io
import operator
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.core.interruptions import everywhere

from raddle import Machine, UsageError, workers
from raddle.machine.chardev import CharDevice, ExpectTimeout, MemoryConsole
from raddle.machine.machine import State

pytest.importorskip("raddle.runtime._native", reason="the native runtime is not built")
pytestmark = pytest.mark.host

GUESTS = Path(__file__).parents[1] / "guests/arm/prebuilt"
ENDLESS = GUESTS / "endless-loop.elf"
ASLEEP = GUESTS / "endless-sleep.elf"
"""vCPUs that ran would take the cores from the thread that is interrupted, whose bytecodes are the same."""
LIMIT = 30
GRACE = 0.5
"""Seconds after which something is taken for lost."""
AT_THE_RETURN = 16
"""Bytecodes at which a call has its result and has not returned it yet."""
RAM = 0x4000_0000


def soon(function: Callable[[], object]) -> None:
    """Have another thread do it, which must not wait for ever."""
    errors: list[BaseException] = []

    def do() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    thread.join(LIMIT)
    assert not thread.is_alive(), "something was left taken"
    if errors:
        raise errors[0]


def soon_true(condition: Callable[[], bool]) -> bool:
    """Whether it is, or comes to be before it is taken for lost."""
    deadline = time.monotonic() + GRACE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)
    return condition()


def take_all(machine: Any) -> None:
    """Take all locks that a machine has, one after the other; those that a worker still has are waited for."""
    control, engine, console = machine._control, machine.engine, machine.consoles[0]
    hooks = control.instruments.hooks
    locks = (control._lock, control._holders_changed, engine._condition, hooks._lock, hooks._applying)

    def take() -> None:
        for lock in (*locks, console._changed, engine.big_lock, engine.exclusive()):
            with lock:
                pass
        with control._holders_changed:
            assert control._holders_changed.wait_for(lambda: control._holders == 0, LIMIT)

    thread = workers.Thread(take, "locks")
    thread.start()
    thread.join(LIMIT)
    assert not thread.is_alive(), "a lock or a hold was left taken"


def put_word(machine: Machine) -> None:
    machine.memory[RAM + 0x10_0000 : RAM + 0x10_0004] = b"\x01\x02\x03\x04"


def remove_hook(machine: Machine) -> None:
    machine.add_exception_hook(lambda *_: None).remove()


def hold(machine: Machine) -> None:
    with machine.hold():
        _ = machine.cpus[0].regs.pc


def expect_nothing(machine: Machine) -> None:
    with suppress(ExpectTimeout):
        machine.console.expect("never", timeout=0)


def wait_a_moment(machine: Machine) -> None:
    with suppress(TimeoutError):
        machine.wait(0.0)


CALLS: dict[str, Callable[[Any], object]] = {
    "add_block_hook": lambda machine: machine.add_block_hook(lambda *_: None, 16, 20),
    "add_exception_hook": lambda machine: machine.add_exception_hook(lambda *_: None),
    "add_memory_hook": lambda machine: machine.add_memory_hook(lambda *_: None, RAM, RAM + 4),
    "async_run_on_cpu": lambda machine: machine.cpus[0].async_run_on_cpu(lambda: None),
    "clear memory": lambda machine: machine.memory.clear(RAM + 0x10_0000, 4),
    "describe": lambda machine: machine.describe(),
    "engine.pause": lambda machine: (machine.engine.pause(), machine.engine.resume()),
    "expect": expect_nothing,
    "hold": hold,
    "info": lambda machine: machine.cpus[0].info(),
    "log": lambda machine: machine.log(["int"], io.StringIO()),
    "pause and resume": lambda machine: (machine.pause(), machine.resume()),
    "read memory": lambda machine: machine.memory[RAM : RAM + 4],
    "read": lambda machine: machine.console.read(),
    "register": lambda machine: machine.cpus[0].regs.r5,
    "write a register": lambda machine: machine.cpus[0].__setitem__("r5", 1),
    "remove a hook": remove_hook,
    "request_reset": lambda machine: machine.request_reset(),
    "run_on_cpu": lambda machine: machine.cpus[0].run_on_cpu(lambda: None),
    "send": lambda machine: machine.console.send("x"),
    "stats": lambda machine: machine.stats(),
    "text": lambda machine: machine.console.text,
    "wait": wait_a_moment,
    "write memory": put_word,
}


@pytest.fixture(scope="module")
def running() -> Iterator[Machine]:
    with Machine(kernel=ASLEEP, cpus=2) as machine:
        machine.start()
        machine.console.expect("ready", timeout=LIMIT)
        yield machine


@pytest.mark.parametrize("name", CALLS)
def test_a_running_machine(running: Any, name: str) -> None:
    call, count, hooks, left = CALLS[name], 0, running.engine.observer.hooks, []

    def go_on() -> None:
        with suppress(UsageError):  # it is being reset
            running.resume()
        for hook in hooks._hooks:
            hook.remove()

    for where in everywhere(lambda: call(running), go_on):
        count += 1
        take_all(running)
        if name.startswith("add_") and not soon_true(lambda: not hooks._hooks):
            left.append(where)
        soon(lambda: call(running))
    assert count > 3
    assert len(left) <= AT_THE_RETURN, f"hooks that nobody can remove: {left}"
    go_on()
    assert running.state is State.RUNNING


def close_and_try_another(machine: Machine) -> None:
    soon(machine.close)
    assert machine.state is State.STOPPED
    assert machine.engine.closed  # type: ignore[attr-defined]


def enter_and_leave(machine: Machine) -> None:
    with machine:
        machine.start()


LIVES: dict[str, tuple[bool, Callable[[Machine], object]]] = {
    "start": (False, Machine.start),
    "start paused": (False, lambda machine: machine.start(paused=True)),
    "stop": (True, Machine.stop),
    "close": (True, Machine.close),
    "request_stop": (True, Machine.request_stop),
    "fail": (True, lambda machine: machine.fail(ValueError("it failed"))),
    "with": (False, enter_and_leave),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LIVES)
def test_a_machines_life(name: str) -> None:
    started, call = LIVES[name]
    machines: list[Machine] = []

    def prepare() -> None:
        machines.append(Machine(kernel=ENDLESS))
        if started:
            machines[-1].start()

    for _ in everywhere(lambda: call(machines[-1]), prepare, coarse=True):
        close_and_try_another(machines.pop())
    close_and_try_another(machines.pop())


@pytest.mark.slow
def test_the_making_of_a_machine() -> None:
    """One that nobody got is closed: nothing of it is left."""
    devices: list[CharDevice] = []

    class Device(CharDevice):
        def __init__(self) -> None:
            super().__init__()
            devices.append(self)

    from raddle.threads import callbacks

    before = len(callbacks.ENGINES)
    made: list[Machine] = []
    for _ in everywhere(lambda: made.append(Machine(kernel=ENDLESS, serial=Device()))):
        assert not made
    made.pop().close()
    for device in devices:
        if device.on_failure is not None:  # its machine was built
            assert device._ended.wait(LIMIT)
    deadline = time.monotonic() + LIMIT
    while len(callbacks.ENGINES) > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(callbacks.ENGINES) == before


@pytest.mark.parametrize("how", ["read", "expect"])
def test_output_that_nobody_got_can_be_read_again(how: str) -> None:
    console, whole = MemoryConsole(), "all there is"
    lost: list[str] = []

    def unread() -> str:
        return console._unread.get()

    def read() -> str:
        return console.read() if how == "read" else console.expect(whole).string

    def prepare() -> None:
        console._unread.set(whole)

    for where in everywhere(read, prepare):
        if not soon_true(lambda: unread() == whole):
            lost.append(where)
    # What is left to do then is to return it.
    assert all(f".{how}" in where or where.startswith("call") for where in lost)
    assert len(lost) <= AT_THE_RETURN
    assert unread() == ""


def test_control_a_lock_that_a_users_thread_takes_is_left() -> None:
    """Without a worker, an exception at some bytecode leaves the lock taken."""
    device = CharDevice()
    feed = CharDevice.feed.__wrapped__  # type: ignore[attr-defined]

    def is_free() -> bool:
        taker = threading.Thread(target=lambda: device.take(1), daemon=True)
        taker.start()
        taker.join(GRACE)
        return not taker.is_alive()

    assert not all(is_free() for _ in everywhere(lambda: feed(device, b"x", wait=False)))


def test_a_signal_that_comes_just_before_the_wait_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python has looked for signals and acquires the lock: no bytecode is between that and the signal."""
    seen, latch, late = threading.Event(), workers.Latch(), []
    allocate = _thread.allocate_lock

    class Lock:
        def __init__(self) -> None:
            self.lock = allocate()
            self.release = self.lock.release

        def acquire(self, timeout: float | None = None) -> bool:
            if timeout is None:
                return self.lock.acquire()
            first = () if seen.is_set() else (partial(_thread.interrupt_main, signal.SIGUSR1),)
            return bool(list(map(operator.call, (*first, partial(self.lock.acquire, True, timeout))))[-1])

    def give_up() -> None:
        late.append(not seen.wait(LIMIT))
        latch.set()

    monkeypatch.setattr(_thread, "allocate_lock", Lock)
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.set())
    try:
        threading.Thread(target=give_up, daemon=True).start()
        assert latch.wait()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert late == [False]


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()], ids=repr)
def test_work_is_done_though_no_second_thread_is_to_be_had(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The first worker is started by a thread that does the work itself where it cannot."""
    start = _thread.start_new_thread

    def refuse(function: Callable[..., object], arguments: tuple[object, ...]) -> int:
        if function.__name__ == "_serve":
            raise error
        return start(function, arguments)

    done: list[bool] = []
    monkeypatch.setattr(workers, "_pool", workers._Pool())
    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    for _ in range(3):
        soon(lambda: done.append(workers.call(workers.own)))
    assert done == [True] * 3
