# SPDX-License-Identifier: Apache-2.0
"""The entry points of installed distributions.

importlib-metadata finds them wherever a distribution can be, and takes a tenth of a machine's start for it, most of
that for its import. Distributions in plain directories, all that most users have, are a few lines' work and are read
here; where anything else could hold one, importlib-metadata is asked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, Final, Protocol

__all__ = ["EntryPoint", "entry_points"]

DIRECTORIES: Final = (".dist-info", ".egg-info")
FILE: Final = "entry_points.txt"


class EntryPoint(Protocol):
    """What importlib-metadata's EntryPoint and ours have in common."""

    @property
    def name(self) -> str: ...

    @property
    def value(self) -> str: ...

    def load(self) -> Any: ...


def entry_points(group: str) -> Iterable[EntryPoint]:
    """The entry points of `group` in every distribution on `sys.path`. A distribution counts once."""
    try:
        return list(_read(group))
    except _NotPlain:
        import importlib_metadata

        return importlib_metadata.entry_points(group=group)


class _NotPlain(Exception):
    """There may be distributions that are no directories of a directory on `sys.path`."""


class _Plain:
    """An entry point that was read from a file."""

    def __init__(self, name: str, value: str) -> None:
        self.name = name
        self.value = value

    def load(self) -> Any:
        module, _, attributes = self.value.partition("[")[0].strip().partition(":")
        loaded: Any = import_module(module.strip())
        for attribute in filter(None, attributes.strip().split(".")):
            loaded = getattr(loaded, attribute)
        return loaded


def _read(group: str) -> Iterator[EntryPoint]:
    if any(finder is not PathFinder and hasattr(finder, "find_distributions") for finder in sys.meta_path):
        raise _NotPlain
    seen = set()
    for place in sys.path:
        for directory in _distributions(place or "."):
            # NAME-VERSION.dist-info, NAME-VERSION-pyX.Y.egg-info, NAME.egg-info
            name = directory.stem.partition("-")[0].lower().replace(".", "_")
            if name not in seen:
                seen.add(name)
                yield from _parse(directory, group)


def _distributions(place: str) -> list[Path]:
    try:
        with os.scandir(place) as entries:
            names = [entry.name for entry in entries]
    except NotADirectoryError:  # an archive
        raise _NotPlain from None
    except OSError:
        return []
    if any(name.endswith((".egg", ".egg-link")) for name in names):
        raise _NotPlain
    return [Path(place, name) for name in names if name.endswith(DIRECTORIES)]


def _parse(directory: Path, group: str) -> Iterator[EntryPoint]:
    try:
        text = (directory / FILE).read_text(encoding="utf-8")
    except OSError:  # most distributions have no entry points
        return
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line.strip("[]").strip()
        elif line and not line.startswith("#") and section == group:
            name, _, value = line.partition("=")
            yield _Plain(name.strip(), value.strip())
