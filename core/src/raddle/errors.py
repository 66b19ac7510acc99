# SPDX-License-Identifier: Apache-2.0
"""Errors that Raddle raises on purpose. The message is one line that gives the fact and the remedy."""

from __future__ import annotations

from collections.abc import Iterable

TYPE_CHECKING = False  # see raddle/__init__.py
if TYPE_CHECKING:
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

LIMIT: Final = 800
"""The most characters of a message. Of a longer one, the last quarter of them is its end, where the remedy is."""
GAP: Final = " ... "
"""What stands for the middle of a longer one."""


def printable(text: str) -> str:
    """`text` in one line, with escapes for characters that are not printable. File names may contain control
    sequences, which must not reach the terminal.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def line(text: str, limit: int = LIMIT) -> str:
    """`text` as one printable line, without its middle if it has more than `limit` characters."""
    shown = printable(text)
    if len(shown) <= limit:
        return shown
    tail = limit // 4
    return shown[: limit - tail - len(GAP)] + GAP + shown[-tail:]


class RaddleError(Exception):
    """Base of all errors for the user, who sees the message and no traceback. `line` makes the message one line."""

    exit_status: ClassVar[int] = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(line(message))


class UsageError(RaddleError):
    """A mistake in a request: nothing was started. Exit status 2."""

    exit_status = 2


class MachineError(RaddleError):
    """A failure while running. Exit status 1."""


class OutputError(MachineError):
    """A machine's output cannot be written to its device or file. The guest did nothing wrong."""

    def __init__(self, name: str, reason: str | None) -> None:
        super().__init__(f"cannot write to {name}: {reason}")


class PluginError(RaddleError):
    """A plug-in cannot be used: has its entry point's name, and the reason. Exit status 2."""

    exit_status = 2

    def __init__(self, plugin: str, reason: str) -> None:
        super().__init__(f"plug-in {plugin}: {reason}")
        self.plugin = plugin
        self.reason = reason


def machine_closed() -> MachineError:
    """The error for using a closed machine."""
    return MachineError("the machine is closed, and its parts are freed; use it before close(), or within `with`")


def unknown(what: str, given: str, known: Iterable[str], listing: str = "") -> UsageError:
    """The error for a value that is not one of `known`. The message names the nearest one, and lists them all. If they
    are too many for a line, give `listing`, which says what lists them.
    """
    import difflib  # late: most runs make no such error

    choices = list(known)
    listing = listing or (f"known: {', '.join(choices)}" if choices else "none is known")
    if not given:
        return UsageError(f"{what} without a name: is there a separator too many? ({listing})")
    near = difflib.get_close_matches(given, choices, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return UsageError(f"unknown {what} {given!r}{hint} ({listing})")
