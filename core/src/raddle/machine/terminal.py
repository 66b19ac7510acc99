# SPDX-License-Identifier: Apache-2.0
"""The user's terminal: raw while a machine has it, and restored on every way out.

The ways out are `restore`, the end of the interpreter for any reason, and a signal that ends the process: its handler
calls `give_back`. Only a sudden end of the process (SIGKILL, a crash) leaves the terminal raw.
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
"""The raw terminals, which must be restored. Changed when a terminal becomes raw or is restored, in steps that are
atomic by the GIL, so that a signal handler may read it at any time."""


class RawTerminal:
    """Input arrives at once and unchanged, and is not echoed."""

    def __init__(self, file: int, signals: bool) -> None:
        """Make the terminal `file` raw. With `signals`, keys like Ctrl-C still send one."""
        self._file = file
        self._saved: list[Any] = termios.tcgetattr(file)
        raw = termios.tcgetattr(file)
        raw[0] &= ~(termios.BRKINT | termios.ICRNL | termios.INLCR | termios.IGNCR | termios.ISTRIP | termios.IXON)
        raw[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN)
        if not signals:
            raw[3] &= ~termios.ISIG
        _raw[self] = None  # before it is raw, so that it is restored whatever happens next
        atexit.register(self.restore)
        _set(file, termios.TCSADRAIN, raw)

    def restore(self) -> None:
        """Restore it, once its output has been shown. May be called twice."""
        if self in _raw:
            _restore(self._file, termios.TCSADRAIN, self._saved)
            _raw.pop(self, None)
            atexit.unregister(self.restore)

    def restore_at_once(self) -> None:
        """Restore it without waiting."""
        _restore(self._file, termios.TCSANOW, self._saved)


def _leave_to_parent() -> None:
    """In a forked child: the terminal belongs to the parent."""
    for terminal in list(_raw):
        _raw.pop(terminal, None)


os.register_at_fork(after_in_child=_leave_to_parent)


def give_back() -> None:
    """Restore every raw terminal, because the process is about to end. Does not wait; a signal handler may call it."""
    for terminal in list(_raw):
        terminal.restore_at_once()


def _restore(file: int, when: int, attributes: list[Any]) -> None:
    with contextlib.suppress(termios.error):  # the terminal is gone
        _set(file, when, attributes)


def _set(file: int, when: int, attributes: list[Any]) -> None:
    """tcsetattr, repeated after signals: each signal interrupts it before it does anything."""
    while True:
        try:
            termios.tcsetattr(file, when, attributes)
        except termios.error as error:
            if error.args[0] != errno.EINTR:
                raise
        else:
            return
