# SPDX-License-Identifier: Apache-2.0
"""Threads of character devices: one waits for files and reads them, one handles typed input."""

from __future__ import annotations

import contextlib
import os
import select
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
    """A thread that waits for files to become ready, or for a time, and can be stopped."""

    def __init__(self, name: str, device: CharDevice) -> None:
        self._device = device
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.watch(self._wake_read, select.POLLIN, self._awake)
        self._later: tuple[float, Callable[[], None]] | None = None
        """What to do when, by the monotonic clock. Used only by the thread."""
        self._stop = False
        self._thread = workers.Thread(self._loop, name)

    def start(self) -> None:
        """Raises MachineError when there is no room for one more thread."""
        self._thread.start_to("reads input")

    def watch(self, file: int, events: int, handler: Callable[[int], None]) -> None:
        """Call `handler` on the thread with the events of poll(2): `events`, which replace earlier ones, and errors. If
        another thread calls this, it must `wake` the thread afterwards.
        """
        self._handlers[file] = handler
        self._poll.register(file, events)

    def forget(self, file: int) -> None:
        """Do not watch the file any more."""
        if self._handlers.pop(file, None) is not None:
            self._poll.unregister(file)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do this after so many seconds; replaces an earlier delayed call. Only on the thread."""
        self._later = (time.monotonic() + seconds, action)

    def wake(self) -> None:
        """Make the thread look at the watched files again."""
        with contextlib.suppress(OSError):  # full: it will wake anyway; closed: there is no thread
            os.write(self._wake_write, b"!")

    def _awake(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, READ_SIZE)

    def stop(self) -> None:
        """End the thread, and wait for it unless it is the calling one."""
        self._stop = True
        self.wake()
        if self._thread.ident is not None and not workers.is_current(self._thread):
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
        """Milliseconds until the delayed call."""
        return None if self._later is None else max(0.0, self._later[0] - time.monotonic()) * 1000


class Sequence:
    """A thread that makes calls in order, so that the threads that queue them need not wait."""

    def __init__(self, name: str, device: CharDevice) -> None:
        from queue import SimpleQueue  # late: only terminals need it

        self._device = device
        self._actions: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._stop = False
        self._thread = workers.Thread(self._loop, name)

    def start(self) -> None:
        """Raises MachineError when there is no room for one more thread."""
        self._thread.start_to("does what is typed")

    def put(self, action: Callable[[], object]) -> None:
        """Do this after earlier calls, unless the thread is stopped or a call has failed before."""
        self._actions.put(action)

    def stop(self) -> None:
        """Make no more calls, and wait for the current one unless that is calling."""
        self._stop = True
        self._actions.put(None)
        if self._thread.ident is not None and not workers.is_current(self._thread):
            self._thread.join()

    def _loop(self) -> None:
        try:
            while (action := self._actions.get()) is not None and not self._stop:
                action()
        except Exception as error:
            fail(self._device, error)


def fail(device: CharDevice, error: Exception) -> None:
    """Report an error on one of the device's threads, which ends."""
    if device.on_failure is None:
        raise error
    device.on_failure(error)
