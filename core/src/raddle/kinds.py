# SPDX-License-Identifier: Apache-2.0
"""Checks of the arguments that a user's Python code gives to methods.

Each function raises UsageError for an argument of the wrong kind. `what` names the argument in the message. Functions
that return something return the argument in one type.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from reprlib import repr as short
from typing import Any

from raddle.errors import UsageError

__all__ = [
    "address",
    "another_kind",
    "encoded",
    "function",
    "instance",
    "number",
    "octets",
    "pattern",
    "ranges",
    "raw",
    "register",
    "seconds",
    "switch",
    "text",
    "unsigned",
    "words",
]


def another_kind(what: str, called: str, given: object) -> UsageError:
    """The error for the argument `what`, which is `given` but must be what `called` says: "a string", for example."""
    try:
        shown = short(given)
    except ValueError:  # a number of more digits than Python writes
        shown = "one too large to show"
    return UsageError(f"{what} is {called}, not {shown} ({type(given).__name__})")


def instance(what: str, called: str, given: Any, kinds: type | tuple[type, ...]) -> None:
    if not isinstance(given, kinds):
        raise another_kind(what, called, given)


def raw(what: str, given: Any) -> None:
    """Bytes, and nothing that can be converted to them."""
    instance(what, "bytes", given, (bytes, bytearray, memoryview))


def function(what: str, given: Any) -> None:
    if not callable(given):
        raise another_kind(what, "a function", given)


def switch(what: str, given: Any) -> None:
    instance(what, "True or False", given, bool)


def number(what: str, given: Any) -> None:
    if not _is_number(given):
        raise another_kind(what, "a whole number", given)


def unsigned(what: str, given: Any, width: int) -> int:
    """A number from 0 to 2**width - 1."""
    number(what, given)
    if not 0 <= given < 1 << width:
        raise UsageError(f"{what} has {width} bits: it is 0 to {(1 << width) - 1:#x}, not {given:#x}")
    return int(given)


def register(name: str, given: Any, width: int) -> int:
    """The value that a register of `width` bits has after `given` is written: a negative number becomes its two's
    complement. The number must fit, signed or unsigned. Only for a register of one bit, True and False are numbers.
    """
    if not (_is_number(given) or (width == 1 and isinstance(given, bool))):
        raise another_kind(f"register {name}", "a whole number", given)
    least, most = -(1 << width - 1) if width > 1 else 0, (1 << width) - 1
    if not least <= given <= most:
        bits = f"{width} bit{'s' * (width != 1)}"
        raise UsageError(f"register {name} has {bits}: it can be {least:#x} to {most:#x}, not {given:#x}")
    return int(given) & most


def address(what: str, given: Any) -> None:
    """An address, or None."""
    if given is not None and not _is_number(given):
        raise another_kind(what, "an address, a whole number", given)


def _is_number(given: Any) -> bool:
    # A bool is an int to Python, and a mistake to everybody else.
    return isinstance(given, int) and not isinstance(given, bool)


def seconds(what: str, given: Any) -> float:
    """A time to wait, in seconds. The result is at most the longest time that threads can wait."""
    if not isinstance(given, int | float) or isinstance(given, bool) or given != given:  # not a number is not itself
        raise another_kind(what, "seconds, a number", given)
    return min(given, threading.TIMEOUT_MAX)


def words(what: str, given: Any) -> None:
    """A sequence of strings. A single string, which is a sequence of characters, is refused."""
    if (
        isinstance(given, str | bytes)
        or not isinstance(given, Sequence)
        or not all(isinstance(one, str) for one in given)
    ):
        raise another_kind(what, "a sequence of strings", given)


def ranges(what: str, given: Any) -> None:
    if not isinstance(given, Sequence) or not all(isinstance(one, range) for one in given):
        raise another_kind(what, "a sequence of ranges", given)


def pattern(what: str, given: Any) -> re.Pattern[str]:
    """A regular expression for text."""
    spelled = given.pattern if isinstance(given, re.Pattern) else given
    if not isinstance(spelled, str):
        raise another_kind(what, "a regular expression for text", given)
    try:
        return re.compile(given)
    except re.error as error:
        raise UsageError(f"{what}, {short(given)}, is not a regular expression: {error}") from None


def text(what: str, given: Any) -> None:
    if not isinstance(given, str):
        raise another_kind(what, "a string", given)


def octets(what: str, given: Any) -> memoryview:
    """The bytes of an object with a buffer, which is not copied, or of an iterable of numbers from 0 to 255."""
    try:
        return memoryview(given).cast("B")
    except (TypeError, ValueError):  # it has no buffer, or not in one piece
        pass
    if not isinstance(given, int | str):  # bytes() would make that many zeroes of an int, and needs a str's encoding
        try:
            return memoryview(bytes(given))
        except (TypeError, ValueError):
            pass
    raise another_kind(what, "bytes, or numbers from 0 to 255", given)


def encoded(what: str, given: Any) -> bytes:
    """Bytes, or a string, which is encoded in UTF-8."""
    if isinstance(given, bytes | bytearray | memoryview):
        return bytes(given)
    if not isinstance(given, str):
        raise another_kind(what, "a string or bytes", given)
    try:
        return given.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{what} {short(given)} is not text in UTF-8; give bytes") from None
