# SPDX-License-Identifier: Apache-2.0
"""The life of what runs vCPUs: its host threads, their pauses and end, and who still uses the native context."""

from __future__ import annotations

import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from raddle import kinds, workers
from raddle.errors import MachineError, machine_closed
from raddle.runtime._native import ffi, lib
from raddle.threads import callbacks, process
from raddle.threads.biglock import BigLock
from raddle.threads.clock import ThreadClock
from raddle.threads.vcpu import VCpu
from raddle.unique import Unique

Schedule = Callable[[Any, Sequence[VCpu]], None]
"""Runs these vCPUs of an engine on the calling thread, until it ends."""


class Lifecycle(Unique, ABC):
    """Starts, pauses and ends the threads of vCPUs, and frees the native context after them.

    `start`, `pause`, `resume`, `stop`, `join` may be called from any thread; what each waits for stands there. The
    first error of any vCPU, device or hook stops everything and is raised by `join`. `exclusive` is for threads of
    Raddle's own: an exception that a signal's handler raises would leave it taken.

    A class that derives from it makes `_context` (struct raddle_context *), `big_lock` and `cpus` before `start`.
    """

    _context: Any
    big_lock: BigLock
    cpus: list[VCpu]

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.clocks: list[ThreadClock] = []
        """One a thread that runs or has run vCPUs."""
        self._condition = threading.Condition()
        self._running = False
        self._paused = False
        self._stopping = False
        self._borrowed = False
        """The process has its settings for this engine."""
        self._parked = 0
        self._threads: list[workers.Thread] = []
        self._live = 0
        """Threads that run vCPUs, or are about to; those that come when the engine is stopping turn back."""
        self._users = 0
        """Threads of Raddle's own that are within `use`. Under the condition."""
        self._freeing = False
        """No vCPU runs any more, and nobody new comes into `use`. Set under the condition."""

    @abstractmethod
    def _groups(self) -> tuple[Schedule, list[list[VCpu]]]:
        """The vCPUs by the threads that run them, and how a thread runs its own."""

    @property
    def closed(self) -> bool:
        return bool(self._context == ffi.NULL)

    @property
    def context(self) -> Any:
        """The runtime's: raddle_context *. Raises MachineError when the engine is closed."""
        if self.closed:
            raise machine_closed()
        return self._context

    @property
    def current_cpu(self) -> VCpu | None:
        """A vCPU that the calling thread runs; None on a thread that runs none."""
        current = threading.current_thread()
        return next((cpu for cpu in self.cpus if cpu.thread is current), None)

    @property
    def inside(self) -> bool:
        """Whether the vCPUs wait for the calling thread, or may: it runs one, or has the big lock."""
        return self.big_lock.held or self.current_cpu is not None

    # -- control -------------------------------------------------------------------------------------------------------

    @workers.handed_over
    def start(self) -> None:
        """Start the threads. Returns at once. Until they end the process has the settings of raddle.threads.process."""
        with self._condition:
            self._require_open()
            if self._running:
                return
            self._running = True
            process.borrow()
            self._borrowed = True
            if not self._paused:
                lib.raddle_clock_start(self.context)
            schedule, groups = self._groups()
            for group in groups:
                name = f"vCPU {group[0].index}" if len(groups) == len(self.cpus) else "vCPUs"
                thread = workers.Thread(self._thread, name, (schedule, group))
                for cpu in group:
                    cpu.thread = thread
                self._threads.append(thread)
            try:
                for thread in self._threads:
                    thread.start()
            except RuntimeError as error:
                self.stop()
                raise MachineError(f"cannot start a thread for each vCPU: {error}") from None

    @property
    def paused(self) -> bool:
        """Whether the vCPUs stand, or are about to."""
        return self._paused

    @workers.handed_over
    def pause(self) -> None:
        """Stop all vCPUs between blocks; waits until they stand, or another thread lets them go on, unless called on
        one of their threads, or under the big lock.
        """
        inside = self.inside
        with self._condition:
            self._require_open()
            self._paused = True
            lib.raddle_clock_stop(self.context)
            lib.raddle_stop(self.context)
            if inside:
                return
            # Somebody may let them go on before they all stand: then there is nothing to wait for.
            while self._paused and self._parked < sum(thread.is_alive() for thread in self._threads):
                self._condition.wait(0.1)

    @workers.handed_over
    def resume(self) -> None:
        """Let the vCPUs go on. Returns at once."""
        with self._condition:
            if not self._paused or self._stopping:
                return
            self._paused = False
            lib.raddle_clock_start(self.context)
            lib.raddle_go(self.context)
            self._condition.notify_all()

    @workers.handed_over
    def stop(self) -> None:
        """End all threads for good. Returns at once; `join` waits."""
        with self._condition:
            self._stopping = True
            if not self._freeing:
                lib.raddle_stop(self.context)
            self._condition.notify_all()

    @workers.handed_over
    def join(self, timeout: float | None = None) -> bool:
        """Wait until all threads have ended, `timeout` seconds at most; whether they have. Raises the first error."""
        if timeout is not None:
            timeout = kinds.seconds("the timeout of join()", timeout)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout)
            if thread.is_alive():
                return False
        if self.error is not None:
            raise self.error
        return True

    @workers.handed_over
    def close(self) -> None:
        """Free everything native, when the threads have ended; they must have been stopped."""
        with self._condition:
            self._stopping = True
            while self._live:
                self._condition.wait()
            self._give_back()
            self._freeing = True
            while self._users:
                self._condition.wait()
            if self.closed:
                return
        # Before the addresses are free for another engine's; timers that call until then find nobody.
        for cpu in self.cpus:
            callbacks.CPUS.pop(callbacks.address(cpu.env), None)
        callbacks.ENGINES.pop(callbacks.address(self.context), None)
        lib.raddle_context_free(self.context)
        with self._condition:
            self._context = ffi.NULL
        self._forget()

    def leave_to_parent(self) -> None:
        """In a child that was forked, where nothing of this runs: it is closed, and what is native stays as it is, with
        the locks that others had.
        """
        self._condition = threading.Condition()
        self._freeing = True
        self._context = ffi.NULL
        for cpu in self.cpus:
            cpu.close()
        self.big_lock.close()

    def _forget(self) -> None:
        """Let go of all parts, which know the engine: what is left of it when it is closed is freed when nobody has it
        any more, without a search for cycles of references. What is asked of it from now on raises MachineError.
        """
        for cpu in self.cpus:
            cpu.close()
        self.big_lock.close()
        self._threads.clear()

    def _give_back(self) -> None:
        """No thread runs vCPUs any more. Under the condition."""
        if self._borrowed:
            self._borrowed = False
            process.give_back()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """While this holds, no vCPU is in generated code. Not under the big lock. Raises MachineError as `use` does."""
        with self.use():
            lib.raddle_exclusive_begin(self.context)
            try:
                yield
            finally:
                lib.raddle_exclusive_end(self.context)

    @contextmanager
    def use(self) -> Iterator[None]:
        """While this holds, nothing native is freed: `close` waits, so that nothing is done within that waits for it.
        On threads of Raddle's own. Raises MachineError when the engine is closed, or about to be.
        """
        with self._condition:
            self._require_open()
            self._users += 1
        try:
            yield
        finally:
            with self._condition:
                self._users -= 1
                self._condition.notify_all()

    def _require_open(self) -> None:
        """Raise MachineError when the engine is being freed. Under the condition."""
        # Freeing begins with the end of the timers: a callback that has begun may go on.
        if self.closed or (self._freeing and threading.get_ident() != self.big_lock.timer_thread):
            raise machine_closed()

    def fail(self, error: BaseException, cpu: VCpu | None) -> None:
        """Keep the first error, with the vCPU and pc where it arose, and stop everything. Any thread."""
        kinds.instance("the error of fail()", "an exception", error, BaseException)
        with self._condition:
            if self.error is None:
                if cpu is not None:
                    error.add_note(f"on vCPU {cpu.index}, guest pc {cpu.pc:#x}")
                self.error = error
        lib.raddle_error(self.context, cpu.env if cpu is not None else ffi.NULL)
        self.stop()

    def unanswered(self) -> list[str]:
        """Of each thread that still runs vCPUs, of a timer's callback and of who else has the big lock, where it is, in
        words. Any thread; takes no lock, so that it can tell who keeps one.
        """
        frames = sys._current_frames()
        threads = {thread.ident: thread.name for thread in list(self._threads) if thread.is_alive()}
        if timer := self.big_lock.timer_thread:
            threads.setdefault(timer, "a timer's callback")
        if owner := self.big_lock.owner:
            threads.setdefault(owner, "who has the big lock")
        return [f"{name} is in {_place(frames[ident])}" for ident, name in threads.items() if ident in frames]

    # -- threads -------------------------------------------------------------------------------------------------------

    def _thread(self, schedule: Schedule, cpus: Sequence[VCpu]) -> None:
        with self._condition:
            if self._stopping:  # the start was interrupted, and the engine may be closed already
                return
            self._live += 1
        clock = ThreadClock([cpu.index for cpu in cpus])
        self.clocks.append(clock)
        try:
            schedule(self, cpus)
        except BaseException as error:
            self.fail(error, cpus[0] if len(cpus) == 1 else None)
        finally:
            clock.stop()
            self._leave()

    def _leave(self) -> None:
        with self._condition:
            self._live -= 1
            if self._stopping and not self._live:
                self._give_back()
            self._condition.notify_all()

    def park(self) -> bool:
        """A vCPU was told to stop: wait while the machine is paused, and do what `run_on_cpu` waits for meanwhile.
        Whether it is to go on.
        """
        own = [cpu for cpu in self.cpus if cpu.thread is threading.current_thread()]
        while self._stand(own):
            for cpu in own:
                cpu.drain()
        return not self._stopping

    def _stand(self, own: Sequence[VCpu]) -> bool:
        """Wait until there is no pause, or there is work for one of the thread's own vCPUs; whether there is."""
        with self._condition:
            self._parked += 1
            self._condition.notify_all()
            with self.idle():
                while self._paused and not self._stopping and not any(cpu.awaited for cpu in own):
                    self._condition.wait()
            self._parked -= 1
            # A thread that goes on leaves the mark: a pause may come before it looks at the queue.
            if again := self._paused and not self._stopping:
                for cpu in own:
                    cpu.awaited = False
            return again

    @workers.handed_over
    def wake(self, cpu: VCpu) -> None:
        """Somebody waits for work in `cpu`'s queue: its thread does it though the machine is paused. Any thread."""
        with self._condition:
            cpu.awaited = True
            self._condition.notify_all()

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Counts what the thread waits for nothing to do."""
        started = time.monotonic_ns()
        yield
        ident = threading.get_native_id()
        for clock in self.clocks:
            if clock.native_id == ident:
                clock.idle_ns += time.monotonic_ns() - started


def _place(frame: FrameType) -> str:
    """What a thread does whose innermost frame this is."""
    code = frame.f_code
    if frame.f_globals.get("__name__") == "raddle.threads.schedules":
        return "translated code or the runtime"
    return f"{code.co_qualname} ({code.co_filename}, line {frame.f_lineno})"
