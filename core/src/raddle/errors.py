# SPDX-License-Identifier: Apache-2.0
"""Errors that Raddle raises on purpose. The message is one line that gives the fact and the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final

__all__ = [
    "MachineError",
    "OutputError",
    "PluginError",
    "RaddleError",
    "UsageError",
    "line",
    "machine_closed",
    "printable",
    "unknown",
]

HEAD: Final = 600
"""Characters that are kept of the beginning of a message."""
TAIL: Final = 200
"""And of its end, where the remedy is."""


def printable(text: str) -> str:
    """`text` in one line: names of files may have anything in them, which the terminal is not to obey."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def line(text: str) -> str:
    """`text` as a line to be read: printable, and without its middle where it repeats something that is too long."""
    shown = printable(text)
    if len(shown) <= HEAD + TAIL:
        return shown
    return f"{shown[:HEAD]} ... {shown[-TAIL:]}"


class RaddleError(Exception):
    """Base of all errors that are meant for the user, who sees the message and no traceback. It is made a `line`."""

    exit_status: ClassVar[int] = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(line(message))


class UsageError(RaddleError):
    """A mistake in what was asked for: nothing has been started. Exit status 2."""

    exit_status = 2

    @classmethod
    def of_lines(cls, message: str) -> UsageError:
        """One error for several mistakes, so that none is lost: `message` is made of lines, and stays as it is."""
        error = cls()
        error.args = (message,)
        return error


class MachineError(RaddleError):
    """A failure while running. Exit status 1."""


class OutputError(MachineError):
    """What a machine sends cannot be written where it was told to: nothing that the guest has done wrong."""

    def __init__(self, name: str, reason: str | None) -> None:
        super().__init__(f"cannot write to {name}: {reason}")


class PluginError(RaddleError):
    """A plug-in that cannot be used: its entry point's name, and the reason. Exit status 2."""

    exit_status = 2

    def __init__(self, plugin: str, reason: str) -> None:
        super().__init__(f"plug-in {plugin}: {reason}")
        self.plugin = plugin
        self.reason = reason


def machine_closed() -> MachineError:
    """The error for a question to a machine that has given back what it held."""
    return MachineError("the machine is closed: what it held is gone; ask before close(), or within `with`")


def unknown(what: str, given: str, known: Iterable[str]) -> UsageError:
    """The error for a value that is not one of `known`: names the nearest one, and lists them all."""
    import difflib  # late: most runs make no such error

    choices = list(known)
    listing = f"known: {', '.join(choices)}" if choices else "none is known"
    if not given:
        return UsageError(f"{what} without a name: is there a separator too many? ({listing})")
    near = difflib.get_close_matches(given, choices, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return UsageError(f"unknown {what} {given!r}{hint} ({listing})")
