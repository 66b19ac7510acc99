# SPDX-License-Identifier: Apache-2.0
"""Character devices whose peers come and go: sockets and pseudo-terminals."""

from __future__ import annotations

import contextlib
import os
import select
import tty
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from raddle import kinds, workers
from raddle.errors import MachineError, UsageError
from raddle.machine.chardev import INPUT_LIMIT, CharDevice
from raddle.machine.reader import READ_SIZE, Reader
from raddle.notices import notice, warn

if TYPE_CHECKING:
    import socket

__all__ = ["PeerDevice", "PtyDevice", "SocketDevice", "open_socket"]

OUTPUT_LIMIT: Final = 1 << 20
"""Bytes that wait for a peer that does not read; older ones are dropped, and the guest is not delayed."""

GONE: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR
"""The peer sends nothing any more; there may still be data from it to read."""

PATIENCE: Final = 0.2
"""Seconds between two checks whether a wait for a peer was interrupted."""

RETRY: Final = 0.5
"""Seconds between two tries to accept a peer."""

LOOPBACK: Final = "127.0.0.1"
"""Where tcp::PORT listens: whoever connects has the guest's console, without a password."""


class PeerDevice(CharDevice):
    """A device whose peer comes and goes, and may not read: output waits, up to a limit."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._reader = Reader(name, self)
        self._output = bytearray()
        self._peer: int | None = None

    def write(self, data: bytes) -> None:
        kinds.raw("what is sent", data)
        with self._changed:
            if self._peer is None or self._closed:
                return  # there is no peer
            self._output += data
            del self._output[: max(0, len(self._output) - OUTPUT_LIMIT)]
            self._flush(self._peer)
            if self._output:
                self._watch(self._peer)
                self._reader.wake()

    def _flush(self, peer: int) -> None:
        """Write what the peer takes. Under the lock of `_changed`."""
        try:
            while self._output:
                del self._output[: os.write(peer, self._output)]
        except BlockingIOError:
            pass
        except OSError:
            self._output.clear()  # the peer has left: reading will find that, too

    def _watch(self, peer: int) -> None:
        """Watch the peer for what can be done now. Under the lock of `_changed`."""
        reading = select.POLLIN if len(self._input) < INPUT_LIMIT else 0
        writing = select.POLLOUT if self._output else 0
        self._reader.watch(peer, select.POLLRDHUP | reading | writing, self._ready)

    def _read_on(self) -> None:
        if self._peer is not None:
            self._watch(self._peer)
            self._reader.wake()

    def _attach(self, peer: int) -> None:
        os.set_blocking(peer, False)
        with self._changed:
            self._peer = peer
            self._watch(peer)

    def _ready(self, events: int) -> None:
        peer = self._peer
        if peer is None:
            return
        if events & select.POLLOUT:
            with self._changed:
                self._flush(peer)
        if not self._read(peer, events):
            self._left(peer)
            return
        with self._changed:
            self._watch(peer)

    def _read(self, peer: int, events: int) -> bool:
        """Read the peer's data; all of it if the peer has left. Returns whether the peer is still there."""
        while events & (select.POLLIN | GONE):
            try:
                data = os.read(peer, READ_SIZE)
            except BlockingIOError:
                break
            except OSError:
                return False
            if not data:
                return False
            self._keep(data)
            events &= GONE
        return True

    def _left(self, peer: int) -> None:
        """The peer has gone."""
        with self._changed:
            self._reader.forget(peer)
            self._peer = None
            self._output.clear()

    def close(self) -> None:
        already = self._closed
        super().close()
        if not already:
            self._reader.stop()


class SocketDevice(PeerDevice):
    """A listening socket that serves one peer at a time."""

    def __init__(self, listener: socket.socket, where: str, wait: bool) -> None:
        super().__init__("raddle-socket")
        self._listener = listener
        listener.setblocking(False)  # of two threads that wait for a peer, one finds none
        self._connection: socket.socket | None = None
        self._wait = wait
        self._refused = False
        """The user was warned that a peer could not connect."""
        self.where: Final = where

    def wait_for_peer(self) -> None:
        if not self._wait or self._connection is not None:
            return
        notice(f"waiting for a connection on {self.where}")
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        while self._connection is None:
            # Wait in pieces: a signal just before the system call does not interrupt the call.
            while not self._ended.is_set() and not poll.poll(PATIENCE * 1000):
                continue
            # If the listener is closed meanwhile, this finds nothing, or an invalid descriptor.
            if self._ended.is_set():
                raise MachineError(f"the machine was stopped while it waited for a connection on {self.where}")
            if not workers.call(self._accept):
                self._ended.wait(PATIENCE)

    def start(self) -> None:
        self.wait_for_peer()
        self._listen()
        self._reader.start()

    def _listen(self) -> None:
        self._reader.watch(self._listener.fileno(), select.POLLIN, self._knocked)

    def _knocked(self, _: int) -> None:
        if not self._accept():
            # The listener is ready for as long as the peer waits: without a pause, this loop would use a whole core.
            self._reader.forget(self._listener.fileno())
            self._reader.later(RETRY, self._listen)

    def _accept(self) -> bool:
        """Accept the waiting peer. False if there are no resources for it: then it still waits."""
        try:
            connection, _peer = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # it did not wait
            return True
        except OSError as error:  # no descriptor or memory is free; other programs may free some
            if self._closed:
                return True
            if not self._refused:
                self._refused = True
                warn(f"cannot let a peer in on {self.where}: {error.strerror}; trying again until I can")
            return False
        if self._connection is not None:
            self._see_off(self._connection.fileno())
        with self._changed:
            if self._connection is not None or self._closed:
                connection.close()  # one peer at a time
                return True
            self._connection = connection
            self._attach(connection.fileno())
        return True

    def _see_off(self, peer: int) -> None:
        """If the peer has left, which the thread may not have noticed yet, accept the next one."""
        poll = select.poll()
        poll.register(peer, select.POLLRDHUP)
        for _, events in poll.poll(0):
            self._ready(events)

    def _left(self, peer: int) -> None:
        super()._left(peer)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        already = self._closed
        super().close()
        if already:
            return
        if self._connection is not None:
            self._connection.close()
        if self.where.startswith("unix:"):
            with contextlib.suppress(OSError):
                Path(self._listener.getsockname()).unlink()
        self._listener.close()


class PtyDevice(PeerDevice):
    """A new pseudo-terminal, whose name is `path`."""

    def __init__(self) -> None:
        super().__init__("raddle-pty")
        try:
            self._master, self._slave = os.openpty()
        except OSError as error:
            raise UsageError(f"cannot open a pty: {error.strerror}") from None
        tty.setraw(self._slave)
        # The slave stays open, so that the user's program may come and go.
        self.path: Final = os.ttyname(self._slave)
        self.notes = (f"character device on {self.path}",)

    def start(self) -> None:
        self._attach(self._master)
        self._reader.start()

    def close(self) -> None:
        already = self._closed
        super().close()
        if not already:
            os.close(self._master)
            os.close(self._slave)


# --- options ----------------------------------------------------------------------------------------------------


def open_socket(kind: str, text: str) -> SocketDevice:
    """A listening socket for what follows `unix:` or `tcp:`. Raises UsageError."""
    where, *settings = text.split(",")
    server, wait = False, True
    for setting in settings:
        match setting:
            case "server" | "server=on":
                server = True
            case "wait" | "wait=on":
                wait = True
            case "nowait" | "wait=off":
                wait = False
            case "nodelay" | "nodelay=on" | "nodelay=off" if kind == "tcp":
                pass  # output is sent at once anyway
            case _:
                raise UsageError(f"socket setting {setting!r} is not supported (known: server=on, wait=on, wait=off)")
    if not server:
        raise UsageError(f"{kind}:{where} needs server=on: connecting to a socket is not supported")
    if kind == "unix":
        return SocketDevice(_listener(kind, where, where), f"unix:{where}", wait)
    host, colon, port = where.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 0xFFFF:
        raise UsageError(f"tcp:{where} is not tcp:HOST:PORT")
    listener = _listener(kind, where, (host.strip("[]") or LOOPBACK, int(port)))
    found, number, *_ = listener.getsockname()
    bracketed = f"[{found}]" if ":" in found else found
    device = SocketDevice(listener, f"tcp:{host or bracketed}:{number}", wait)
    notes = [f"character device on tcp:{bracketed}:{number}"] if int(port) == 0 else []
    if not (found.startswith("127.") or found == "::1"):
        notes.append(
            f"warning: other hosts can connect to tcp:{bracketed}:{number}, and nobody asks them for a password; "
            f"tcp:{LOOPBACK}:{number} is for this host alone"
        )
    device.notes = tuple(notes)
    return device


def _listener(kind: str, where: str, address: Any) -> socket.socket:
    import socket  # late: most machines have no socket

    family = socket.AF_UNIX if kind == "unix" else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(f"cannot listen on {kind}:{where}: {error.strerror}") from None
    try:
        if kind == "tcp":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1)
    except (OSError, ValueError, TypeError) as error:  # TypeError: a NUL in a host's name
        listener.close()
        raise UsageError(f"cannot listen on {kind}:{where}: {getattr(error, 'strerror', None) or error}") from None
    return listener
