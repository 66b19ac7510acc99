# SPDX-License-Identifier: Apache-2.0
"""What `raddle new-target` and `raddle new-host` share: a package of templates is written under a name."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from keyword import iskeyword
from pathlib import Path
from typing import Final, NamedTuple

from raddle.errors import RaddleError, UsageError
from raddle.plugins import registry

NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
SUFFIX: Final = ".template"
PACKAGE: Final = "package"
"""The directory of the templates whose files are the Python package's."""


class Kind(NamedTuple):
    """A kind of plug-in that a package can be written for."""

    group: str
    """What its entry points and distributions are called by: ``target`` or ``host``."""
    noun: str
    """What messages call it."""


def configure(parser: argparse.ArgumentParser, kind: Kind) -> None:
    parser.add_argument("name", metavar="NAME", help=f"name of the {kind.noun}: lower-case letters, digits and _")
    parser.add_argument(
        "directory",
        metavar="DIRECTORY",
        nargs="?",
        type=Path,
        help=f"where to put it (./raddle-{kind.group}-NAME)",
    )


def write(arguments: argparse.Namespace, kind: Kind) -> int:
    """Write the package as the command line says. Raises UsageError and RaddleError."""
    name: str = arguments.name
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a {kind.noun}: lower-case letters, digits and _, a letter first")
    if iskeyword(name):
        raise UsageError(f"{name!r} is no name for a {kind.noun}: it is a keyword of Python")
    if name in registry().names(kind.group):
        raise UsageError(f"there is a {kind.noun} {name} already: the new package would take its place")
    directory: Path = arguments.directory or Path(f"raddle-{kind.group}-{name}")
    if os.path.lexists(directory):
        raise UsageError(f"{directory} exists already")
    try:
        _write_files(directory, package(kind, name))
    except OSError as error:
        raise RaddleError(f"cannot write {directory}: {error.strerror}") from None
    install, test = shlex.join(["pip", "install", "-e", f"{directory}[test]"]), shlex.join(["pytest", str(directory)])
    print(f"wrote {directory}; next: {install} && {test}; see its README.md")
    return 0


def _write_files(directory: Path, texts: dict[str, str]) -> None:
    """Write files below a new directory, which gets its name when it is complete. If that fails, nothing is left."""
    parent = directory.parent
    made = [path for path in (parent, *parent.parents) if not os.path.lexists(path)]
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".raddle-", dir=parent) as scratch:
            whole = Path(scratch) / "whole"  # not `scratch` itself, which is for its owner only
            for place, text in texts.items():
                path = whole / place
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            whole.rename(directory)  # fails if there is a file or a directory with files by now
    except BaseException:
        for path in made:  # the innermost comes first
            with contextlib.suppress(OSError):  # it was not made, or somebody else uses it
                path.rmdir()
        raise


def package(kind: Kind, name: str) -> dict[str, str]:
    """The files of the package of a plug-in `name`: text by path."""
    module = f"src/raddle_{kind.group}_{name}"
    texts = {f"{module}/__init__.py": f'"""The {name} {kind.noun}."""\n', f"{module}/py.typed": ""}
    for place, template in _templates(files("raddle.cli") / f"new_{kind.group}_files"):
        inside = place.removeprefix(f"{PACKAGE}/")
        path = place if inside == place else f"{module}/{inside}"
        texts[path] = template.read_text(encoding="utf-8").replace("@name@", name)
    return texts


def _templates(directory: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    """All templates below, with their paths less the suffix."""
    for entry in sorted(directory.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _templates(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(SUFFIX):
            yield prefix + entry.name.removesuffix(SUFFIX), entry
