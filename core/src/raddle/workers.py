# SPDX-License-Identifier: Apache-2.0
"""Raddle's own threads, and how a user's thread hands work to them.

A signal handler (for example Ctrl-C's) may raise an exception between any two bytecodes of the main thread, and
`PyThreadState_SetAsyncExc` may do so in any thread. Code that such an exception ends does not give back what it has
taken: a lock or a count stays taken, a list stays half changed. So a user's thread takes none of Raddle's locks. It
hands code that does to a worker, to which nobody sends exceptions, and waits for the worker without a lock. An
exception then ends only the waiting: the worker finishes its job, and undoes it if the caller has said how.

Code that already runs on one of Raddle's own threads runs there directly. These are the threads of vCPUs, which also
run hooks and devices, those of consoles, and the workers.

The steps that this module takes on the user's thread must not be left half done either. Each is one C call that takes
effect at once (`SimpleQueue.put`, `list.append`, `list.pop`, acquiring and releasing a plain lock), and the state after
it is valid even if the next step never comes.
"""

from __future__ import annotations

import _thread
import os
import threading
import time
from _queue import SimpleQueue
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from threading import get_ident
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from raddle.errors import MachineError

__all__ = ["Latch", "Thread", "adopt", "call", "handed_over", "is_current", "own", "release", "submit"]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

NO_THREAD: Final = (RuntimeError, MemoryError)
"""The exceptions of starting a thread when the host cannot have one more."""
IDLE: Final = 2
"""At most this many workers wait for work. At least one always waits, so that no job waits for another one to end."""

PATIENCE: Final = 20.0
"""Seconds between checks that any thread exists. A new thread is counted only after it has had a core, which takes a
while on a busy machine."""

SIGNAL_SECONDS: Final = 0.5
"""How long the main thread waits at once. A signal wakes it; but one that comes after Python has looked for signals for
the last time and before the thread sleeps is seen when the thread has slept."""

_own: set[int] = set()
"""Idents of Raddle's own threads. Each thread adds and removes its own."""


def own() -> bool:
    """Whether the calling thread is one of Raddle's own, in which no asynchronous exception is raised."""
    return get_ident() in _own


def adopt() -> bool:
    """Treat the calling thread as one of Raddle's own until `release`. Returns False if it is one already.

    For threads that the native runtime has made, and for threads that hold a lock which a worker might wait for.
    """
    ident = get_ident()
    if ident in _own:
        return False
    _own.add(ident)
    return True


def release() -> None:
    """End what `adopt` began."""
    _own.discard(get_ident())


class Thread(threading.Thread):
    """One of Raddle's own threads. It is a daemon: the process can end while it runs."""

    def __init__(self, target: Callable[..., object], name: str, args: tuple[Any, ...] = ()) -> None:
        super().__init__(target=target, name=name, args=args, daemon=True)

    def start_to(self, purpose: str) -> None:
        """Start the thread. Raises MachineError, which names `purpose`, if the host cannot have one more thread."""
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
    """An event that happens once, and that threads can wait for. An exception may end a wait at any point."""

    __slots__ = ("_happened", "_waiting")

    def __init__(self) -> None:
        self._happened = False
        self._waiting: list[_thread.LockType] = []
        """For each waiting thread, a lock that is taken. Who removes a lock from the list releases it."""

    def set(self) -> None:
        """Let the event happen. Called on Raddle's own threads; may be called again."""
        self._happened = True
        while True:
            try:
                lock = self._waiting.pop()
            except IndexError:  # a check before would race with other callers
                return
            lock.release()

    def is_set(self) -> bool:
        return self._happened

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the event, for at most `timeout` seconds. Returns whether it has happened. Any thread."""
        if self._happened:
            return True
        lock = _thread.allocate_lock()
        lock.acquire()
        self._waiting.append(lock)
        # `set` sets the flag before it looks at the list. So either this thread sees the flag, or `set` sees the lock.
        if not self._happened:
            _acquire(lock, threading.TIMEOUT_MAX if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX))
        if not self._happened:
            try:
                self._waiting.remove(lock)
            except ValueError:  # `set` has removed it meanwhile
                return True
        return self._happened


def _acquire(lock: _thread.LockType, timeout: float) -> None:
    """Acquire the lock, if that takes `timeout` seconds at most. The main thread looks for signals meanwhile."""
    if get_ident() != threading.main_thread().ident:
        lock.acquire(timeout=timeout)
        return
    deadline = time.monotonic() + timeout
    while not lock.acquire(timeout=min(timeout, SIGNAL_SECONDS)) and timeout > 0:
        timeout = max(0.0, deadline - time.monotonic())


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
        """Emptied by whichever comes first: the worker when it has finished, or the caller when it gives up. The second
        one undoes the job.
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
        """The caller gives up. Does not wait."""
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
    """The workers of this process. A forked child has a pool of its own."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self.ready = False
        """There is a worker, or there soon will be. Reset if another worker cannot be started."""
        self._lock = threading.Lock()
        """Guards `_idle`. Taken only by workers, and by threads in `_begin`, in which no exception is raised either.
        Nothing waits under it.
        """
        self._idle = 0
        """How many workers wait for work."""

    def put(self, function: Callable[[], object]) -> None:
        """Have a worker call `function`. Never waits. Any thread may call this at any time, also in a destructor."""
        if not self.ready:
            # An exception between these steps, or another thread in them, may make a needless worker, which only waits.
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
        # A second thread cannot be started. So this one becomes the worker; otherwise jobs in the queue would wait
        # forever.
        with self._lock:
            self._idle += 1
        self.ready = True
        self._serve()

    def _more(self) -> None:
        """Start a worker, unless one waits already."""
        with self._lock:
            if self._idle:
                return
            self._idle += 1
        try:
            # Not by threading.Thread, whose `start` waits forever if the new thread has no memory to begin with.
            _thread.start_new_thread(self._serve, ())
        except BaseException:
            with self._lock:
                self._idle -= 1
            self.ready = False
            raise

    def _serve(self) -> None:
        """What a worker's thread runs."""
        adopt()
        try:
            self._work()
        finally:
            release()
            # A look at the thread's name, as by `logging`, makes an entry that Python 3.11 would keep for ever.
            getattr(threading, "_active", {}).pop(get_ident(), None)

    def _work(self) -> None:
        while True:
            job = self.jobs.get()
            with self._lock:
                self._idle -= 1
            with suppress(*NO_THREAD):  # without another thread, the next job waits for this one
                self._more()
            job()
            del job  # what it refers to must not live until the next job
            with self._lock:
                if self._idle >= IDLE:
                    return
                self._idle += 1


_pool = _Pool()


def is_current(thread: threading.Thread | None) -> bool:
    """Whether it is the calling one. Unlike `threading.current_thread`, this makes no entry for a worker in
    `threading.enumerate`, which shows users threads that are none of theirs.
    """
    return thread is not None and thread.ident == get_ident() and thread.is_alive()


def submit(function: Callable[[], object]) -> None:
    """Have a worker call `function` soon. Its exceptions are lost. Never waits."""
    _pool.put(function)


def call(function: Callable[[], R], undo: Callable[[R], object] | None = None) -> R:
    """Call `function` on one of Raddle's own threads: on this one, or on a worker, for which this waits. Returns its
    result, or raises its exception.

    If another exception ends the waiting, the worker still finishes the call, and then calls `undo` with the result.
    """
    if get_ident() in _own:
        return function()
    job = _Job(function, undo)
    try:
        _pool.put(job.run)
        while not job.done.wait(PATIENCE):
            if not _thread._count():  # the worker's thread had no memory to begin with
                raise MemoryError
        if job.error is None:
            return job.result  # type: ignore[no-any-return]
    except BaseException:
        job.abandon()
        raise
    error, job.error = job.error, None  # its traceback refers to this frame: leave no cycle of references
    try:
        raise error
    finally:
        del error


def handed_over(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Decorator of methods that take locks: they run on one of Raddle's own threads. See `call`."""

    @wraps(method)
    def handed(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
        if get_ident() in _own:
            return method(self, *args, **kwargs)
        return call(lambda: method(self, *args, **kwargs))

    return handed  # type: ignore[return-value]


def _after_fork() -> None:
    """In a forked child, which has only the thread that forked it."""
    global _pool
    _pool = _Pool()
    _own.intersection_update({get_ident()})


os.register_at_fork(after_in_child=_after_fork)
