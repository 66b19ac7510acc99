# SPDX-License-Identifier: Apache-2.0
"""Litmus tests as files: those of the suite, which are installed with Raddle, and the user's own."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

from raddle.errors import UsageError, printable, unknown
from raddle.litmus.parser import MOST_CHARACTERS, parse
from raddle.litmus.program import LitmusTest

__all__ = ["load", "names"]

SUFFIX: Final = ".litmus"
MOST_UTF8: Final = 4
"""The most bytes of a character."""


def names() -> list[str]:
    """The tests of the suite."""
    suite = files("raddle.litmus") / "suite"
    return sorted(one.name.removesuffix(SUFFIX) for one in suite.iterdir() if one.name.endswith(SUFFIX))


def load(name: str) -> LitmusTest:
    """A test of the suite, by its name, or of a file, whose name ends in .litmus or has a slash. Raises UsageError."""
    if name.endswith(SUFFIX) or "/" in name:
        try:
            with Path(name).open("rb") as file:
                data = file.read(MOST_CHARACTERS * MOST_UTF8 + 1)  # not all: a device has no end
        except OSError as error:
            raise UsageError(f"cannot read litmus test {name}: {error.strerror}") from None
        return parse(_text(data, name), name)
    if name not in names():
        listing = f"raddle litmus --list shows the suite; the name of a file ends in {SUFFIX} or has a slash"
        raise unknown("litmus test", name, names(), listing)
    resource = files("raddle.litmus") / "suite" / f"{name}{SUFFIX}"
    return parse(resource.read_text(encoding="utf-8"), f"{name}{SUFFIX}")


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        good = data[: error.start].decode("utf-8")
        line, column = good.count("\n") + 1, len(good) - good.rfind("\n")
        raise UsageError(f"{printable(name)}:{line}:{column}: byte {data[error.start]:#04x} is not UTF-8") from None
