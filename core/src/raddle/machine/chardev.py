# SPDX-License-Identifier: Apache-2.0
"""Character devices: the host's side of serial ports.

The vCPU that sends output writes it, and waits for the reader. Input comes on a thread of the character device, and
never delays a vCPU: bytes wait in the device until the port takes them. The thread does not wait for room in a port, so
that it still sees commands and peers that leave. While INPUT_LIMIT bytes are waiting, it reads only what cannot wait
elsewhere, such as typed keys, up to BACKLOG_LIMIT.
"""

from __future__ import annotations

import codecs
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from raddle import kinds, workers
from raddle.errors import MachineError, UsageError
from raddle.machine.outlet import Outlet
from raddle.unique import Unique

__all__ = ["CharDevice", "ConsoleClosed", "ExpectTimeout", "FileDevice", "MemoryConsole", "NullDevice"]

INPUT_LIMIT: Final = 4096
"""While so many bytes wait for the guest, no more are read of input that can wait elsewhere: in a pipe, at a peer."""

BACKLOG_LIMIT: Final = 1 << 20
"""The most bytes that wait for the guest of input that must be read: from a terminal, whose next key may be a command,
and from a peer that has left. What follows is dropped.
"""

KEPT: Final = 1 << 20
"""Characters of output that a console for programs keeps; it keeps as many unread ones."""

PIECES: Final = 1 << 16
"""Pieces of output that are collected before they are joined: guests write single bytes."""

LOOK_SECONDS: Final = 0.01
"""Seconds between two looks of `expect` at the output."""

TAIL: Final = 300
"""Characters of output that an error of `expect` shows."""


class CharDevice(Unique):
    """The base: an input queue, and output that goes nowhere. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._input = bytearray()
        self._changed = threading.Condition()
        self._notify: Callable[[], None] | None = None
        self._closed = False
        self.notes: tuple[str, ...] = ()
        """Messages for the user once the device is open: where it is, who can reach it."""
        self._ended = workers.Latch()
        """Set when the device is closed."""
        self.on_failure: Callable[[Exception], None] | None = None
        """Called, on the input's thread, with what a handler of input has raised; the thread then ends."""
        self.tell: Callable[[Callable[[], None]], None] = _tell
        """Calls the function that `on_input` was given; a machine sets it so that nothing is freed meanwhile."""

    # --- the port's side

    def on_input(self, notify: Callable[[], None]) -> None:
        """Call `notify` on the input's thread, without the big lock, whenever new input is waiting."""
        kinds.function("what on_input() calls", notify)
        self._notify = notify

    @workers.handed_over
    def take(self, limit: int) -> bytes:
        """Take at most `limit` of the waiting bytes. Never blocks."""
        kinds.number("the limit of take()", limit)
        with self._changed:
            full = len(self._input) >= INPUT_LIMIT
            data = bytes(self._input[: max(0, limit)])
            del self._input[: len(data)]
            if full and len(self._input) < INPUT_LIMIT and not self._closed:
                self._changed.notify_all()
                self._read_on()
            return data

    def _read_on(self) -> None:
        """Called when there is room for input again. Under the lock of `_changed`, before `close`."""

    def write(self, data: bytes) -> None:
        """Write the guest's output. Raises OutputError."""
        kinds.raw("what is sent", data)

    def hang_up(self) -> None:
        """Do not wait for the reader of the output any more: what cannot be written at once, and everything after it,
        is dropped. Does not wait: a signal handler may call it.
        """

    def disconnect(self) -> None:
        """The machine is closed: drop the references to the port and to the receiver of input."""
        self._notify = self.on_failure = None
        self.tell = _tell

    def leave_to_parent(self) -> None:
        """In a forked child, where no thread serves the device: mark it closed, and leave open files to the parent."""
        self._changed = threading.Condition()
        self._closed = True
        self._ended.set()
        self.disconnect()

    # --- the other side

    def wait_for_peer(self) -> None:
        """Wait, if the device must, for a peer before the machine starts. Ctrl-C interrupts it. Raises MachineError
        when the device is closed meanwhile.
        """

    def start(self) -> None:
        """Begin to read input; calls `wait_for_peer` first if that has not been done."""

    @workers.handed_over
    def close(self) -> None:
        """Stop reading, end all waits, and close what is open. May be called twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._ended.set()

    @workers.handed_over
    def feed(self, data: bytes, wait: bool = True) -> None:
        """Input for the guest. With `wait`, first waits until fewer than INPUT_LIMIT bytes are waiting. The input is
        dropped if the device is closed, as it is once its machine has stopped.
        """
        given = kinds.octets("what feed() types", data)
        kinds.switch("wait of feed()", wait)
        with self._changed:
            while wait and len(self._input) >= INPUT_LIMIT and not self._closed:
                self._changed.wait()
            if self._closed:
                return
            self._input += given
        if self._notify is not None:
            self.tell(self._notify)

    def _keep(self, data: bytes) -> None:
        """Input for the guest that has already been read. Does not wait for room: bytes beyond BACKLOG_LIMIT are
        dropped.
        """
        self.feed(data[: max(0, BACKLOG_LIMIT - len(self._input))], wait=False)


def _tell(notify: Callable[[], None]) -> None:
    notify()


class NullDevice(CharDevice):
    """Discards output and has no input."""


class FileDevice(CharDevice):
    """Writes output to a file, which is emptied first; has no input."""

    def __init__(self, path: str) -> None:
        super().__init__()
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot open {path}: {getattr(error, 'strerror', None) or error}") from None
        self.path: Final = Path(path)
        self._outlet = Outlet(path, file)

    def write(self, data: bytes) -> None:
        self._outlet.write(data)

    def hang_up(self) -> None:
        self._outlet.hang_up()

    def close(self) -> None:
        super().close()
        self._outlet.close()


class ExpectTimeout(MachineError, TimeoutError):
    """The guest has not printed the expected text in time."""


class ConsoleClosed(MachineError, EOFError):
    """The machine has stopped without printing the expected text."""


class _Text:
    """The end of the text that was added: at least KEPT characters."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._length = 0

    def add(self, text: str) -> None:
        self._pieces.append(text)
        self._length += len(text)
        if len(self._pieces) > PIECES or self._length > 2 * KEPT:
            self.set("".join(self._pieces))

    def set(self, text: str) -> None:
        self._pieces = [text[-KEPT:]]
        self._length = len(self._pieces[0])

    def get(self) -> str:
        self.set("".join(self._pieces))
        return self._pieces[0]


class MemoryConsole(CharDevice):
    """A console for programs: it keeps what the guest prints; `expect`, `read` and `send` talk to the guest.

    Output is decoded as UTF-8. `expect` and `read` consume it; `text` has everything since the start. Both keep only
    the last 1 048 576 characters: so a guest that prints for ever takes no more memory, and is not delayed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._output = _Text()
        self._unread = _Text()

    def write(self, data: bytes) -> None:
        kinds.raw("what is sent", data)
        # Guests write single bytes, so this only collects them; `expect` looks from time to time.
        with self._changed:
            text = self._decoder.decode(data)
            self._output.add(text)
            self._unread.add(text)

    @property
    def text(self) -> str:
        """All output since the start, or the end of it: see above."""
        return self._all()

    @workers.handed_over
    def _all(self) -> str:
        with self._changed:
            return self._output.get()

    def send(self, text: str | bytes) -> None:
        """Type `text` on the guest's console. Returns at once. If the machine has stopped, or stops meanwhile, the text
        is dropped without an error.
        """
        self.feed(kinds.encoded("what send() types", text), wait=False)

    def read(self) -> str:
        """Return the unread output, and consume it. Never waits."""

        def take() -> str:
            with self._changed:
                text = self._unread.get()
                self._unread.set("")
                return text

        return workers.call(take, undo=self._put_back)

    def _put_back(self, text: str) -> None:
        """Put it back: the reader was interrupted, and has not got it."""
        with self._changed:
            self._unread.set(text + self._unread.get())

    def expect(self, pattern: str | re.Pattern[str], timeout: float = 30.0) -> re.Match[str]:
        """Wait until unread output matches the regular expression, and consume the output up to the end of the match.

        Raises ExpectTimeout after `timeout` seconds, and ConsoleClosed when the machine has stopped without a match. Do
        not call it on a vCPU's thread (in a hook): that would deadlock.
        """
        compiled = kinds.pattern("what expect() looks for", pattern)
        deadline = time.monotonic() + kinds.seconds("the timeout of expect()", timeout)
        while True:
            match, unread, closed = workers.call(lambda: self._look(compiled), undo=self._unlook)
            if match is not None:
                return match
            tail = repr(unread[-TAIL:])
            if closed:
                raise ConsoleClosed(f"the machine stopped without printing {compiled.pattern!r}; it ended with {tail}")
            left = deadline - time.monotonic()
            if left <= 0:
                raise ExpectTimeout(
                    f"the guest did not print {compiled.pattern!r} in {timeout:g} s; it ended with {tail}"
                )
            self._ended.wait(min(left, LOOK_SECONDS))

    def _look(self, pattern: re.Pattern[str]) -> tuple[re.Match[str] | None, str, bool]:
        """Returns a match, whose output is consumed; the output that was unread before; and whether the output has
        ended.
        """
        with self._changed:
            unread = self._unread.get()
            match = pattern.search(unread)
            if match is not None:
                self._unread.set(unread[match.end() :])
            return match, unread, self._closed

    def _unlook(self, looked: tuple[re.Match[str] | None, str, bool]) -> None:
        match, unread, _ = looked
        if match is not None:
            self._put_back(unread[: match.end()])
