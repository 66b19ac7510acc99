# SPDX-License-Identifier: Apache-2.0
"""Character devices: where a serial port's bytes go to and come from.

Output is written by the vCPU that sends it, which waits for whoever reads it. Input comes on a thread of the character
device, which never holds a vCPU up: bytes wait in the device until the port takes them. The thread waits for no room in
a port, so that it goes on seeing commands and peers that leave: what can wait elsewhere is not read while INPUT_LIMIT
bytes are there; what a user types is, up to BACKLOG_LIMIT.
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
"""Bytes that may wait for the guest before no more are read of what can wait elsewhere: in a pipe, at a peer."""

BACKLOG_LIMIT: Final = 1 << 20
"""Bytes that may wait for the guest of what has to be read: from a terminal, whose next key may be a command, and from
a peer that has left. What follows is dropped.
"""

KEPT: Final = 1 << 20
"""Characters of output that a console for programs keeps, and as many that nobody has read yet."""

PIECES: Final = 1 << 16
"""Pieces that such output is collected in before they are put together: guests write single bytes."""

LOOK_SECONDS: Final = 0.01
"""How often an expectation looks at the output."""

TAIL: Final = 300
"""Characters of output that an expectation's error shows."""


class CharDevice(Unique):
    """The base: an input queue, and output that goes nowhere. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._input = bytearray()
        self._changed = threading.Condition()
        self._notify: Callable[[], None] | None = None
        self._closed = False
        self.notes: tuple[str, ...] = ()
        """What a user who has asked for the device is to be told when it is open: where it is, who can reach it."""
        self._ended = workers.Latch()
        """Set when the device is closed."""
        self.on_failure: Callable[[Exception], None] | None = None
        """Told, on the input's thread, what a handler of input has raised; the thread then ends."""
        self.tell: Callable[[Callable[[], None]], None] = _tell
        """Calls what `on_input` was given; a machine keeps what that needs from being freed meanwhile."""

    # --- the port's side

    def on_input(self, notify: Callable[[], None]) -> None:
        """Call `notify` on the input's thread whenever something new waits to be taken; the big lock is not held."""
        kinds.function("what on_input() calls", notify)
        self._notify = notify

    @workers.handed_over
    def take(self, limit: int) -> bytes:
        """At most `limit` bytes of those that wait. Never blocks."""
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
        """There is room again for what was not read meanwhile. Under the lock of `_changed`, before `close`."""

    def write(self, data: bytes) -> None:
        """Send what the guest has written. Raises OutputError."""
        kinds.raw("what is sent", data)

    def hang_up(self) -> None:
        """Wait no longer for whoever reads the output: what cannot be written at once, and all that follows, is
        dropped. Waits for nothing: a signal's handler may call it.
        """

    def disconnect(self) -> None:
        """The machine is closed: forget the port, and whom to tell of input."""
        self._notify = self.on_failure = None
        self.tell = _tell

    def leave_to_parent(self) -> None:
        """In a child that was forked, where nobody serves the device: it is closed, and what is open is left to the
        parent.
        """
        self._changed = threading.Condition()
        self._closed = True
        self._ended.set()
        self.disconnect()

    # --- the other side

    def wait_for_peer(self) -> None:
        """Wait for whatever the device was told to wait for before a machine may start. Ctrl-C interrupts it. Raises
        MachineError when the device is closed meanwhile.
        """

    def start(self) -> None:
        """Begin to read input, after `wait_for_peer` unless that was done."""

    @workers.handed_over
    def close(self) -> None:
        """Stop reading, let everybody who waits go, and give back what is open. May be called twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._ended.set()

    @workers.handed_over
    def feed(self, data: bytes, wait: bool = True) -> None:
        """Input for the guest. With `wait`, first waits until fewer than INPUT_LIMIT bytes are there. Dropped when the
        device is closed, as it is when its machine has stopped.
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
        """Input for the guest that was read already. Waits for no room: what is more than BACKLOG_LIMIT is dropped."""
        self.feed(data[: max(0, BACKLOG_LIMIT - len(self._input))], wait=False)


def _tell(notify: Callable[[], None]) -> None:
    notify()


class NullDevice(CharDevice):
    """Swallows everything and says nothing."""


class FileDevice(CharDevice):
    """Output into a file, which is emptied first; no input."""

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
    """The guest has not printed what was expected in time."""


class ConsoleClosed(MachineError, EOFError):
    """The machine has stopped, and has not printed what was expected."""


class _Text:
    """The last of what was added: KEPT characters, or some more."""

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
    """A console for programs: what the guest prints is kept; `expect`, `read` and `send` talk to it.

    Output is decoded as UTF-8. `expect` and `read` consume it; `text` has what was printed since the start. Of either
    the last 1 048 576 characters are kept: a guest that prints for ever takes no more memory, and is not held up.
    """

    def __init__(self) -> None:
        super().__init__()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._output = _Text()
        self._unread = _Text()

    def write(self, data: bytes) -> None:
        kinds.raw("what is sent", data)
        # Guests write single bytes, so this only collects them; who expects something looks every now and then.
        with self._changed:
            text = self._decoder.decode(data)
            self._output.add(text)
            self._unread.add(text)

    @property
    def text(self) -> str:
        """All output since the start, or the last of it: see above."""
        return self._all()

    @workers.handed_over
    def _all(self) -> str:
        with self._changed:
            return self._output.get()

    def send(self, text: str | bytes) -> None:
        """Type `text` on the guest's console. Returns at once. Nobody gets what is typed when the machine has stopped,
        or does meanwhile; that is no error.
        """
        self.feed(kinds.encoded("what send() types", text), wait=False)

    def read(self) -> str:
        """The output that nobody has read yet. Never waits."""

        def take() -> str:
            with self._changed:
                text = self._unread.get()
                self._unread.set("")
                return text

        return workers.call(take, undo=self._put_back)

    def _put_back(self, text: str) -> None:
        """Whoever has read it was interrupted, and does not know it."""
        with self._changed:
            self._unread.set(text + self._unread.get())

    def expect(self, pattern: str | re.Pattern[str], timeout: float = 30.0) -> re.Match[str]:
        """Wait until unread output matches the regular expression, and consume the output up to the match's end.

        Raises ExpectTimeout after `timeout` seconds, and ConsoleClosed when the machine has stopped without a match.
        Not for a vCPU's thread (a hook), which would wait for itself.
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
        """A match, whose output is consumed; what was unread before; and whether nothing more will come."""
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
