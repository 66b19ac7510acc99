# SPDX-License-Identifier: Apache-2.0
"""Character devices on what the host's kernel offers: the terminal, sockets and pseudo-terminals."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import sys
import termios
import threading
import tty
from collections.abc import Callable
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from raddle.errors import UsageError
from raddle.machine.chardev import BACKLOG_LIMIT, INPUT_LIMIT, CharDevice, FileDevice, MemoryConsole, NullDevice
from raddle.machine.outlet import Outlet

if TYPE_CHECKING:
    import socket
    from queue import SimpleQueue

__all__ = ["ESCAPE_HELP", "Command", "EscapeFilter", "PtyDevice", "SocketDevice", "StdioDevice", "parse_chardev"]

READ_SIZE: Final = 4096
OUTPUT_LIMIT: Final = 1 << 20
"""Bytes that wait for a peer who does not read; older ones are dropped, the guest is not held up."""

GONE: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR
"""The peer sends nothing any more; what it has sent may still be there to read."""

PATIENCE: Final = 0.2
"""Seconds between two looks whether a wait for a peer was interrupted."""

GRACE: Final = 0.5
"""Seconds for what was typed before Ctrl-A X to be done."""

ESCAPE: Final = 0x01
"""Ctrl-A."""

ESCAPE_HELP: Final = (
    "\r\nCtrl-A H  this help\r\nCtrl-A X  exit\r\nCtrl-A C  switch between console and monitor\r\n"
    "Ctrl-A A  send Ctrl-A\r\n"
)


class Command(Enum):
    """What a user asks for with Ctrl-A and a key."""

    QUIT = ord("x")
    MONITOR = ord("c")
    HELP = ord("h")


class EscapeFilter:
    """Tells typed bytes from Ctrl-A commands, however they are cut into pieces."""

    def __init__(self) -> None:
        self._escaped = False

    def feed(self, data: bytes) -> list[bytes | Command]:
        """What was typed, in order. Ctrl-A followed by Ctrl-A or A is a Ctrl-A; unknown keys are dropped."""
        result: list[bytes | Command] = []
        plain = bytearray()
        for byte in data:
            if not self._escaped:
                if byte == ESCAPE:
                    self._escaped = True
                else:
                    plain.append(byte)
                continue
            self._escaped = False
            key = byte | 0x20 if 0x41 <= byte <= 0x5A else byte
            if key in (ESCAPE, ord("a")):
                plain.append(ESCAPE)
            elif key in {command.value for command in Command}:
                if plain:
                    result.append(bytes(plain))
                    plain.clear()
                result.append(Command(key))
        if plain:
            result.append(bytes(plain))
        return result


class _Reader:
    """A thread that waits for files to become ready, and can be told to stop."""

    def __init__(self, name: str, device: CharDevice) -> None:
        self._device = device
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.watch(self._wake_read, select.POLLIN, self._awake)
        self._stop = False
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

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
        while not self._stop:
            for file, events in self._poll.poll():
                handler = self._handlers.get(file)
                if handler is None or self._stop:
                    continue
                try:
                    handler(events)
                except Exception as error:
                    _fail(self._device, error)
                    return


class _Sequence:
    """A thread that does what it is given, in order, so that whoever gives it waits for nothing."""

    def __init__(self, name: str, device: CharDevice) -> None:
        from queue import SimpleQueue  # late: only a terminal needs it

        self._device = device
        self._actions: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._stop = False
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

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
            _fail(self._device, error)


def _fail(device: CharDevice, error: Exception) -> None:
    """Tell of an error on one of the device's threads, which ends."""
    if device.on_failure is None:
        raise error
    device.on_failure(error)


class StdioDevice(CharDevice):
    """The process's standard input and output. A terminal is raw while the device is open, and is put back after.

    With `commands`, Ctrl-A begins a command, and signal keys go to the guest; without, Ctrl-C ends the program.

    A terminal is always read, so that commands are seen whatever the guest does; of anything else, nothing is lost.
    What comes of what is typed may wait: for the big lock, which a vCPU has while it waits for who reads the output, or
    for that reader. So a thread of its own does it, and the one that reads does nothing but Ctrl-A X.
    """

    def __init__(self, commands: bool = True) -> None:
        super().__init__()
        self._filter = EscapeFilter() if commands else None
        self._reader: _Reader | None = None
        self._typed: _Sequence | None = None
        """What is done about a terminal's input; None for anything else, whose reader does it."""
        self._pending = 0
        """Bytes that were typed and are in that. Under the lock of `_changed`."""
        self._saved: list[Any] | None = None
        self._outlet: Outlet | None = None
        if sys.stdout is not None:  # it is, where the process was started without: what is open as 1 is something else
            self._outlet = Outlet("the standard output", 1, shared=True)
        self.on_command: Callable[[Command], None] = lambda command: None
        """Called in order with what else was typed, but for QUIT: that is not held up by what was typed before it."""
        self.divert: Callable[[bytes], None] | None = None
        """Takes typed bytes instead of the guest (the monitor, while it is open)."""

    def start(self) -> None:
        if sys.stdout is not None:
            sys.stdout.flush()
        if sys.stdin is None:  # the process was started without a standard input
            return
        if os.isatty(0):
            self._make_raw()
            self._typed = _Sequence("raddle-typed", self)
            self._typed.start()
        self._reader = _Reader("raddle-stdio", self)
        self._reader.watch(0, select.POLLIN, self._readable)
        self._reader.start()

    def _make_raw(self) -> None:
        self._saved = termios.tcgetattr(0)
        atexit.register(self._restore)
        raw = termios.tcgetattr(0)
        raw[0] &= ~(termios.BRKINT | termios.ICRNL | termios.INLCR | termios.IGNCR | termios.ISTRIP | termios.IXON)
        raw[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN)
        if self._filter is not None:
            raw[3] &= ~termios.ISIG
        termios.tcsetattr(0, termios.TCSADRAIN, raw)

    def _restore(self) -> None:
        if self._saved is not None:
            with contextlib.suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(0, termios.TCSADRAIN, self._saved)
            self._saved = None
            atexit.unregister(self._restore)

    def _readable(self, _: int) -> None:
        reader = self._reader
        assert reader is not None
        try:
            data = os.read(0, READ_SIZE)
        except OSError:
            data = b""
        if not data:  # the end of the input, not of the machine
            reader.forget(0)
            return
        parts = self._filter.feed(data) if self._filter else [data]
        if self._typed is not None:
            for part in parts:
                self._put(self._typed, part)
            return
        for part in parts:
            self._do(part)
        with self._changed:
            if len(self._input) >= INPUT_LIMIT:
                reader.forget(0)

    def _do(self, part: bytes | Command) -> None:
        if isinstance(part, Command):
            self.on_command(part)
        elif self.divert is not None:
            self.divert(part)
        else:
            self._keep(part)

    def _put(self, typed: _Sequence, part: bytes | Command) -> None:
        """Have it done by the other thread."""
        if part is Command.QUIT:
            done = threading.Event()
            typed.put(done.set)
            done.wait(GRACE)
            self.on_command(part)
        elif isinstance(part, Command):
            typed.put(partial(self._do, part))
        else:
            with self._changed:
                kept = part[: BACKLOG_LIMIT - self._pending]
                self._pending += len(kept)
            if kept:
                typed.put(partial(self._do_typed, kept))

    def _do_typed(self, data: bytes) -> None:
        with self._changed:
            self._pending -= len(data)
        self._do(data)

    def _read_on(self) -> None:
        if self._reader is not None and self._typed is None:
            self._reader.watch(0, select.POLLIN, self._readable)
            self._reader.wake()

    def write(self, data: bytes) -> None:
        if self._outlet is not None:
            self._outlet.write(data)

    def hang_up(self) -> None:
        if self._outlet is not None:
            self._outlet.hang_up()

    def close(self) -> None:
        already = self._closed
        super().close()
        if not already:
            self.hang_up()  # its threads may wait for the reader, too, with what a monitor says
            self._restore()
            if self._reader is not None:
                self._reader.stop()
            if self._typed is not None:
                self._typed.stop()
            if self._outlet is not None:
                self._outlet.close()


class _PeerDevice(CharDevice):
    """A device whose peer comes and goes and may not read: output waits, up to a limit."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._reader = _Reader(name, self)
        self._output = bytearray()
        self._peer: int | None = None

    def write(self, data: bytes) -> None:
        with self._changed:
            if self._peer is None or self._closed:
                return  # nobody listens
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
            self._output.clear()  # the peer has left; reading will tell the same

    def _watch(self, peer: int) -> None:
        """Look for what is to be done with the peer now. Under the lock of `_changed`."""
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
        """Take what the peer has sent: all of it if it has gone. Whether it is there still."""
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


class SocketDevice(_PeerDevice):
    """A listening socket that serves one peer at a time."""

    def __init__(self, listener: socket.socket, where: str, wait: bool) -> None:
        super().__init__("raddle-socket")
        self._listener = listener
        self._connection: socket.socket | None = None
        self._wait = wait
        self.where: Final = where

    def wait_for_peer(self) -> None:
        if self._wait and self._connection is None:
            print(f"raddle: waiting for a connection on {self.where}", file=sys.stderr, flush=True)
            # In pieces: a signal that comes just before the system call does not interrupt it.
            while not select.select([self._listener], [], [], PATIENCE)[0]:
                continue
            self._accept(0)

    def start(self) -> None:
        self.wait_for_peer()
        self._listener.setblocking(False)
        self._reader.watch(self._listener.fileno(), select.POLLIN, self._accept)
        self._reader.start()

    def _accept(self, _: int) -> None:
        try:
            connection, _peer = self._listener.accept()
        except BlockingIOError:
            return
        if self._connection is not None:
            self._see_off(self._connection.fileno())
        if self._connection is not None:
            connection.close()  # one at a time
            return
        self._connection = connection
        self._attach(connection.fileno())

    def _see_off(self, peer: int) -> None:
        """Should the peer have gone, which the thread may not have come to see yet, the next one is welcome."""
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


class PtyDevice(_PeerDevice):
    """A new pseudo-terminal, whose name is `path`."""

    def __init__(self) -> None:
        super().__init__("raddle-pty")
        try:
            self._master, self._slave = os.openpty()
        except OSError as error:
            raise UsageError(f"cannot open a pty: {error.strerror}") from None
        tty.setraw(self._slave)
        # The slave stays open, so that a user's program may come and go.
        self.path: Final = os.ttyname(self._slave)

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

KNOWN: Final = (
    "stdio",
    "mon:stdio",
    "null",
    "none",
    "file:PATH",
    "pty",
    "unix:PATH,server=on",
    "tcp:HOST:PORT,server=on",
)


def parse_chardev(text: str) -> CharDevice:
    """The character device that `-serial` or `-monitor` names; it is open, but not started.

    Raises UsageError for one that is unknown or cannot be opened.
    """
    kind, _, rest = text.partition(":")
    match kind:
        case "stdio" if not rest:
            return StdioDevice(commands=False)
        case "mon" if rest == "stdio":
            return StdioDevice(commands=True)
        case "null" | "none" if not rest:
            return NullDevice()
        case "memory" if not rest:
            return MemoryConsole()
        case "pty" if not rest:
            return PtyDevice()
        case "file" if rest:
            return FileDevice(rest)
        case "unix" | "tcp" if rest:
            return _parse_socket(kind, rest)
    raise UsageError(f"character device {text!r} is not supported (known: {', '.join(KNOWN)})")


def _parse_socket(kind: str, text: str) -> SocketDevice:
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
                pass  # what is written is sent at once anyway
            case _:
                raise UsageError(f"socket setting {setting!r} is not supported (known: server=on, wait=on, wait=off)")
    if not server:
        raise UsageError(f"{kind}:{where} needs server=on: connecting to a socket is not supported")
    address: Any = where
    if kind == "tcp":
        host, colon, port = where.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 0xFFFF:
            raise UsageError(f"tcp:{where} is not tcp:HOST:PORT")
        address = (host.strip("[]"), int(port))
    import socket  # late: most machines have none

    family = socket.AF_UNIX if kind == "unix" else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if kind == "tcp":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1)
    except (OSError, ValueError) as error:
        listener.close()
        raise UsageError(f"cannot listen on {kind}:{where}: {getattr(error, 'strerror', None) or error}") from None
    return SocketDevice(listener, f"{kind}:{where}", wait)
