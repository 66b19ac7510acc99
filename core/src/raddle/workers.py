# SPDX-License-Identifier: Apache-2.0
"""Threads of Raddle's own, and how a user's thread has them do its work.

A signal's handler may raise an exception between any two bytecodes of the main thread (Ctrl-C's does), and
`PyThreadState_SetAsyncExc` does the same to any thread. Code that is left there keeps what it has taken: a lock, a
count, a list that is half changed. So a user's thread takes no lock of Raddle's. What does is handed to a worker, which
nobody sends exceptions to, and the user's thread waits for it without a lock: an exception ends the waiting, and the
work goes on to its end, or is undone where that is said.

What runs on one of Raddle's own threads (a vCPU's, hooks and devices included, a console's, a worker) is done there.

Nothing here may be left half done either, on the user's side: each step is one call of C that takes effect at once
(`SimpleQueue.put`, `list.append`, `list.pop`, acquiring and releasing a plain lock), and is complete without the next.
"""

from __future__ import annotations

import _thread
import os
import threading
from _queue import SimpleQueue
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from threading import get_ident
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from raddle.errors import MachineError

__all__ = ["Latch", "Thread", "adopt", "call", "handed_over", "own", "release", "submit"]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

NO_THREAD: Final = (RuntimeError, MemoryError)
"""What starting a thread raises where the host has no room for one more."""
IDLE: Final = 2
"""So many workers wait for work when there is none; one always does, so that work never waits for other work."""

PATIENCE: Final = 20.0
"""Seconds between looks whether there is a thread at all. One that was started is counted when it has had a core, which
takes a while on a busy machine."""

_own: set[int] = set()
"""Idents of the threads that are Raddle's own. Each one's is added and taken out on it."""


def own() -> bool:
    """Whether the calling thread is one of Raddle's own: no asynchronous exception comes there."""
    return get_ident() in _own


def adopt() -> bool:
    """Take the calling thread for one of Raddle's own until `release`; False when it is one already. For a thread that
    the native runtime has made, and for one that has a lock which a worker might wait for.
    """
    ident = get_ident()
    if ident in _own:
        return False
    _own.add(ident)
    return True


def release() -> None:
    """The calling thread is no longer one of Raddle's own."""
    _own.discard(get_ident())


class Thread(threading.Thread):
    """A thread of Raddle's own. It does not keep the process from ending."""

    def __init__(self, target: Callable[..., object], name: str, args: tuple[Any, ...] = ()) -> None:
        super().__init__(target=target, name=name, args=args, daemon=True)

    def start_to(self, purpose: str) -> None:
        """Start it. Raises MachineError, which says what it is to do, when there is no room for one more thread."""
        try:
            self.start()
        except RuntimeError as error:
            raise MachineError(f"cannot start the thread that {purpose}: {error}") from None

    def run(self) -> None:
        adopt()
        try:
            super().run()
        finally:
            release()


class Latch:
    """Something that happens once, and may be waited for. A wait that an exception ends leaves nothing behind."""

    __slots__ = ("_happened", "_waiting")

    def __init__(self) -> None:
        self._happened = False
        self._waiting: list[_thread.LockType] = []
        """A lock for each who waits, taken; whoever takes it off the list releases it."""

    def set(self) -> None:
        """It has happened. Any thread of Raddle's own; may be called again."""
        self._happened = True
        while True:
            try:
                lock = self._waiting.pop()
            except IndexError:  # not asked before: others may set it, too
                return
            lock.release()

    def is_set(self) -> bool:
        return self._happened

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has happened, `timeout` seconds at most; whether it has. Any thread."""
        if self._happened:
            return True
        lock = _thread.allocate_lock()
        lock.acquire()
        self._waiting.append(lock)
        # Who sets it does so before it looks at the list: it is seen here, or the lock is seen there.
        if not self._happened:
            lock.acquire(timeout=-1 if timeout is None else min(max(0, timeout), threading.TIMEOUT_MAX))
        if not self._happened:
            try:
                self._waiting.remove(lock)
            except ValueError:  # at this very moment
                return True
        return self._happened


# --- workers ----------------------------------------------------------------------------------------------------


class _Job:
    """A call that a worker makes for another thread."""

    __slots__ = ("done", "error", "function", "outcome", "result", "undo")

    def __init__(self, function: Callable[[], Any], undo: Callable[[Any], object] | None) -> None:
        self.function = function
        self.undo = undo
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = Latch()
        self.outcome = [True]
        """Emptied by who is first: the worker that has done it, or the caller who does not want it any more. The second
        one undoes it.
        """

    def run(self) -> None:
        try:
            self.result = self.function()
        except BaseException as error:
            self.error = error
        if not self._first():
            self.undone()
        self.done.set()

    def abandon(self) -> None:
        """The caller has left. Waits for nothing."""
        if not self._first():
            submit(self.undone)

    def undone(self) -> None:
        if self.error is None and self.undo is not None:
            self.undo(self.result)

    def _first(self) -> bool:
        try:
            return self.outcome.pop()
        except IndexError:
            return False


class _Pool:
    """The workers of this process. A child that is forked has a pool of its own."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self.ready = False
        """There is a worker, or there soon will be. Workers take it back when they cannot start another."""
        self._lock = threading.Lock()
        """Guards how many workers wait; workers take it, and the threads that start the first one (`_begin`), which no
        exception comes to either. Nothing is waited for under it.
        """
        self._idle = 0

    def put(self, function: Callable[[], object]) -> None:
        """Have it done. Never waits; any thread, at any time, a destructor's included."""
        if not self.ready:
            # An exception in between, or another thread here, may make one worker too many, which only waits.
            try:
                _thread.start_new_thread(self._begin, ())
            except RuntimeError as error:
                raise MachineError(f"cannot start a thread: {error}") from None
            self.ready = True
        self.jobs.put(function)

    def _begin(self) -> None:
        with suppress(*NO_THREAD):
            self._more()
            return
        # There is no second thread to be had: this one is the worker, or what was put before it would wait for good.
        with self._lock:
            self._idle += 1
        self.ready = True
        self._serve()

    def _more(self) -> None:
        """Start a worker unless one waits."""
        with self._lock:
            if self._idle:
                return
            self._idle += 1
        try:
            # Not by threading.Thread: its `start` waits for good for a thread that has no memory to begin with.
            _thread.start_new_thread(self._serve, ())
        except BaseException:
            with self._lock:
                self._idle -= 1
            self.ready = False
            raise

    def _serve(self) -> None:
        """A worker's thread."""
        adopt()
        try:
            threading.current_thread().name = "raddle-worker"
            self._work()
        finally:
            release()

    def _work(self) -> None:
        while True:
            job = self.jobs.get()
            with self._lock:
                self._idle -= 1
            with suppress(*NO_THREAD):  # there is no thread to be had: what comes next waits for this one
                self._more()
            job()
            del job  # nothing is kept that was given
            with self._lock:
                if self._idle >= IDLE:
                    return
                self._idle += 1


_pool = _Pool()


def submit(function: Callable[[], object]) -> None:
    """Have a worker do it some time soon; what it raises is lost. Never waits."""
    _pool.put(function)


def call(function: Callable[[], R], undo: Callable[[R], object] | None = None) -> R:
    """What `function` returns or raises, done on a thread of Raddle's own: here, or by a worker that is waited for.

    An exception that comes while it is waited for leaves it to the worker, which does it to its end, and has `undo`
    take its result back.
    """
    if get_ident() in _own:
        return function()
    job = _Job(function, undo)
    try:
        _pool.put(job.run)
        while not job.done.wait(PATIENCE):
            if not _thread._count():  # the thread that was to do it had no memory to begin with
                raise MemoryError
        if job.error is None:
            return job.result  # type: ignore[no-any-return]
    except BaseException:
        job.abandon()
        raise
    error, job.error = job.error, None  # the error's traceback knows this frame, and must not be known by it
    try:
        raise error
    finally:
        del error


def handed_over(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """A method that takes locks: done on a thread of Raddle's own. See `call`."""

    @wraps(method)
    def handed(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
        if get_ident() in _own:
            return method(self, *args, **kwargs)
        return call(lambda: method(self, *args, **kwargs))

    return handed  # type: ignore[return-value]


def _after_fork() -> None:
    """In a child, which has none of its parent's threads but the one that has forked."""
    global _pool
    _pool = _Pool()
    _own.intersection_update({get_ident()})


os.register_at_fork(after_in_child=_after_fork)
