# SPDX-License-Identifier: Apache-2.0
"""`raddle new-target`: writes a guest package with a machine that runs programs, to start from."""

from __future__ import annotations

import argparse
import re
from importlib.resources import files
from keyword import iskeyword
from pathlib import Path
from typing import Final

from raddle.errors import RaddleError, UsageError
from raddle.plugins import registry

NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
SUFFIX: Final = ".template"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the guest: lower-case letters, digits and _")
    parser.add_argument(
        "directory", metavar="DIRECTORY", nargs="?", type=Path, help="where to put it (./raddle-target-NAME)"
    )


def run(arguments: argparse.Namespace) -> int:
    name: str = arguments.name
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a guest: lower-case letters, digits and _, a letter first")
    if iskeyword(name):
        raise UsageError(f"{name!r} is no name for a guest: it is a word of Python's")
    if name in registry().names("target"):
        raise UsageError(f"there is a guest {name} already: its package would take the place of the one installed")
    directory: Path = arguments.directory or Path(f"raddle-target-{name}")
    if directory.exists():
        raise UsageError(f"{directory} exists already")
    try:
        for place, text in package(name).items():
            path = directory / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RaddleError(f"cannot write {error.filename}: {error.strerror}") from None
    print(f"wrote {directory}; next: pip install -e '{directory}[test]' && pytest {directory}; see its README.md")
    return 0


PLAIN: Final = (
    *("pyproject.toml", "README.md", "programs/hello.s", "programs/events.s"),
    *(
        "tests/test_board.py",
        "tests/test_contract.py",
        "tests/test_programs.py",
        "tests/test_vectors.py",
        "tests/vectors.json",
    ),
)
"""Files of the package that stand where they do in the templates."""
MODULES: Final = ("plugin", "state", "insns", "frontend", "board", "assembler")
TABLES: Final = ("short", "long")


def package(name: str) -> dict[str, str]:
    """The files of the package of a guest `name`: text by path."""
    root = files("raddle.cli") / "new_target_files"
    module = f"src/raddle_target_{name}"

    def text(place: str) -> str:
        return root.joinpath(*f"{place}{SUFFIX}".split("/")).read_text(encoding="utf-8").replace("@name@", name)

    return {
        **{place: text(place) for place in PLAIN},
        **{f"{module}/{source}.py": text(f"{source}.py") for source in MODULES},
        **{f"{module}/decode/{table}.dec": text(f"decode/{table}.dec") for table in TABLES},
        f"{module}/__init__.py": f'"""The {name} guest."""\n',
        f"{module}/py.typed": "",
    }
