# SPDX-License-Identifier: Apache-2.0
"""Lines for the user on the standard error, while something goes on."""

from __future__ import annotations

import contextlib
import sys

__all__ = ["notice", "one_line", "warn"]


def one_line(text: str) -> str:
    """`text` in one line; names of files may have anything in them, which the terminal is not to obey."""
    words = " ".join(text.split())
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in words)


def notice(text: str) -> None:
    """Tell the user. What goes on does not end because nobody can be told of it."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(f"raddle: {one_line(text)}", file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Tell the user of what may not be as wanted."""
    notice(f"warning: {text}")
