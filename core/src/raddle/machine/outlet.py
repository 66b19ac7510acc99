# SPDX-License-Identifier: Apache-2.0
"""Output to a file whose reader may take its time, or read nothing at all."""

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
"""Milliseconds between two looks whether the reader is to be waited for any longer."""

MASTERS: Final = os.makedev(5, 2)
"""The device number of the master sides of all pseudo-terminals. Whoever opens it again has made another one."""


class Outlet:
    """Writes to one file. Any thread may call the methods; one at a time writes."""

    def __init__(self, name: str, file: int, shared: bool = False) -> None:
        """To the descriptor `file`, which from now on is the outlet's own, or, if `shared`, is left as it is: others
        write to what it stands for, and take it for granted that writing waits. A shared terminal that may not be
        opened again, and the master side of one, are written as others write them: until there is room, `hang_up`
        does not help.
        """
        self._name = name
        self._file = file
        self._lock = threading.Lock()
        """One writes at a time. Held while the reader is waited for; nothing else is waited for under it."""
        self._hung_up = False
        self._over = False
        """Something was dropped, or the file is closed: so is everything that follows dropped."""
        self._put: Callable[[bytes], int] = partial(os.write, file)
        """Writes some of what it is given; raises BlockingIOError where it would have to wait."""
        self._close: Callable[[], object] = lambda: None
        if not shared:
            os.set_blocking(file, False)
            self._close = partial(os.close, file)
        else:
            self._share(file)

    def _share(self, file: int) -> None:
        """Have a way of writing that does not wait, without a change for others."""
        try:
            status = os.fstat(file)
        except OSError:  # it is closed, and writing will tell
            return
        if stat.S_ISSOCK(status.st_mode):
            import socket  # late: it seldom is one

            connection = socket.socket(fileno=os.dup(file))
            self._put = lambda data: connection.send(data, socket.MSG_DONTWAIT)
            self._close = connection.close
        elif stat.S_ISFIFO(status.st_mode) or (os.isatty(file) and status.st_rdev != MASTERS):
            try:
                again = os.open(f"/proc/self/fd/{file}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            except OSError:  # another user's, or nobody reads it any more
                if stat.S_ISFIFO(status.st_mode):
                    self._put = self._put_what_fits
            else:
                self._put = partial(os.write, again)
                self._close = partial(os.close, again)

    def _put_what_fits(self, data: bytes) -> int:
        """Into a pipe whose writers wait. This one does not, unless somebody else fills it in between."""
        if not self._has_room(0):
            raise BlockingIOError
        return os.write(self._file, data[: select.PIPE_BUF])

    def _has_room(self, milliseconds: int) -> bool:
        poll = select.poll()
        poll.register(self._file, select.POLLOUT)
        return bool(poll.poll(milliseconds))

    def write(self, data: bytes) -> None:
        """Write all of it, however long the reader takes. After `hang_up` what cannot be written at once is dropped,
        and all that follows: what was written is the beginning of what was sent. Raises OutputError.
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
        """Wait for the reader no longer. Waits for nothing: a signal's handler may call it."""
        self._hung_up = True

    def close(self) -> None:
        """Write nothing any more; who waits for the reader goes on. May be called twice."""
        self.hang_up()
        with self._lock:
            self._over = True
            close, self._close = self._close, lambda: None
            close()
