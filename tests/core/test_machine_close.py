# SPDX-License-Identifier: Apache-2.0
"""What one thread asks of a machine that another one closes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from raddle import Machine
from raddle.errors import MachineError, UsageError
from raddle.machine import peers
from raddle.machine.streams import parse_chardev

pytest.importorskip("raddle.runtime._native", reason="the native runtime is not built")
pytestmark = pytest.mark.host

GUESTS = Path(__file__).parents[1] / "guests/arm/prebuilt"
LIMIT = 240


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.001)


CALLS: dict[str, Callable[[Any, Any], object]] = {
    "remove": lambda engine, hook: hook.remove(),
    "add": lambda engine, hook: engine.observer.add_hook("block", print),
    "around": lambda engine, hook: engine.observer.around(engine.cpus[0]),
    "timer": lambda engine, hook: engine.timer(print),
    "event timer": lambda engine, hook: engine.event_timer(engine.cpus[0]),
    "stats": lambda engine, hook: engine.stats(),
    "info": lambda engine, hook: engine.cpus[0].info(),
    "work": lambda engine, hook: engine.cpus[0].async_run_on_cpu(print),
}
"""What a user may ask of an engine, and of what he got from it, without holding the machine."""


@pytest.mark.parametrize("counted", [True, False], ids=["counted", "control"])
@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_freed_while_a_call_looks_into_the_engine(
    name: str, counted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: who is not counted finds the engine closed, where it had found it open."""
    machine = Machine(kernel=GUESTS / "endless-loop.elf")
    engine: Any = machine.engine
    hook = machine.add_exception_hook(lambda cpu, event: None)
    machine.start()
    use, within, go_on = engine.use, threading.Event(), threading.Event()
    closed: list[bool] = []

    @contextmanager
    def slowly() -> Iterator[None]:
        if within.is_set():  # a use within this one
            yield
            return
        if not counted:
            within.set()
            go_on.wait(LIMIT)
            closed.append(engine.closed)
            raise MachineError("closed")
        with use():
            within.set()
            go_on.wait(LIMIT)
            closed.append(engine.closed)
            yield

    monkeypatch.setattr(engine, "use", slowly)

    def call() -> None:
        with suppress(MachineError):
            CALLS[name](engine, hook)

    caller = threading.Thread(target=call)
    caller.start()
    assert within.wait(LIMIT)
    closer = threading.Thread(target=machine.close)
    closer.start()
    until(lambda: engine._freeing if counted else engine.closed)
    go_on.set()
    closer.join(LIMIT)
    caller.join(LIMIT)
    assert not closer.is_alive()
    assert not caller.is_alive()
    assert closed == [not counted]
    assert engine.closed


def test_many_threads_remove_hooks_while_a_machine_is_closed() -> None:
    for _ in range(10):
        machine = Machine(kernel=GUESTS / "endless-loop.elf", cpus=2)
        machine.start()
        begun = threading.Barrier(4)

        def ask(machine: Machine = machine, begun: threading.Barrier = begun) -> None:
            machine.add_block_hook(lambda cpu, pc: None).remove()
            begun.wait(LIMIT)
            with suppress(MachineError):
                while True:
                    machine.add_block_hook(lambda cpu, pc: None).remove()

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        begun.wait(LIMIT)
        machine.close()
        for thread in threads:
            thread.join(LIMIT)
            assert not thread.is_alive()


@pytest.mark.parametrize("end", [Machine.close, Machine.stop], ids=["close", "stop"])
def test_a_start_that_waits_for_a_peer_ends_with_the_machine(
    end: Callable[[Machine], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = threading.Event()
    monkeypatch.setattr(peers, "notice", lambda text: waiting.set())
    machine = Machine(kernel=GUESTS / "hello.elf", serial="tcp:127.0.0.1:0,server=on,wait=on")
    errors: list[MachineError] = []

    def start() -> None:
        try:
            machine.start()
        except MachineError as error:
            errors.append(error)

    starter = threading.Thread(target=start, daemon=True)
    starter.start()
    assert waiting.wait(LIMIT)
    end(machine)
    starter.join(LIMIT)
    assert not starter.is_alive()
    assert "stopped while it waited for a connection on tcp:127.0.0.1:" in str(*errors)
    machine.close()


def test_a_peer_that_comes_while_its_device_is_closed() -> None:
    """It is seen off, though the wait for it has got as far as letting it in."""
    device = parse_chardev("tcp:127.0.0.1:0,server=on,wait=on")
    assert isinstance(device, peers.SocketDevice)
    listener = device._listener

    class Late:
        """Lets a peer in when the device has been closed meanwhile."""

        def accept(self) -> Any:
            accepted = listener.accept()
            device.close()
            return accepted

        def __getattr__(self, name: str) -> Any:
            return getattr(listener, name)

    with socket.create_connection(listener.getsockname(), LIMIT) as peer:
        device._listener = Late()  # type: ignore[assignment]
        with pytest.raises(MachineError, match="stopped while it waited"):
            device.wait_for_peer()
        assert peer.recv(1) == b""


def test_who_holds_the_machine_is_told_so_and_nobody_else() -> None:
    machine = Machine(kernel=GUESTS / "hello.elf")
    held: list[bool] = []

    def ask() -> None:
        with machine.hold():
            held.append(machine._control.held)
        held.append(machine._control.held)

    with machine.hold():
        other = threading.Thread(target=ask)
        other.start()
        other.join(LIMIT)
        with machine.hold():
            pass
        with pytest.raises(UsageError, match=r"within `with machine\.hold"):
            machine.close()
    assert held == [True, False]
    assert not machine._control.held
    machine.close()
