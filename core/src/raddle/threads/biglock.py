# SPDX-License-Identifier: Apache-2.0
"""The big lock, which guards devices, as Python takes it."""

from __future__ import annotations

import threading
from typing import Any

from raddle import workers
from raddle.errors import machine_closed
from raddle.runtime._native import lib


class BigLock:
    """The native recursive big lock as a context manager. Waiting for it releases the GIL."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._owner = 0
        self._depth = 0
        self._adopted = False
        """While the owner has the lock, it counts as one of Raddle's own threads: otherwise a worker might wait for the
        lock."""
        self.timer_thread = 0
        """The thread that is calling a timer's callback, under the lock; 0 when there is none."""

    def close(self) -> None:
        """The context is about to be freed: taking the lock from now on raises MachineError."""
        self._context = None

    def __enter__(self) -> None:
        if self._context is None:
            raise machine_closed()
        lib.raddle_big_lock(self._context)
        self._owner = threading.get_ident()
        self._depth += 1
        if self._depth == 1:
            self._adopted = workers.adopt()

    def __exit__(self, *exception: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = 0
            if self._adopted:
                workers.release()
        lib.raddle_big_unlock(self._context)

    @property
    def owner(self) -> int:
        """The ident of the thread that took it here; 0 for none, or a vCPU's in an access or a timer's."""
        return self._owner

    @property
    def held(self) -> bool:
        """Whether the calling thread, which must not be a vCPU's, holds it."""
        return threading.get_ident() in (self._owner, self.timer_thread)
