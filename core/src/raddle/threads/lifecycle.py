# SPDX-License-Identifier: Apache-2.0
"""The life cycle of an engine: its host threads, their pauses and end, and which threads still use the native
context."""

from __future__ import annotations

import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
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

    `start`, `pause`, `resume`, `stop` and `join` may be called from any thread; each says what it waits for. The first
    error of any vCPU, device or hook stops everything, and `join` raises it. `exclusive` is only for Raddle's own
    threads: an exception from a signal handler would leave it taken.

    A derived class sets `_context` (struct raddle_context *), `big_lock` and `cpus` before `start`.
    """

    _context: Any
    big_lock: BigLock
    cpus: list[VCpu]

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.clocks: list[ThreadClock] = []
        """One for each thread that runs or has run vCPUs."""
        self._condition = threading.Condition()
        self._running = False
        self._paused = False
        self._stopping = False
        self._spread = False
        """Threads are pinned to cores. Under the condition."""
        self._borrowed = False
        """The settings of raddle.threads.process are in force for this engine."""
        self._parked = 0
        self._threads: list[threading.Thread] = []
        self._live = 0
        """Threads that run vCPUs, or are about to; a thread that begins when the engine is stopping returns at once."""
        self._users = 0
        """How many of Raddle's own threads are within `use`. Under the condition."""
        self._freeing = False
        """No vCPU runs any more, and no new thread may enter `use`. Set under the condition."""

    @abstractmethod
    def _groups(self) -> tuple[Schedule, list[list[VCpu]]]:
        """The function by which a thread runs its vCPUs, and the vCPUs of each thread."""

    @property
    def closed(self) -> bool:
        return bool(self._context == ffi.NULL)

    @property
    def context(self) -> Any:
        """The raddle_context * of the runtime. Raises MachineError when the engine is closed."""
        if self.closed:
            raise machine_closed()
        return self._context

    @property
    def current_cpu(self) -> VCpu | None:
        """A vCPU that the calling thread runs, or None."""
        return next((cpu for cpu in self.cpus if cpu.runs_here), None)

    @property
    def inside(self) -> bool:
        """Whether vCPUs may be waiting for the calling thread: it runs one, or has the big lock."""
        return self.big_lock.held or self.current_cpu is not None

    # -- control -------------------------------------------------------------------------------------------------------

    @workers.handed_over
    def start(self) -> None:
        """Start the threads. Returns at once. Until they end, the settings of raddle.threads.process are in force."""
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
                for begun in self._threads:
                    begun.start()
            except RuntimeError as error:
                self.stop()
                raise MachineError(f"cannot start a thread for each vCPU: {error}") from None

    @property
    def paused(self) -> bool:
        """Whether the vCPUs have stopped for a pause, or are about to."""
        return self._paused

    @workers.handed_over
    def pause(self) -> None:
        """Stop all vCPUs between blocks. Waits until they have stopped, or another thread resumes them; does not wait
        when called on a vCPU's thread or under the big lock.
        """
        inside = self.inside
        with self._condition:
            self._require_open()
            self._paused = True
            lib.raddle_clock_stop(self.context)
            lib.raddle_stop(self.context)
            if inside:
                return
            # Another thread may resume them before all have stopped: then there is nothing to wait for.
            while self._paused and self._parked < sum(thread.is_alive() for thread in self._threads):
                self._condition.wait(0.1)

    @workers.handed_over
    def resume(self) -> None:
        """Resume the vCPUs. Returns at once."""
        with self._condition:
            if not self._paused or self._stopping:
                return
            self._paused = False
            lib.raddle_clock_start(self.context)
            lib.raddle_go(self.context)
            self._condition.notify_all()

    @workers.handed_over
    def spread(self) -> None:
        """Pin each thread to one of the cores that this process may use, in turn, now or when it begins. Does nothing
        where one thread runs all vCPUs, or where the host cannot pin threads.
        """
        with self._condition:
            self._spread = hasattr(os, "sched_setaffinity")
            for thread in self._threads:
                self._pin(thread)

    @workers.handed_over
    def stop(self) -> None:
        """End all threads. Returns at once; `join` waits."""
        with self._condition:
            self._stopping = True
            if not self._freeing:
                lib.raddle_stop(self.context)
            if not self._live:  # threads that begin only now return at once
                self._give_back()
            self._condition.notify_all()

    @workers.handed_over
    def join(self, timeout: float | None = None) -> bool:
        """Wait at most `timeout` seconds until all threads have ended. Returns whether they have. Raises the first
        error.
        """
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
        """Free everything native once the threads have ended. Call `stop` first."""
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
        # Do this before the addresses can be used for another engine. A timer that calls from now on finds no engine.
        for cpu in self.cpus:
            callbacks.CPUS.pop(callbacks.address(cpu.env), None)
        callbacks.ENGINES.pop(callbacks.address(self.context), None)
        lib.raddle_context_free(self.context)
        with self._condition:
            self._context = ffi.NULL
        self._forget()

    def leave_to_parent(self) -> None:
        """In a forked child, where none of the threads runs: mark the engine closed. Native memory stays as it is, with
        locks that may be taken.
        """
        self._condition = threading.Condition()
        self._freeing = True
        self._context = ffi.NULL
        for cpu in self.cpus:
            cpu.close()
        self.big_lock.close()

    def _forget(self) -> None:
        """Drop the references to the parts, which refer back to the engine: so reference counting frees a closed
        engine, without the cycle collector. Using them from now on raises MachineError.
        """
        for cpu in self.cpus:
            cpu.close()
        self.big_lock.close()
        self._threads.clear()

    def _give_back(self) -> None:
        """Called when no thread runs vCPUs any more. Under the condition."""
        if self._borrowed:
            self._borrowed = False
            process.give_back()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Within this context manager, no vCPU is in generated code. Not under the big lock. Raises MachineError as
        `use` does.
        """
        with self.use():
            lib.raddle_exclusive_begin(self.context)
            try:
                yield
            finally:
                lib.raddle_exclusive_end(self.context)

    @contextmanager
    def use(self) -> Iterator[None]:
        """Within this context manager, nothing native is freed: `close` waits for its end, so do nothing within it that
        waits for `close`. Only on Raddle's own threads. Raises MachineError when the engine is closed, or about to be.
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
        # Freeing first ends the timers: a timer callback that has begun may go on.
        if self.closed or (self._freeing and threading.get_ident() != self.big_lock.timer_thread):
            raise machine_closed()

    def fail(self, error: BaseException, cpu: VCpu | None) -> None:
        """Save the error if it is the first, with the vCPU and pc where it arose, and stop everything. Any thread."""
        kinds.instance("the error of fail()", "an exception", error, BaseException)
        with self._condition:
            if self.error is None:
                if cpu is not None:
                    error.add_note(f"on vCPU {cpu.index}, guest pc {cpu.pc:#x}")
                self.error = error
        lib.raddle_error(self.context, cpu.env if cpu is not None else ffi.NULL)
        self.stop()

    def unanswered(self) -> list[str]:
        """A text for each thread that still runs vCPUs, for a timer's callback and for the owner of the big lock, which
        says where the thread is. Any thread may call this. It takes no lock, so it works while others keep one.
        """
        frames = sys._current_frames()
        threads = {thread.ident: thread.name for thread in list(self._threads) if thread.is_alive()}
        threads.update({cpu.borrower: f"vCPU {cpu.index}" for cpu in self.cpus if cpu.borrower})
        if timer := self.big_lock.timer_thread:
            threads.setdefault(timer, "a timer's callback")
        if owner := self.big_lock.owner:
            threads.setdefault(owner, "the owner of the big lock")
        return [f"{name} is in {_place(frames[ident])}" for ident, name in threads.items() if ident in frames]

    # -- threads -------------------------------------------------------------------------------------------------------

    def _thread(self, schedule: Schedule, cpus: Sequence[VCpu]) -> None:
        with self._condition:
            if self._stopping:  # the start was interrupted, and the engine may be closed already
                return
            self._live += 1
            self._pin(threading.current_thread())
        clock = ThreadClock([cpu.index for cpu in cpus])
        self.clocks.append(clock)
        try:
            schedule(self, cpus)
        except BaseException as error:
            self.fail(error, cpus[0] if len(cpus) == 1 else None)
        finally:
            clock.stop()
            self._leave()

    def _pin(self, thread: threading.Thread) -> None:
        """Pin a thread, if that is wanted, the thread has begun and it is not the only one. Under the condition."""
        if not self._spread or thread.native_id is None or len(self._threads) < 2:
            return
        cores = sorted(os.sched_getaffinity(os.getpid()))
        with suppress(ProcessLookupError):  # the thread has ended
            os.sched_setaffinity(thread.native_id, {cores[self._threads.index(thread) % len(cores)]})

    def _leave(self) -> None:
        with self._condition:
            if self._stopping and self._live == 1:
                # Routines of timers use memory of devices, which at the process's end is freed without a close.
                lib.raddle_clock_stop(self.context)
            self._live -= 1
            if self._stopping and not self._live:
                self._give_back()
            self._condition.notify_all()

    def park(self) -> bool:
        """A vCPU was told to stop: wait while the machine is paused, and do work that `run_on_cpu` waits for meanwhile.
        Returns whether the vCPU should go on.
        """
        own = [cpu for cpu in self.cpus if workers.is_current(cpu.thread)]
        while self._stand(own):
            for cpu in own:
                cpu.drain()
        return not self._stopping

    def _stand(self, own: Sequence[VCpu]) -> bool:
        """Wait until the pause ends, or there is work for one of the thread's own vCPUs. Returns whether there is."""
        with self._condition:
            self._parked += 1
            self._condition.notify_all()
            with self.idle():
                while self._paused and not self._stopping and not any(cpu.awaited for cpu in own):
                    self._condition.wait()
            self._parked -= 1
            # A thread that resumes leaves the mark set: another pause may come before it has looked at the queue.
            if again := self._paused and not self._stopping:
                for cpu in own:
                    cpu.awaited = False
            return again

    @workers.handed_over
    def wake(self, cpu: VCpu) -> None:
        """Let `cpu`'s thread do its queued work even though the machine is paused, because a thread waits for it. Any
        thread.
        """
        with self._condition:
            cpu.awaited = True
            self._condition.notify_all()

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Counts the time that the thread waits without work."""
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
