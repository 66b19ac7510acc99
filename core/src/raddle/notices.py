# SPDX-License-Identifier: Apache-2.0
"""Messages to the user on the standard error, one line each."""

from __future__ import annotations

import contextlib
import sys

from raddle.errors import RaddleError, line

__all__ = ["notice", "report", "warn"]


def notice(text: str) -> None:
    """Print a message. Does nothing if it cannot be printed, so that the program goes on."""
    _print(line(" ".join(text.split())))


def report(error: RaddleError) -> None:
    """Print the error that ends the command. Its message is one line already."""
    _print(str(error))


def _print(text: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(f"raddle: {text}", file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Print a warning."""
    notice(f"warning: {text}")
