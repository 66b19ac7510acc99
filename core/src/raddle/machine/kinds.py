# SPDX-License-Identifier: Apache-2.0
"""What a user's Python code gives to methods: of the right kind, or a UsageError that says what is wanted."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from reprlib import repr as short
from typing import Any

from raddle.errors import UsageError

__all__ = ["address", "another_kind", "encoded", "number", "pattern", "ranges", "seconds", "text", "words"]


def another_kind(what: str, called: str, given: object) -> UsageError:
    """The error for `given` where `what` is something else, which is `called` so."""
    return UsageError(f"{what} is {called}, not {short(given)} ({type(given).__name__})")


def number(what: str, given: Any) -> None:
    if not _is_number(given):
        raise another_kind(what, "a whole number", given)


def address(what: str, given: Any) -> None:
    """None is one, too."""
    if given is not None and not _is_number(given):
        raise another_kind(what, "an address, a whole number", given)


def _is_number(given: Any) -> bool:
    # A bool is an int to Python, and a mistake to everybody else.
    return isinstance(given, int) and not isinstance(given, bool)


def seconds(what: str, given: Any) -> float:
    """A time to wait for, at most as long as threads can."""
    if not isinstance(given, int | float) or isinstance(given, bool) or given != given:  # not a number is not itself
        raise another_kind(what, "seconds, a number", given)
    return min(given, threading.TIMEOUT_MAX)


def words(what: str, given: Any) -> None:
    """A sequence of texts; not one text, which is a sequence of letters."""
    if (
        isinstance(given, str | bytes)
        or not isinstance(given, Sequence)
        or not all(isinstance(one, str) for one in given)
    ):
        raise another_kind(what, "a sequence of texts", given)


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
        raise UsageError(f"{what}, {short(given)}, is no regular expression: {error}") from None


def text(what: str, given: Any) -> None:
    if not isinstance(given, str):
        raise another_kind(what, "a text", given)


def encoded(what: str, given: Any) -> bytes:
    """Bytes, or those of a text."""
    if isinstance(given, bytes | bytearray | memoryview):
        return bytes(given)
    if not isinstance(given, str):
        raise another_kind(what, "a text or bytes", given)
    try:
        return given.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{what} {short(given)} is not text in UTF-8; give bytes") from None
