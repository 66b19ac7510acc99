# SPDX-License-Identifier: Apache-2.0
"""Output to a file whose reader may be slow, or may never read."""

from __future__ import annotations

import os
import select
import stat
import threading
from collections.abc import Callable
from functools import partial
from typing import Final

from raddle import kinds
from raddle.errors import OutputError

__all__ = ["Outlet"]

LOOK_MS: Final = 100
"""Milliseconds between two checks whether to wait for the reader any longer."""

MASTERS: Final = os.makedev(5, 2)
"""The device number of the master sides of all pseudo-terminals. Opening it again would make another
pseudo-terminal."""


class Outlet:
    """Writes to one file. Any thread may call the methods; one thread writes at a time."""

    def __init__(self, name: str, file: int, shared: bool = False) -> None:
        """Write to the descriptor `file`. The outlet owns it from now on; if `shared`, the outlet does not change it,
        because other processes write to the same file and expect that writing waits. A shared terminal that cannot be
        opened again, and the master side of a terminal, are written as others write them: there `hang_up` has no effect
        until there is room.
        """
        self._name = name
        self._file = file
        self._lock = threading.Lock()
        """One thread writes at a time, and waits for the reader under this lock, but for nothing else."""
        self._hung_up = False
        self._over = False
        """Something was dropped, or the file is closed, so everything that follows is dropped, too."""
        self._put: Callable[[bytes], int] = partial(os.write, file)
        """Writes a part of its data; raises BlockingIOError instead of waiting."""
        self._close: Callable[[], object] = lambda: None
        if not shared:
            os.set_blocking(file, False)
            self._close = partial(os.close, file)
        else:
            self._share(file)

    def _share(self, file: int) -> None:
        """Find a way of writing without waiting that changes nothing for others."""
        try:
            status = os.fstat(file)
        except OSError:  # it is closed: writing will raise the error
            return
        if stat.S_ISSOCK(status.st_mode):
            import socket  # late: it is seldom a terminal

            connection = socket.socket(fileno=os.dup(file))
            self._put = lambda data: connection.send(data, socket.MSG_DONTWAIT)
            self._close = connection.close
        elif stat.S_ISFIFO(status.st_mode) or (os.isatty(file) and status.st_rdev != MASTERS):
            try:
                again = os.open(f"/proc/self/fd/{file}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            except OSError:  # another user's, or without a reader
                if stat.S_ISFIFO(status.st_mode):
                    self._put = self._put_what_fits
            else:
                self._put = partial(os.write, again)
                self._close = partial(os.close, again)

    def _put_what_fits(self, data: bytes) -> int:
        """Write to a pipe whose writers wait. This does not wait, unless another writer fills the pipe in between."""
        if not self._has_room(0):
            raise BlockingIOError
        return os.write(self._file, data[: select.PIPE_BUF])

    def _has_room(self, milliseconds: int) -> bool:
        poll = select.poll()
        poll.register(self._file, select.POLLOUT)
        return bool(poll.poll(milliseconds))

    def write(self, data: bytes) -> None:
        """Write all data, however long the reader takes. After `hang_up`, data that cannot be written at once is
        dropped, and everything after it: so the reader gets the beginning of the output. Raises OutputError.
        """
        kinds.raw("what is sent", data)
        with self._lock:
            try:
                while data and not self._over:
                    try:
                        data = data[self._put(data) :]
                    except BlockingIOError:
                        if self._hung_up:
                            self._over = True
                        else:
                            self._has_room(LOOK_MS)
            except OSError as error:
                if not self._hung_up:
                    raise OutputError(self._name, error.strerror) from error
                self._over = True

    def hang_up(self) -> None:
        """Do not wait for the reader any more. Does not wait: a signal handler may call it."""
        self._hung_up = True

    def close(self) -> None:
        """Write nothing any more, and end a wait for the reader. May be called twice."""
        self.hang_up()
        with self._lock:
            self._over = True
            close, self._close = self._close, lambda: None
            close()
