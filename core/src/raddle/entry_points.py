# SPDX-License-Identifier: Apache-2.0
"""Entry points of the distributions that are installed, which is all that a start needs of their metadata.

Source: the Python Packaging User Guide, "Entry points specification" and "Recording installed projects".
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

TYPE_CHECKING = False  # see raddle/__init__.py
if TYPE_CHECKING:
    from typing import Any

_METADATA = (".dist-info", ".egg-info")


class EntryPoint:
    """One entry point of a distribution. Immutable."""

    __slots__ = ("name", "value")

    def __init__(self, name: str, value: str) -> None:
        self.name = name
        self.value = value
        """MODULE or MODULE:ATTRIBUTE; extras in brackets may follow, which mean nothing any more."""

    def __repr__(self) -> str:
        return f"EntryPoint({self.name!r}, {self.value!r})"

    def load(self) -> Any:
        """Import it. Raises what the import raises, ValueError if no module is named, and AttributeError."""
        module, _, attributes = self.value.partition("[")[0].partition(":")
        found = import_module(module.strip())
        for attribute in filter(None, attributes.strip().split(".")):
            found = getattr(found, attribute)
        return found


def entry_points(group: str, path: Sequence[str] | None = None) -> Iterator[EntryPoint]:
    """The entry points of ``group`` in each distribution that is installed in a directory of ``path``, by default
    `sys.path`. Of a distribution that is there twice, the first one counts, as it does for imports. Archives on the
    path are left out, and so is what cannot be read.
    """
    seen: set[str] = set()
    for directory in sys.path if path is None else path:
        try:
            installed = sorted(one for one in Path(directory).iterdir() if one.suffix in _METADATA)
        except (OSError, ValueError):  # a null character in its name
            continue
        for metadata in installed:
            distribution = re.sub(r"[-_.]+", "-", metadata.stem.partition("-")[0]).lower()
            if distribution not in seen:
                seen.add(distribution)
                text = _read(metadata / "entry_points.txt")
                if group in text:
                    yield from _parse(text, group)


def _read(path: Path) -> str:
    """The text; empty if there is no regular file: most distributions have none, and a FIFO would not end."""
    try:
        return path.read_text("utf-8", errors="replace") if path.is_file() else ""
    except OSError:
        return ""


def _parse(text: str, group: str) -> Iterator[EntryPoint]:
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
        elif section == group and not line.startswith(("#", ";")):
            name, equals, value = line.partition("=")
            if equals:
                yield EntryPoint(name.strip(), value.strip())
