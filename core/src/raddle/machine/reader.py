# SPDX-License-Identifier: Apache-2.0
"""Threads of character devices: one waits for files and reads them, one does what has been typed."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from raddle import workers

if TYPE_CHECKING:
    from queue import SimpleQueue

    from raddle.machine.chardev import CharDevice

__all__ = ["READ_SIZE", "Reader", "Sequence", "fail"]

READ_SIZE: Final = 4096


class Reader:
    """A thread that waits for files to become ready, or for a time to come, and can be told to stop."""

    def __init__(self, name: str, device: CharDevice) -> None:
        self._device = device
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.watch(self._wake_read, select.POLLIN, self._awake)
        self._later: tuple[float, Callable[[], None]] | None = None
        """When to do what, by the monotonic clock. The thread's own."""
        self._stop = False
        self._thread = workers.Thread(self._loop, name)

    def start(self) -> None:
        """Raises MachineError when there is no room for one more thread."""
        self._thread.start_to("reads input")

    def watch(self, file: int, events: int, handler: Callable[[int], None]) -> None:
        """Call `handler` on the thread with the events of poll(2) that have come: `events`, which replace those that
        were asked for before, and errors. Another thread has to `wake` this one then.
        """
        self._handlers[file] = handler
        self._poll.register(file, events)

    def forget(self, file: int) -> None:
        """Watch the file no longer, if it was."""
        if self._handlers.pop(file, None) is not None:
            self._poll.unregister(file)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do this after so many seconds, instead of what was put off before. On the thread only."""
        self._later = (time.monotonic() + seconds, action)

    def wake(self) -> None:
        """Have the thread look at what is watched again."""
        with contextlib.suppress(OSError):  # full: it will wake anyway; closed: there is nobody to wake
            os.write(self._wake_write, b"!")

    def _awake(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, READ_SIZE)

    def stop(self) -> None:
        """End the thread, and wait for it unless it is the one that asks."""
        self._stop = True
        self.wake()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _loop(self) -> None:
        try:
            while not self._stop:
                for file, events in self._poll.poll(self._milliseconds()):
                    handler = self._handlers.get(file)
                    if handler is not None and not self._stop:
                        handler(events)
                if self._later is not None and self._later[0] <= time.monotonic() and not self._stop:
                    (_, action), self._later = self._later, None
                    action()
        except Exception as error:
            fail(self._device, error)

    def _milliseconds(self) -> float | None:
        """Until what was put off is to be done."""
        return None if self._later is None else max(0.0, self._later[0] - time.monotonic()) * 1000


class Sequence:
    """A thread that does what it is given, in order, so that whoever gives it waits for nothing."""

    def __init__(self, name: str, device: CharDevice) -> None:
        from queue import SimpleQueue  # late: only a terminal needs it

        self._device = device
        self._actions: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._stop = False
        self._thread = workers.Thread(self._loop, name)

    def start(self) -> None:
        """Raises MachineError when there is no room for one more thread."""
        self._thread.start_to("does what is typed")

    def put(self, action: Callable[[], object]) -> None:
        """Do this after what was put before, unless the thread is stopped or something has failed until then."""
        self._actions.put(action)

    def stop(self) -> None:
        """Begin nothing more, and wait for the end of what was begun unless it is that which asks."""
        self._stop = True
        self._actions.put(None)
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _loop(self) -> None:
        try:
            while (action := self._actions.get()) is not None and not self._stop:
                action()
        except Exception as error:
            fail(self._device, error)


def fail(device: CharDevice, error: Exception) -> None:
    """Tell of an error on one of the device's threads, which ends."""
    if device.on_failure is None:
        raise error
    device.on_failure(error)
