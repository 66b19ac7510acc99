# SPDX-License-Identifier: Apache-2.0
"""Work on a vCPU's own thread: soon, waited for, or while no other vCPU runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from raddle import Machine

pytest.importorskip("raddle.runtime._native", reason="the native runtime is not built")
pytestmark = pytest.mark.host

GUESTS = Path(__file__).parents[1] / "guests/arm/prebuilt"
LIMIT = 240
COUNT_SIZE = 64
"""Bytes; each vCPU counts in its own."""


@pytest.fixture(params=["multi", "single"])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """Two vCPUs that count for ever."""
    accelerator = f"tcg,thread={request.param}"
    with Machine(cpus=2, memory="64M", kernel=GUESTS / "endless-count.elf", accelerator=accelerator) as one:
        one.start()
        one.console.expect("ready", timeout=LIMIT)
        yield one


def in_time(function: Callable[[], object]) -> None:
    """Call it on a thread of its own: what waits for ever is a failure."""
    errors: list[BaseException] = []

    def call() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(LIMIT / 3)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


def test_work_is_done_in_order_on_the_vcpus_own_thread(machine: Machine) -> None:
    for cpu in machine.engine.cpus:
        one: Any = cpu
        done: list[tuple[int, threading.Thread]] = []
        for number in range(20):
            one.async_run_on_cpu(lambda number=number, done=done: done.append((number, threading.current_thread())))
        in_time(lambda one=one, done=done: one.run_on_cpu(lambda: done.append((20, threading.current_thread()))))
        assert done == [(number, one.thread) for number in range(21)]


@pytest.mark.parametrize("state", ["running", "paused", "stopped"])
def test_who_waits_for_work_gets_it_done(machine: Machine, state: str) -> None:
    cpu: Any = machine.cpus[1]
    if state == "paused":
        machine.pause()
    elif state == "stopped":
        machine.stop()
    threads: list[threading.Thread] = []

    def work() -> None:
        threads.append(threading.current_thread())
        raise ValueError("from work")

    with pytest.raises(ValueError, match="from work"):
        in_time(lambda: cpu.run_on_cpu(work))
    assert len(threads) == 1
    assert (threads[0] is cpu.thread) is (state != "stopped")


def test_before_the_start_work_is_done_at_once() -> None:
    with Machine(kernel=GUESTS / "endless-loop.elf") as machine:
        machine.start(paused=True)
        cpu: Any = machine.cpus[0]
        done: list[bool] = []
        cpu.run_on_cpu(lambda: done.append(cpu.thread is None))
        assert done == [True]


def test_a_machine_stays_paused_when_work_has_been_done(machine: Machine) -> None:
    cpu: Any = machine.cpus[0]
    machine.pause()
    before = [one.regs.r0 for one in machine.cpus], machine.engine.clock_ns()
    for _ in range(20):
        in_time(lambda: cpu.run_on_cpu(lambda: None))
    assert ([one.regs.r0 for one in machine.cpus], machine.engine.clock_ns()) == before
    queued = threading.Event()
    cpu.async_run_on_cpu(queued.set)
    machine.resume()
    assert queued.wait(LIMIT)


def test_a_pause_waits_for_work_that_is_being_done(machine: Machine) -> None:
    cpu: Any = machine.cpus[0]
    busy, go_on = threading.Event(), threading.Event()

    def work() -> None:
        busy.set()
        go_on.wait(LIMIT)

    machine.pause()
    waiting = threading.Thread(target=cpu.run_on_cpu, args=(work,), daemon=True)
    waiting.start()
    assert busy.wait(LIMIT)
    machine.resume()
    pausing = threading.Thread(target=machine.pause, daemon=True)
    pausing.start()
    pausing.join(0.2)
    waited = pausing.is_alive()
    go_on.set()
    for thread in (waiting, pausing):
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert waited


def test_work_that_is_waited_for_while_others_pause_and_resume(machine: Machine) -> None:
    over = threading.Event()

    def switch() -> None:
        while not over.is_set():
            machine.pause()
            machine.resume()

    switching = threading.Thread(target=switch, daemon=True)
    switching.start()
    done: list[int] = []
    try:
        for number in range(40):
            cpu: Any = machine.cpus[number % 2]
            in_time(lambda cpu=cpu, number=number: cpu.run_on_cpu(lambda: done.append(number)))
    finally:
        over.set()
        switching.join(LIMIT)
    assert not switching.is_alive()
    assert done == list(range(40))


@pytest.mark.parametrize("safe", [True, False], ids=["safe", "control"])
def test_safe_work_runs_while_no_other_vcpu_does(safe: bool) -> None:
    """The control: beside other work, the other vCPU goes on."""
    moved: list[bool] = []
    done = threading.Event()
    with (GUESTS / "endless-count.elf").open("rb") as file:
        counts = ELFFile(file).get_section_by_name(".symtab").get_symbol_by_name("counts")[0]["st_value"]
    with Machine(cpus=2, kernel=GUESTS / "endless-count.elf", accelerator="tcg,thread=multi") as machine:
        machine.start()
        machine.console.expect("ready", timeout=LIMIT)
        one: Any = machine.cpus[0]

        def work() -> None:
            before = count()
            deadline = time.monotonic() + (0.2 if safe else LIMIT)
            while time.monotonic() < deadline and count() == before:
                time.sleep(0.001)
            moved.append(count() != before)
            done.set()

        def count() -> bytes:
            return bytes(machine.memory[counts + COUNT_SIZE : counts + 2 * COUNT_SIZE])

        (one.async_safe_run_on_cpu if safe else one.async_run_on_cpu)(work)
        assert done.wait(2 * LIMIT)
    assert moved == [not safe]
