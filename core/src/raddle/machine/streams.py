# SPDX-License-Identifier: Apache-2.0
"""The terminal as a character device, with its escape keys; and the parser for the names of all character devices."""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Final

from raddle.errors import UsageError
from raddle.machine.chardev import BACKLOG_LIMIT, INPUT_LIMIT, CharDevice, FileDevice, MemoryConsole, NullDevice
from raddle.machine.outlet import Outlet
from raddle.machine.peers import PtyDevice, open_socket
from raddle.machine.reader import READ_SIZE, Reader, Sequence
from raddle.machine.terminal import RawTerminal

__all__ = ["ESCAPE_HELP", "Command", "EscapeFilter", "StdioDevice", "parse_chardev"]

GRACE: Final = 0.5
"""Seconds for handling what was typed before Ctrl-A X."""

ESCAPE: Final = 0x01
"""Ctrl-A."""

ESCAPE_HELP: Final = (
    "\r\nCtrl-A H  this help\r\nCtrl-A X  exit\r\nCtrl-A C  switch between console and monitor\r\n"
    "Ctrl-A A  send Ctrl-A\r\n"
)


class Command(Enum):
    """Commands of Ctrl-A and a key."""

    QUIT = ord("x")
    MONITOR = ord("c")
    HELP = ord("h")


class EscapeFilter:
    """Separates typed bytes from Ctrl-A commands, however they are split into pieces."""

    def __init__(self) -> None:
        self._escaped = False

    def feed(self, data: bytes) -> list[bytes | Command]:
        """The bytes and commands, in order. Ctrl-A followed by Ctrl-A or A is a Ctrl-A; unknown keys are dropped."""
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


class StdioDevice(CharDevice):
    """The process's standard input and output. A terminal is raw while the device is open, and restored afterwards.

    With `commands`, Ctrl-A begins a command, and signal keys go to the guest; without, Ctrl-C ends the program.

    A terminal is always read, so that commands are noticed whatever the guest does; other input is read only as fast as
    the guest takes it, so that nothing is lost. Handling typed input may wait for the big lock, which a vCPU holds
    while it waits for the reader of the output, or for that reader itself. So a separate thread handles it, and the
    thread that reads handles only Ctrl-A X.
    """

    def __init__(self, commands: bool = True) -> None:
        super().__init__()
        self._filter = EscapeFilter() if commands else None
        self._reader: Reader | None = None
        self._typed: Sequence | None = None
        """The thread that handles a terminal's input; None for other files, where the reading thread does it."""
        self._pending = 0
        """Typed bytes that are queued for it. Under the lock of `_changed`."""
        self._terminal: RawTerminal | None = None
        self._outlet: Outlet | None = None
        if sys.stdout is not None:  # it is None if the process was started without: then descriptor 1 is another file
            self._outlet = Outlet("the standard output", 1, shared=True)
        self.on_command: Callable[[Command], None] = lambda command: None
        """Called with commands, in order; QUIT is not delayed by what was typed before it."""
        self.divert: Callable[[bytes], None] | None = None
        """Takes typed bytes instead of the guest (for the monitor, while that is open)."""

    def start(self) -> None:
        if sys.stdout is not None:
            sys.stdout.flush()
        if sys.stdin is None:  # the process was started without a standard input
            return
        if os.isatty(0):
            self._terminal = RawTerminal(0, signals=self._filter is None)
            self._typed = Sequence("raddle-typed", self)
            self._typed.start()
        self._reader = Reader("raddle-stdio", self)
        self._reader.watch(0, select.POLLIN, self._readable)
        self._reader.start()

    def _readable(self, _: int) -> None:
        reader = self._reader
        assert reader is not None
        try:
            data = os.read(0, READ_SIZE)
        except BlockingIOError:  # another program was quicker
            return
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

    def _put(self, typed: Sequence, part: bytes | Command) -> None:
        """Queue it for the other thread."""
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
            self.hang_up()  # its threads may wait for the reader, too, with the monitor's output
            if self._terminal is not None:
                self._terminal.restore()
            if self._reader is not None:
                self._reader.stop()
            if self._typed is not None:
                self._typed.stop()
            if self._outlet is not None:
                self._outlet.close()


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
    """The character device that `-serial` or `-monitor` names, open but not started.

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
            return open_socket(kind, rest)
    raise UsageError(f"character device {text!r} is not supported (known: {', '.join(KNOWN)})")
