# SPDX-License-Identifier: Apache-2.0
"""Litmus tests as files: those of the suite, which are installed with Raddle, and the user's own."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

from raddle.errors import UsageError, unknown
from raddle.litmus.parser import parse
from raddle.litmus.program import LitmusTest

__all__ = ["load", "names"]

SUFFIX: Final = ".litmus"


def names() -> list[str]:
    """The tests of the suite."""
    suite = files("raddle.litmus") / "suite"
    return sorted(one.name.removesuffix(SUFFIX) for one in suite.iterdir() if one.name.endswith(SUFFIX))


def load(name: str) -> LitmusTest:
    """A test of the suite, or of a file, whose name ends in .litmus or has a directory. Raises UsageError."""
    if name.endswith(SUFFIX) or "/" in name:
        try:
            text = Path(name).read_bytes().decode("utf-8")
        except OSError as error:
            raise UsageError(f"cannot read litmus test {name}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise UsageError(f"litmus test {name} is no text: byte {error.start} is not UTF-8") from None
        return parse(text, name)
    if name not in names():
        raise unknown("litmus test", name, names())
    resource = files("raddle.litmus") / "suite" / f"{name}{SUFFIX}"
    return parse(resource.read_text(encoding="utf-8"), f"{name}{SUFFIX}")
