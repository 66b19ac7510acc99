# SPDX-License-Identifier: Apache-2.0
"""The terminal that a user types on: raw while a machine has it, and given back on every way out.

The ways out are `restore`, the interpreter's end, whatever its reason, and a signal that ends the process: whoever
handles those calls `give_back`. Only what ends a process without asking it (SIGKILL, a crash) leaves the terminal raw.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import termios
from typing import Any

__all__ = ["RawTerminal", "give_back"]

_raw: dict[RawTerminal, None] = {}
"""Those that are to be put back. Written by whoever makes or restores one. Each step is atomic by the GIL, so that a
signal's handler may read it at any time."""


class RawTerminal:
    """What is typed comes through at once and as it is, and is not echoed."""

    def __init__(self, file: int, signals: bool) -> None:
        """Make the terminal `file` raw. With `signals`, keys like Ctrl-C still send one."""
        self._file = file
        self._saved: list[Any] = termios.tcgetattr(file)
        raw = termios.tcgetattr(file)
        raw[0] &= ~(termios.BRKINT | termios.ICRNL | termios.INLCR | termios.IGNCR | termios.ISTRIP | termios.IXON)
        raw[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN)
        if not signals:
            raw[3] &= ~termios.ISIG
        _raw[self] = None  # before it is raw: whatever happens next, it is put back
        atexit.register(self.restore)
        _set(file, termios.TCSADRAIN, raw)

    def restore(self) -> None:
        """Put it back, when what was written to it has been shown. May be called twice."""
        if self in _raw:
            _restore(self._file, termios.TCSADRAIN, self._saved)
            _raw.pop(self, None)
            atexit.unregister(self.restore)

    def restore_at_once(self) -> None:
        """Put it back, and wait for nothing."""
        _restore(self._file, termios.TCSANOW, self._saved)


def _leave_to_parent() -> None:
    """In a child that was forked: the terminal is its parent's."""
    for terminal in list(_raw):
        _raw.pop(terminal, None)


os.register_at_fork(after_in_child=_leave_to_parent)


def give_back() -> None:
    """Put back every terminal that is raw: the process is about to end. Waits for nothing; a signal's handler may call
    it.
    """
    for terminal in list(_raw):
        terminal.restore_at_once()


def _restore(file: int, when: int, attributes: list[Any]) -> None:
    with contextlib.suppress(termios.error):  # the terminal is gone
        _set(file, when, attributes)


def _set(file: int, when: int, attributes: list[Any]) -> None:
    """As tcsetattr, however many signals come meanwhile: it gives up at each one, with nothing done."""
    while True:
        try:
            termios.tcsetattr(file, when, attributes)
        except termios.error as error:
            if error.args[0] != errno.EINTR:
                raise
        else:
            return
