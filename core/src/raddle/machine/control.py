# SPDX-License-Identifier: Apache-2.0
"""The life cycle of a machine: how it is started, paused, ended and freed; its states, its locks, and the thread that
waits for its end.

Everything here runs on Raddle's own threads (raddle.workers), so that no exception comes between two steps. A `Machine`
hands its user's requests to workers; boards, character devices and hooks already run on Raddle's own threads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from threading import get_ident
from typing import Any, Final
from weakref import WeakSet

from raddle import workers
from raddle.accel import Decision
from raddle.errors import MachineError, UsageError, machine_closed
from raddle.machine.board import Board
from raddle.machine.chardev import CharDevice
from raddle.machine.parts import Engine, Instruments, State, VCpu

__all__ = ["Control", "close_devices"]

LIVE: Final[WeakSet[Control]] = WeakSet()
"""All controls of this process. Read only in a forked child, which has one thread."""


class Control:
    """The control of one machine. It has no reference to the user's `Machine`, which may be dropped while this goes
    on.
    """

    def __init__(
        self,
        decision: Decision,
        frontend: Any,
        board: Board,
        consoles: tuple[CharDevice, ...],
        engine: Engine,
        instruments: Instruments | None,
        reboot: bool,
    ) -> None:
        self.accel: Final = decision
        self.frontend: Final = frontend
        self.board: Final = board
        self.memory: Final = board.memory
        self.consoles: Final = consoles
        self.engine: Final = engine
        self.instruments: Final = instruments
        """The engine's; None if it has none."""
        self.state = State.READY
        self.status = 0
        self.error: BaseException | None = None
        """The first error. Under `_holders_changed`."""
        self.finished: Final = workers.Latch()
        """The machine has stopped, and its consoles are closed."""
        self.closed = False
        """The machine is closed, or being closed. Set under `_holders_changed`, read by any thread."""
        self._pausing = False
        """A hook has paused the engine, and no thread has yet waited until all vCPUs have stopped. Set on the vCPU's
        thread before it stops, cleared under the machine's lock."""
        self._reboot = reboot
        self._lock = threading.RLock()
        self._holders_changed = threading.Condition()
        """Guards the following fields; a leaf."""
        self._ending = False
        """The end was requested. Set by any thread, before the engine is stopped."""
        self._resetting = False
        """A reset was requested, and the vCPUs have not stopped for it yet."""
        self._freed = False
        """A thread frees the parts."""
        self._gone: Final = workers.Latch()
        """The parts are freed."""
        self._holders = 0
        """How many of Raddle's own threads hold the machine: `close` frees nothing before this is 0."""
        self._users: dict[int, Any] = {}
        """A lock for each user's thread that has ever held the machine, by thread ident; the thread has the lock while
        it holds the machine. Any thread adds its entry in one step. Entries stay; since idents are reused, there are no
        more than threads at one time.
        """
        self._supervisor: threading.Thread | None = None
        self.foreign = False
        """This process was forked from the one that made the machine. Set in the child before anything else runs."""
        LIVE.add(self)
        board.connect(engine.cpus, self, engine.big_lock)
        for device in consoles:
            device.on_failure = self.fail
            device.tell = self._tell

    # --- running

    def require_ready(self) -> None:
        """Raise UsageError for a machine that cannot be started."""
        self._require_outside("start")
        self._require(State.READY, "started")

    def start(self, paused: bool) -> None:
        self._require_outside("start")
        with self._lock:
            self._require(State.READY, "started")
            with self.engine.big_lock:  # input may come already
                self.board.reset()
            for cpu in self.engine.cpus:
                cpu.drain()  # so that registers set before the first instruction keep their values
            for device in self.consoles:
                device.start()
            self.state = State.PAUSED
            if not paused:
                self.resume()
            elif self._ending:
                self._watch()

    def resume(self) -> None:
        self._require_outside("resume")
        with self._lock:
            if self.state is State.RUNNING:
                if self._pausing:
                    self._pausing = False
                    self.engine.resume()
                return
            self._require(State.PAUSED, "resumed")
            self._pausing = False
            self.state = State.RUNNING
            if self._supervisor is None:
                self.engine.start()
                self._watch()
            else:
                self.engine.resume()

    def pause(self) -> None:
        if self.inside:
            if self.state is not State.RUNNING:  # a pause came before this timer callback
                return
            # Start it before the vCPUs are stopped: if the thread could not start, they would stay stopped.
            asked = workers.Latch()
            workers.Thread(self._finish_pause, "raddle-pause", (asked,)).start_to("waits until all vCPUs stand")
            try:
                self.engine.pause()
                self._pausing = True
            finally:
                asked.set()
            return
        with self._lock:
            if self.state is State.PAUSED:
                return
            self._require(State.RUNNING, "paused")
            self.engine.pause()
            self._settle()
            self._pausing = False
            self.state = State.PAUSED

    def stop(self) -> None:
        self._require_outside("stop")
        if self.state is not State.STOPPED:
            # Stop before waiting for the lock: its owner may be waiting for vCPUs that would not stop otherwise.
            self._ending = True
            self.engine.stop()
        with self._lock:
            # If it was never started, or its start has failed, no thread waits for its end.
            unwatched = self._supervisor is None and self.state is not State.STOPPED
        if unwatched:
            self._supervise()
        self.finished.wait()

    def close(self) -> None:
        self._require_outside("close")
        self.stop()
        with self._holders_changed:
            self.closed = True
            while self._holders:
                self._holders_changed.wait()
            users = list(self._users.values())
        # One closing thread at a time keeps the locks until everything is freed: a user's thread that comes later sees
        # a closed machine.
        with ExitStack() as kept:
            for lock in users:
                kept.enter_context(lock)
            with self._holders_changed:
                first, self._freed = not self._freed, True
            if not first:
                self._gone.wait()
                return
            try:  # not under the condition: this waits for timers, whose callbacks may request the machine's end
                self._free()
            finally:
                self._gone.set()

    def _free(self) -> None:
        self.engine.close()
        self.board.close()
        self.memory.close()
        # Break cycles of references, so that the parts are freed without the cycle collector.
        self.board.disconnect()
        for device in self.consoles:
            device.disconnect()

    # --- holding

    def hold(self) -> AbstractContextManager[object]:
        """See `Machine.hold`."""
        if workers.own():
            return self._held()
        # `with` takes and releases an RLock in one C call each, so that no exception can leave it taken.
        lock = self._users.setdefault(get_ident(), threading.RLock())
        self.require_open()
        return lock  # type: ignore[no-any-return]

    @contextmanager
    def _held(self) -> Iterator[None]:
        with self._holders_changed:
            self.require_open()
            self._holders += 1
        try:
            yield
        finally:
            with self._holders_changed:
                self._holders -= 1
                self._holders_changed.notify_all()

    @property
    def held(self) -> bool:
        """Whether the calling thread, which is a user's, holds the machine."""
        lock = self._users.get(get_ident())
        if lock is None:
            return False
        try:
            threading.Condition(lock).notify()  # wakes nobody; raises if the caller lacks the lock
        except RuntimeError:
            return False
        return True

    def require_here(self) -> None:
        """Raise MachineError in a forked child."""
        if self.foreign:
            raise MachineError(
                "the machine belongs to the process that this one was forked from: make another one here"
            )

    def require_open(self) -> None:
        self.require_here()
        if self.closed:
            raise machine_closed()

    def leave_to_parent(self) -> None:
        """In a forked child, where the machine's threads do not exist, and locks may stay taken: mark the machine
        closed.
        """
        self.foreign = self.closed = True
        self.state = State.STOPPED
        for part in (self.engine, *self.consoles):
            leave: Callable[[], None] | None = getattr(part, "leave_to_parent", None)
            if leave is not None:
                leave()
        self.memory.close()

    # --- requests, from any thread of Raddle's own

    def request_stop(self, status: int = 0, *, at_once: bool = False) -> None:
        with ExitStack() as holding:
            try:
                holding.enter_context(self.hold())
            except MachineError:
                return
            self.status = status
            self._end_soon()
        if at_once:
            self.hang_up()

    def request_reset(self) -> None:
        if not self._reboot:
            self.request_stop(0)
            return
        with self._holders_changed:
            if self._resetting:  # each CPU of a guest may ask for the same reset
                return
            self._resetting = True
        # Resetting waits for all vCPUs, and this may be the thread of one.
        try:
            workers.Thread(self._reset, "raddle-reset").start_to("resets the machine")
        except MachineError:
            with self._holders_changed:
                self._resetting = False
            raise

    def _reset(self) -> None:
        """On a thread of its own. An error stops the machine, which cannot go on after half a reset."""
        try:
            self._reset_now()
        except Exception as error:
            self.fail(error)

    def _reset_now(self) -> None:
        with self._lock:
            if self.state not in (State.RUNNING, State.PAUSED):  # it has stopped meanwhile
                return
            if self.state is State.RUNNING:
                self.engine.pause()
                self._settle()  # before devices drop what they hold back; an error stops the machine
            with self._holders_changed:
                self._resetting = False  # a request from now on is for another reset
            with self.engine.big_lock:  # input still comes
                self.board.reset()
            if self.state is State.PAUSED:
                for cpu in self.engine.cpus:
                    cpu.run_on_cpu(cpu.drain)
            elif not self._pausing:
                self.engine.resume()

    def fail(self, error: Exception) -> None:
        """Stop the machine soon, because of an error outside of it; `wait` raises the first error."""
        self._keep(error)
        with suppress(MachineError), self.hold():
            self._end_soon()

    def _end_soon(self) -> None:
        """Request the end. The thread with the machine's lock may be waiting for the calling thread, if that runs a
        vCPU or has the big lock. So take the machine's lock only if neither is possible: before anything has run.
        """
        self._ending = True
        self.engine.stop()
        # Powered on, but it has not run yet, so no thread waits for its end. While it is being started, the starting
        # thread does.
        if self.state is State.PAUSED and self._supervisor is None:
            with self._lock:
                if self.state is State.PAUSED:
                    self._watch()

    def hang_up(self) -> None:
        """Do not wait for readers of the guest's output any more. Takes no lock."""
        for device in self.consoles:
            device.hang_up()

    def _keep(self, error: BaseException | None) -> None:
        """Save the error for `wait`, if it is the first."""
        with self._holders_changed:
            if self.error is None:
                self.error = error

    # --- looking into it

    def describe(self) -> str:
        parts = []
        with self.hold():
            for cpu in self.engine.cpus:
                if cpu.info().get("state") == "off":
                    parts.append(f"CPU {cpu.index} is off")
                    continue
                parts += [f"CPU {cpu.index}", self.frontend.describe(cpu).rstrip()]
                parts += self._around(cpu)
        return "\n".join(parts)

    def _around(self, cpu: VCpu) -> list[str]:
        if self.instruments is None or self.inside:
            return []
        # The vCPU must not resume meanwhile: this reads and fills its TLB. Do not wait for the lock: its owner may be
        # waiting for this thread, if it is a hook's.
        if not self._lock.acquire(blocking=False):
            return []
        try:
            return [] if self.state is State.RUNNING else self.instruments.around(cpu)
        finally:
            self._lock.release()

    # --- inside

    @property
    def inside(self) -> bool:
        """Whether vCPUs may be waiting for the calling thread."""
        return bool(getattr(self.engine, "inside", False))

    def _require_outside(self, action: str) -> None:
        if self.inside:
            raise UsageError(
                f"cannot {action} the machine from a hook, a device or a timer's callback, which would be waited for: "
                "request_stop, request_reset and pause do not wait"
            )

    def require_outside(self, action: str) -> None:
        """Raise UsageError on a vCPU's thread and in a timer callback."""
        self._require_outside(action)

    def _watch(self) -> None:
        if self._supervisor is None:
            supervisor = workers.Thread(self._supervise, "raddle-machine")
            try:
                supervisor.start_to("waits for the vCPUs")
            except MachineError:
                self.engine.stop()
                raise
            self._supervisor = supervisor

    def _supervise(self) -> None:
        """On a thread of its own: wait until the vCPUs have ended, with or without an error."""
        try:
            self.engine.join(None)
        except BaseException as error:
            self._finish(error)
        else:
            self._finish(None)

    def _tell(self, notify: Callable[[], None]) -> None:
        """Notify a port of input; does nothing when the machine is closed."""
        with ExitStack() as holding:
            try:
                holding.enter_context(self.hold())
            except MachineError:
                return
            notify()

    def _finish_pause(self, asked: workers.Latch) -> None:
        """When `asked` is set, a hook has paused the engine: wait for the vCPUs in its place, unless another thread has
        already done so, or has resumed the machine.
        """
        asked.wait()
        with self._lock:
            if self.state is State.RUNNING and self._pausing:
                self.pause()
            self._pausing = False

    def _settle(self) -> None:
        """Call it when no vCPU runs. An error is saved, and stops the machine."""
        try:
            with self.engine.big_lock:
                self.board.settle()
        except Exception as error:
            self.fail(error)

    def _finish(self, error: BaseException | None) -> None:
        with self._lock:
            self._keep(error)
            first, self.state = self.state is not State.STOPPED, State.STOPPED
        if not first:  # after a failed start, two threads may get here
            return
        try:
            self._settle()
        finally:
            # Not under the lock: closing waits for threads that may be about to take it (the monitor's `stop`).
            self._keep(close_devices(self.consoles))
            self.finished.set()

    def _require(self, state: State, action: str) -> None:
        if self.state is not state:
            raise UsageError(f"a machine that is {self.state.value} cannot be {action}")


def _leave_to_parent() -> None:
    for control in list(LIVE):
        control.leave_to_parent()


os.register_at_fork(after_in_child=_leave_to_parent)


def close_devices(devices: tuple[CharDevice, ...] | list[CharDevice]) -> BaseException | None:
    """Close all of them, even if some fail. Returns the first error."""
    first: BaseException | None = None
    for device in devices:
        try:
            device.close()
        except BaseException as error:
            first = first or error
    return first
