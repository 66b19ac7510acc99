# SPDX-License-Identifier: Apache-2.0
"""What a machine answers before it runs, and after it is closed."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from raddle import Machine, workers
from raddle.errors import MachineError, UsageError
from raddle.machine.control import Control
from raddle.machine.machine import State

pytest.importorskip("raddle.runtime._native", reason="the native runtime is not built")
pytestmark = pytest.mark.host

GUESTS = Path(__file__).parents[1] / "guests/arm/prebuilt"
LIMIT = 240


def until_states(machine: Machine, *wanted: str) -> None:
    """Wait until the CPUs are in these states, in their order."""
    deadline = time.monotonic() + LIMIT
    while (states := tuple(cpu.info()["state"] for cpu in machine.cpus)) != wanted:
        assert time.monotonic() < deadline, states
        time.sleep(0.001)


def affinities(machine: Machine) -> list[set[int]]:
    return [os.sched_getaffinity(cpu.info()["thread"]) for cpu in machine.cpus]  # type: ignore[arg-type]


@pytest.mark.parametrize("when", ["ready", "paused", "running"])
def test_spread_gives_each_thread_a_core_of_its_own(when: str) -> None:
    cores = sorted(os.sched_getaffinity(0))
    with Machine(kernel=GUESTS / "endless-loop.elf", cpus=3) as machine:
        if when != "ready":
            machine.start(paused=when == "paused")
        machine.spread()
        if when == "ready":
            machine.start()
        machine.resume()
        expected = [{cores[number % len(cores)]} for number in range(3)]
        deadline = time.monotonic() + LIMIT
        while affinities(machine) != expected:
            assert time.monotonic() < deadline, affinities(machine)
        machine.stop()
        machine.spread()


def test_spread_leaves_one_thread_for_all_vcpus_where_it_is() -> None:
    with Machine(kernel=GUESTS / "endless-loop.elf", cpus=3, accelerator="tcg,thread=single") as machine:
        machine.spread()
        machine.start()
        machine.spread()
        assert affinities(machine) == [os.sched_getaffinity(0)] * 3


UART = 0x0900_0000


def test_a_closed_machine_says_so() -> None:
    with Machine(kernel=GUESTS / "hello.elf") as machine:
        cpu: Any = machine.cpus[0]
        machine.start()
        machine.wait(LIMIT)
    for question in (
        machine.describe,
        machine.stats,
        machine.profile,
        lambda: machine.hook("block", print),
        lambda: machine.log(["int"], sys.stderr),
        lambda: machine.cpus[0].regs.pc,
        lambda: machine.cpus[0]["r0"],
        lambda: machine.memory[0x4000_0000],
    ):
        with pytest.raises(MachineError, match="the machine is closed"):
            question()
    for question in (
        lambda: cpu.regs.pc,
        lambda: cpu["r0"],
        lambda: cpu.regs.__setattr__("r0", 1),
        lambda: cpu.pc,
        cpu.info,
    ):
        with pytest.raises(MachineError, match="the machine is closed"):
            question()
    with pytest.raises(MachineError, match="closed"), machine.hold():
        pass
    with pytest.raises(MachineError, match="closed"):
        machine.engine.clock_ns()
    machine.request_stop()
    machine.close()


@pytest.mark.parametrize("held", [True, False], ids=["held", "control"])
def test_close_waits_for_who_holds_the_machine(held: bool) -> None:
    """The control: without `hold` the machine is closed at once, with a question about it under way."""
    machine = Machine(kernel=GUESTS / "endless-loop.elf")
    machine.start()
    asking, answer, closing, alive = (threading.Event() for _ in range(4))

    def ask() -> None:
        with machine.hold() if held else nullcontext():
            asking.set()
            answer.wait(LIMIT)
            if not machine.engine.closed:
                alive.set()

    def close() -> None:
        closing.set()
        machine.close()

    threads = [threading.Thread(target=one) for one in (ask, close)]
    threads[0].start()
    assert asking.wait(LIMIT)
    threads[1].start()
    assert closing.wait(LIMIT)
    threads[1].join(0.5 if held else LIMIT)
    assert threads[1].is_alive() is held
    answer.set()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert alive.is_set() is held


def ask_until_closed(machine: Machine, asked: threading.Barrier, errors: list[BaseException]) -> None:
    try:
        machine.stats()
        asked.wait(LIMIT)
        while True:
            machine.stats()
            machine.describe()
            with machine.hold():
                _ = machine.cpus[0].regs.pc, machine.memory[0x4000_0000]
    except BaseException as error:
        errors.append(error)


def test_many_threads_ask_while_a_machine_is_closed() -> None:
    for _ in range(10):
        machine = Machine(kernel=GUESTS / "endless-loop.elf", cpus=2)
        machine.start()
        errors: list[BaseException] = []
        asked = threading.Barrier(4)
        threads = [threading.Thread(target=ask_until_closed, args=(machine, asked, errors)) for _ in range(3)]
        for thread in threads:
            thread.start()
        asked.wait(LIMIT)
        machine.close()
        for thread in threads:
            thread.join(LIMIT)
        assert [(type(error), "is closed" in str(error)) for error in errors] == [(MachineError, True)] * 3


def test_typing_on_a_machine_that_is_being_closed_is_no_error() -> None:
    """Closing waits for a port that is being told."""
    telling, go_on = threading.Event(), threading.Event()
    errors: list[BaseException] = []
    machine = Machine(kernel=GUESTS / "endless-loop.elf")
    console: Any = machine.console
    notify = console._notify

    def slowly() -> None:
        telling.set()
        go_on.wait(LIMIT)
        notify()

    def send() -> None:
        try:
            console.send("x")
        except BaseException as error:
            errors.append(error)

    console.on_input(slowly)
    machine.start()
    threads = [threading.Thread(target=send), threading.Thread(target=machine.close)]
    threads[0].start()
    assert telling.wait(LIMIT)
    threads[1].start()
    threads[1].join(0.3)
    waited = threads[1].is_alive()
    go_on.set()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert (errors, waited) == ([], True)
    console.send("nobody reads this")


def test_many_threads_type_while_a_machine_is_closed() -> None:
    errors: list[BaseException] = []

    def type_on(machine: Machine, closed: threading.Event) -> None:
        try:
            while not closed.is_set():
                machine.console.send("x")
        except BaseException as error:
            errors.append(error)

    for _ in range(5):
        machine, closed = Machine(kernel=GUESTS / "endless-loop.elf"), threading.Event()
        machine.start()
        threads = [threading.Thread(target=type_on, args=(machine, closed)) for _ in range(3)]
        for thread in threads:
            thread.start()
        machine.close()
        closed.set()
        for thread in threads:
            thread.join(LIMIT)
            assert not thread.is_alive()
    assert not errors


def test_a_hook_may_ask_while_the_machine_is_closed() -> None:
    """Closing waits for the vCPU, which is in a hook that asks: neither waits for ever."""
    machine = Machine(kernel=GUESTS / "endless-loop.elf")
    asked = threading.Event()

    def hook(cpu: object, pc: int) -> None:
        asked.set()
        machine.stats()

    machine.hook("block", hook)
    machine.start()
    assert asked.wait(LIMIT)
    closer = threading.Thread(target=machine.close)
    closer.start()
    closer.join(LIMIT)
    assert not closer.is_alive()


def test_what_is_set_before_the_first_instruction_stays() -> None:
    with Machine(kernel=GUESTS / "endless-loop.elf") as machine:
        machine.start(paused=True)
        entry = machine.cpus[0].regs.pc
        assert entry >= 0x4000_0000
        machine.cpus[0].regs.r5 = 0x1234
        machine.cpus[0].regs.pc = 0x4800_0000 - 8  # nothing there: it takes exceptions for ever
        seen: list[int] = []
        machine.hook("block", lambda cpu, pc: seen.append(cpu.regs.r5))
        machine.resume()
        machine.pause()
        while not seen:
            machine.resume()
            machine.pause()
        assert set(seen) == {0x1234}


@pytest.mark.parametrize("pc", [0x4000_0FFE, 0x47FF_FFFE])
def test_a_misaligned_pc_at_the_end_of_a_page_is_a_fault(pc: int) -> None:
    with Machine(kernel=GUESTS / "endless-loop.elf", memory="128M") as machine:
        taken: list[object] = []
        machine.hook("exception", lambda cpu, event: taken.append(event))
        machine.start(paused=True)
        machine.cpus[0].regs.pc = pc
        machine.resume()
        machine.pause()
        while not taken:
            machine.resume()
            machine.pause()


@pytest.mark.parametrize("line", ["\udcff", b"quiet", "a\0b"])
def test_a_command_line_that_is_no_text(line: str) -> None:
    with pytest.raises(UsageError, match="command line"):
        Machine(kernel=GUESTS / "hello.elf", append=line)


def rearm_for_ever(machine: Machine) -> None:
    def again() -> None:
        timer.set(machine.engine.clock_ns() + 20_000)

    timer = machine.engine.timer(again)
    machine.start()
    timer.set(0)


def test_timers_that_fire_while_a_machine_is_closed(capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(5):
        with Machine(kernel=GUESTS / "endless-loop.elf") as machine:
            rearm_for_ever(machine)
    assert not capfd.readouterr().err


@pytest.mark.parametrize("name", ["vCPU 0", "vCPU 1", "raddle-machine"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_start_that_fails_leaves_nothing_behind(
    name: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread is there or not when its start fails: what interrupts it may come after either."""
    begin = threading.Thread.start

    for begun in (False, True):

        def start(thread: threading.Thread, begun: bool = begun) -> None:
            if thread.name != name or begun:
                begin(thread)
            if thread.name == name:
                raise error("no more threads")

        with monkeypatch.context() as patched, Machine(cpus=2, kernel=GUESTS / "endless-loop.elf") as machine:
            patched.setattr(threading.Thread, "start", start)
            with pytest.raises(MachineError if error is RuntimeError else error):
                machine.start()
        for thread in threading.enumerate():
            if thread.name.startswith(("vCPU", "raddle-machine")):
                thread.join(LIMIT)
                assert not thread.is_alive()


def test_a_closed_engine_says_so() -> None:
    with Machine(kernel=GUESTS / "hello.elf") as machine:
        engine: Any = machine.engine
        timer = engine.timer(print)
    for question in (engine.stats, engine.pause, engine.clock_ns, lambda: engine.timer(print), timer.cancel):
        with pytest.raises(MachineError, match="the machine is closed"):
            question()
    for manager in (engine.exclusive(), engine.big_lock):
        with pytest.raises(MachineError, match="the machine is closed"), manager:
            pass


def test_an_engine_at_the_address_of_one_that_is_being_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may build one as soon as the memory is free."""
    module: Any = import_module("raddle.threads.lifecycle")
    lib, callbacks = module.lib, module.callbacks
    other: Any = object()

    class Lib:
        def __getattr__(self, name: str) -> Any:
            return getattr(lib, name)

        def raddle_context_free(self, freed: Any) -> None:
            lib.raddle_context_free(freed)
            callbacks.ENGINES[context] = other
            callbacks.CPUS.update((env, other) for env in envs)

    with Machine(cpus=2, kernel=GUESTS / "hello.elf") as machine:
        engine: Any = machine.engine
        context = callbacks.address(engine.context)
        envs = [callbacks.address(cpu.env) for cpu in engine.cpus]
        monkeypatch.setattr(module, "lib", Lib())
    assert callbacks.ENGINES.pop(context) is other
    assert [callbacks.CPUS.pop(env) for env in envs] == [other, other]


def test_a_pause_that_somebody_takes_back_before_all_stand() -> None:
    busy, go_on = threading.Event(), threading.Event()

    def hold_up(cpu: Any, pc: int) -> None:
        busy.set()
        go_on.wait(LIMIT)

    with Machine(kernel=GUESTS / "endless-loop.elf") as machine:
        engine: Any = machine.engine
        machine.add_block_hook(hold_up)
        machine.start()
        assert busy.wait(LIMIT)
        pausing = threading.Thread(target=engine.pause, daemon=True)
        pausing.start()
        while not engine.paused:
            time.sleep(0.001)
        engine.resume()
        go_on.set()
        pausing.join(240)
        assert not pausing.is_alive()


def test_nothing_goes_on_while_a_paused_machine_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    with Machine(kernel=GUESTS / "endless-loop.elf") as machine:
        engine: Any = machine.engine
        around, resumed, before = engine.observer.around, threading.Event(), []

        def resume() -> None:
            machine.resume()
            resumed.set()

        def slowly(cpu: Any) -> list[str]:
            threading.Thread(target=resume).start()
            before.append(resumed.wait(0.3))
            return list(around(cpu))

        monkeypatch.setattr(engine.observer, "around", slowly)
        machine.start(paused=True)
        assert "=>" in machine.describe()
        assert resumed.wait(LIMIT)
        assert "=>" not in machine.describe()
    assert before == [False]


def test_no_hook_takes_effect_while_a_paused_machine_is_described() -> None:
    """Adding it frees the list of watched pages, which filling a TLB looks at."""
    with Machine(kernel=GUESTS / "endless-loop.elf") as machine:
        engine: Any = machine.engine
        added, adding, before = threading.Event(), [], []

        def add() -> None:
            machine.add_memory_hook(lambda *_: None, UART, UART + 4)
            added.set()

        def filled(*_: object) -> None:
            if not adding:
                adding.append(threading.Thread(target=add, daemon=True))
                adding[0].start()
                before.append(added.wait(0.3))

        engine.observer.hooks.add_fill(filled)
        machine.start(paused=True)
        assert "=>" in machine.describe()
        assert added.wait(LIMIT)
    assert before == [False]


@pytest.mark.parametrize("icount", [None, "shift=3"], ids=["clock", "counted"])
def test_virtual_time_stands_until_the_first_instruction(icount: str | None) -> None:
    with Machine(kernel=GUESTS / "endless-loop.elf", icount=icount) as machine:
        clock = machine.engine.clock_ns
        assert clock() == 0
        machine.start(paused=True)
        assert clock() == 0
        machine.resume()
        deadline = time.monotonic() + LIMIT
        while not clock() and time.monotonic() < deadline:
            time.sleep(0.001)
        machine.pause()
        stands_at = clock()
        assert stands_at > 0
        assert clock() == stands_at


def test_a_reset_waits_for_who_holds_the_big_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Input comes on threads of its own, which know no pause: it must not find devices that are half reset."""
    with Machine(kernel=GUESTS / "endless-loop.elf") as machine:
        board, engine, held = machine.board, machine.engine, []
        reset = board.reset

        def look() -> None:
            held.append(engine.big_lock.held)
            reset()

        monkeypatch.setattr(board, "reset", look)
        machine.start()
        machine.request_reset()
        deadline = time.monotonic() + LIMIT
        while len(held) < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
    assert held == [True, True]


def test_no_cpu_runs_on_after_a_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first CPU is kept from starting the others again."""
    with Machine(kernel=GUESTS / "idle.elf", cpus=4) as machine:
        board = machine.board
        reset = board.reset

        def reset_and_stand() -> None:
            reset()
            board.cpus[0].power_off()

        machine.start()
        until_states(machine, *["halted"] * 4)
        monkeypatch.setattr(board, "reset", reset_and_stand)
        machine.request_reset()
        until_states(machine, *["off"] * 4)


def test_a_paused_machine_is_reset_and_stays_paused() -> None:
    with Machine(kernel=GUESTS / "idle.elf", cpus=2) as machine:
        machine.start(paused=True)
        entry = machine.cpus[0].pc
        machine.resume()
        until_states(machine, "halted", "halted")
        machine.pause()
        machine.request_reset()
        until_states(machine, "running", "off")
        assert machine.state is State.PAUSED
        assert machine.cpus[0].pc == entry
        machine.resume()
        assert machine.wait(LIMIT) == 0


def test_a_reset_that_a_pause_overtakes_is_not_lost() -> None:
    """The guest asks for it, so that all its CPUs stand; somebody else is pausing the machine already."""
    with Machine(kernel=GUESTS / "endless-loop.elf") as machine:
        board, engine, asked = machine.board, machine.engine, threading.Event()

        def ask(*_: object) -> None:
            if not asked.is_set():
                asked.set()
                while not engine.paused:
                    time.sleep(0.001)
                board.system_reset()

        machine.hook("block", ask)
        machine.start()
        assert asked.wait(LIMIT)
        machine.pause()
        for thread in threading.enumerate():
            if thread.name == "raddle-reset":  # or it might come only after the pause
                thread.join(LIMIT)
        machine.resume()
        machine.cpus[0].run_on_cpu(lambda: None)  # so that it has done what was queued: to stand, and to start
        assert machine.cpus[0].info()["state"] == "running"


def test_a_pause_that_comes_too_late_leaves_nothing_behind() -> None:
    """A timer's callback asks for it while the machine is paused already."""
    with Machine(kernel=GUESTS / "endless-loop.elf") as machine:
        machine.start()
        machine.pause()
        with machine.engine.big_lock:
            machine.pause()
        machine.resume()
        assert not machine.engine.paused
        machine._control._reset()
        assert (machine.state, machine.engine.paused) == (State.RUNNING, False)


def test_describing_a_machine_runs_no_hook_of_its_tlb() -> None:
    """It looks at memory by the vCPU's TLB, on another thread, in an exclusive section, which a hook may want, too."""
    seen: list[str] = []
    with Machine(kernel=GUESTS / "endless-loop.elf") as machine:
        machine.start()
        machine.pause()
        machine.engine.observer.hooks.add_fill(lambda *_: seen.append(threading.current_thread().name))
        machine.engine.flush_tlb(machine.cpus[0])
        assert "=>" in machine.describe()
        assert seen == []


def test_work_that_is_waited_for_is_done_though_a_resume_and_a_pause_come_first() -> None:
    with Machine(kernel=GUESTS / "endless-loop.elf") as machine:
        engine, cpu = machine.engine, machine.cpus[0]
        stand, left, go, first = engine._stand, threading.Event(), threading.Event(), []

        def stand_and_wait(own: Any) -> bool:
            again = stand(own)
            if not again and not first:
                first.append(True)
                left.set()
                go.wait(LIMIT)
            return again

        machine.start()
        engine._stand = stand_and_wait
        machine.pause()

        def wake_and_resume() -> None:
            with engine._condition:  # the vCPU looks only when both have come: the work, and the end of the pause
                engine.wake(cpu)
                machine.resume()

        workers.call(wake_and_resume)  # locks are a worker's
        assert left.wait(LIMIT)
        done = threading.Event()
        cpu.async_run_on_cpu(done.set)
        pauses = threading.Thread(target=machine.pause)
        pauses.start()
        while not engine.paused:
            time.sleep(0.001)
        go.set()
        pauses.join(LIMIT)
        assert done.wait(LIMIT)


class Meeting(list[Any]):
    """A list to which another thread adds, if it can, while this one does."""

    def __init__(self, values: list[Any], add: Callable[[], object]) -> None:
        super().__init__(values)
        self.others = [threading.Thread(target=add)]

    def append(self, value: Any) -> None:
        super().append(value)
        if self.others:
            other = self.others.pop()
            other.start()
            other.join(0.3)


def test_two_threads_add_a_function() -> None:
    with Machine(kernel=GUESTS / "hello.elf") as machine:
        engine: Any = machine.engine
        callees, numbers = engine.callees, []

        def add() -> None:
            numbers.append(callees.add_python(print, 0))

        callees.python = Meeting(callees.python, add)
        add()
        while len(numbers) < 2:
            time.sleep(0.001)
    assert len(set(numbers)) == 2


def test_two_threads_make_a_timer() -> None:
    fired: set[str] = set()
    with Machine(kernel=GUESTS / "endless-loop.elf") as machine:
        engine: Any = machine.engine
        timers = []

        def add(name: str) -> None:
            timers.append(engine.timer(lambda: fired.add(name)))

        new = engine._new_timer

        def new_timer(*arguments: Any) -> int:
            engine._new_timer = new
            other.start()
            other.join(0.3)
            return int(new(*arguments))

        other = threading.Thread(target=add, args=("other",))
        engine._new_timer = new_timer
        add("one")
        other.join(LIMIT)
        machine.start()
        for timer in timers:
            timer.set(0)
        deadline = time.monotonic() + 240
        while len(fired) < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
    assert fired == {"one", "other"}


def test_several_threads_do_what_a_vcpu_that_has_ended_was_told() -> None:
    class Queue(deque[Any]):
        """Another thread takes what is there just after it has been seen."""

        def __bool__(self) -> bool:
            seen = len(self) > 0
            self.clear()
            return seen

    with Machine(kernel=GUESTS / "hello.elf") as machine:
        cpu: Any = machine.cpus[0]
        cpu._work = Queue([lambda: None])
        cpu.drain()
        assert not cpu._work


def test_stores_beside_an_instruction_that_crosses_pages() -> None:
    """They do not hold its translation up, which might last as long as another vCPU stores. One that takes ten
    milliseconds, on a busy host, is late, and begins anew.
    """
    assert any(raced_translations() == 0 for _ in range(20))


def raced_translations() -> int:
    """How often the translation of such an instruction began anew."""
    second = 0x4000_9000
    with Machine(kernel=GUESTS / "endless-loop.elf") as machine:
        engine: Any = machine.engine
        supply, supplied = engine.translator._supply, []

        def supply_and_forget(want: Any) -> None:
            supply(want)
            supplied.append(want)
            engine.flush_tlb(engine.cpus[0])

        def filled(cpu: Any, event: Any) -> None:
            if supplied and event.address == second:
                machine.memory[second - 0x800] = 1

        engine.translator._supply = supply_and_forget
        engine.observer.hooks.add_fill(filled)
        machine.start(paused=True)
        machine.memory[second - 2 : second + 2] = bytes.fromhex("fff7 febf")  # b.w to itself
        cpu: Any = machine.cpus[0]
        cpu.regs.pc = second - 2
        cpu.regs.mode |= 1  # T32
        machine.resume()
        deadline = time.monotonic() + 240
        while not machine.stats()["installs"] and time.monotonic() < deadline:
            time.sleep(0.001)
        stats: Any = machine.stats()
        assert stats["installs"] == 1
        assert machine.memory[second - 0x800] == 1
        return int(stats["installs_raced"])


def test_a_hook_describes_a_machine_that_is_being_paused() -> None:
    described = threading.Event()

    def describe(*_: object) -> None:
        machine.describe()
        described.set()

    with Machine(kernel=GUESTS / "endless-loop.elf") as machine:
        machine.hook("block", describe)
        machine.start()
        for _ in range(20):
            described.clear()
            assert described.wait(LIMIT)
            machine.pause()
            machine.resume()


def test_who_pauses_a_machine_waits_though_a_hook_has_asked_for_it() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def pause(*_: object) -> None:
        if not asked.is_set():
            machine.pause()
            asked.set()
            go_on.wait(LIMIT)

    with Machine(kernel=GUESTS / "endless-loop.elf", cpus=2) as machine:
        machine.hook("block", pause)
        machine.start()
        assert asked.wait(LIMIT)
        pausing = threading.Thread(target=machine.pause, daemon=True)
        pausing.start()
        pausing.join(0.1)
        waited = pausing.is_alive()
        go_on.set()
        pausing.join(LIMIT)
        assert waited
        assert machine.state is State.PAUSED
        machine.resume()


def test_a_hook_pauses_a_machine_that_is_being_paused() -> None:
    """Neither waits for the other for ever."""
    busy = threading.Event()

    def pause(*_: object) -> None:
        if not busy.is_set():
            busy.set()
            while not engine.paused:
                time.sleep(0.001)
            machine.pause()

    machine = Machine(kernel=GUESTS / "endless-loop.elf")
    engine: Any = machine.engine
    machine.hook("block", pause)
    machine.start()
    assert busy.wait(LIMIT)
    for do in (machine.pause, machine.resume, machine.close):
        doing = threading.Thread(target=do, daemon=True)
        doing.start()
        doing.join(LIMIT / 3)
        assert not doing.is_alive()


@pytest.mark.parametrize("late", [True, False], ids=["late", "in time"])
def test_a_machine_goes_on_though_a_hook_has_asked_for_a_pause(late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody pauses it again for what has been taken back, however late."""
    asked, release, seen = threading.Event(), threading.Event(), threading.Event()
    finish = Control._finish_pause

    def finish_late(control: Control, paused: workers.Latch) -> None:
        assert release.wait(LIMIT)
        finish(control, paused)

    def pause(*_: object) -> None:
        if asked.is_set():
            seen.set()
        else:
            machine.pause()
            asked.set()

    monkeypatch.setattr(Control, "_finish_pause", finish_late if late else finish)
    with Machine(kernel=GUESTS / "endless-loop.elf") as machine:
        machine.hook("block", pause)
        machine.start()
        assert asked.wait(LIMIT)
        if not late:
            machine.pause()
        machine.resume()
        release.set()
        for thread in threading.enumerate():
            if thread.name == "raddle-pause":
                thread.join(LIMIT)
        seen.clear()
        assert seen.wait(LIMIT)
        assert machine.state is State.RUNNING


def test_a_reset_of_a_machine_that_a_hook_has_paused_stays_paused() -> None:
    asked = threading.Event()

    def pause(*_: object) -> None:
        if not asked.is_set():
            machine.request_reset()
            machine.pause()
            asked.set()

    with Machine(kernel=GUESTS / "endless-loop.elf") as machine:
        machine.hook("block", pause)
        machine.start()
        assert asked.wait(LIMIT)
        machine.pause()
        assert machine.state is State.PAUSED
        assert machine.engine.paused  # type: ignore[attr-defined]


def test_a_hook_pauses_a_machine_that_is_being_closed() -> None:
    for _ in range(5):
        paused = threading.Event()

        def pause(*_: object, paused: threading.Event = paused) -> None:
            machine.pause()
            paused.set()

        with Machine(kernel=GUESTS / "endless-loop.elf", cpus=2) as machine:
            machine.hook("block", pause)
            machine.start()
            assert paused.wait(LIMIT)


@pytest.mark.parametrize(
    ("name", "cpus", "icount"),
    [("hello", 1, "shift=3"), ("hello-smp", 3, "shift=3"), ("hello-smp", 3, "shift=0,sleep=on")],
)
def test_pauses_that_a_hook_asks_for_leave_no_trace_in_a_counted_run(name: str, cpus: int, icount: str) -> None:
    def run(pauses: bool) -> tuple[object, int, str, int]:
        count = 0

        def hook(*_: object) -> None:
            nonlocal count
            count += 1
            if pauses and count % 3 == 0:
                machine.pause()

        with Machine(cpus=cpus, kernel=GUESTS / f"{name}.elf", icount=icount) as machine:
            machine.add_memory_hook(hook, UART, UART + 4)
            machine.start()
            deadline = time.monotonic() + LIMIT
            while machine.state is not State.STOPPED and time.monotonic() < deadline:
                if machine.state is State.PAUSED:
                    with suppress(UsageError):  # it may have stopped meanwhile
                        machine.resume()
                time.sleep(0.001)
            assert machine.wait(LIMIT) == 0
            stats: Any = machine.stats()
            hashes = [cpu["trace_hash"] for cpu in stats["cpus"]]
            return hashes, machine.engine.clock_ns(), machine.console.text, count

    assert run(True) == run(False)


def test_workers_are_not_among_pythons_threads() -> None:
    """An entry for each worker that has ended would stay in the list. Others may have looked at the name of one."""
    before = set(threading.enumerate())
    with Machine(kernel=GUESTS / "endless-loop.elf") as machine:
        machine.start()
        users = [
            threading.Thread(target=lambda: (machine.stats(), machine.pause(), machine.resume())) for _ in range(10)
        ]
        for user in users:
            user.start()
        for user in users:
            user.join()
    assert set(threading.enumerate()) <= before
