# SPDX-License-Identifier: Apache-2.0
"""Lines for the user on the standard error, while something goes on."""

from __future__ import annotations

import contextlib
import sys

from raddle.errors import RaddleError, line

__all__ = ["notice", "report", "warn"]


def notice(text: str) -> None:
    """Tell the user, in one line. What goes on does not end because nobody can be told of it."""
    _print(line(" ".join(text.split())))


def report(error: RaddleError) -> None:
    """Tell the user what ends the command. The message is a line already."""
    _print(str(error))


def _print(text: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(f"raddle: {text}", file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Tell the user of what may not be as wanted."""
    notice(f"warning: {text}")
