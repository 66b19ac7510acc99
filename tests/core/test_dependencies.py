# SPDX-License-Identifier: Apache-2.0
"""Imports: a package declares what it imports, and no more; a room of the core imports only rooms below it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = [path.parent for path in (ROOT / "core/pyproject.toml", *ROOT.glob("[th]*s/*/pyproject.toml"))]
COMPILED = {"cffi": "the extension modules that cffi makes import its run-time part"}
"""What is needed though no Python file imports it, and why."""
BUILDING = ("src/raddle/runtime/build.py",)
"""Files that run when a wheel is built, and not when it is used."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[<>=!~;\[ ]", one)[0]) for one in requirements}


def executed(tree: ast.AST) -> Iterator[ast.AST]:
    """All of it but what is for type checkers, which bring along what that imports (`typing_extensions`)."""
    yield tree
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for other in node.orelse:
                yield from executed(other)
        else:
            yield from executed(node)


def imported(package: Path) -> set[str]:
    """Distributions that the package's files import, itself aside."""
    modules: set[str] = set()
    for path in (package / "src").rglob("*.py"):
        if str(path.relative_to(package)) in BUILDING:
            continue
        for node in executed(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                modules.add(node.module.partition(".")[0])
    own = {path.stem for path in (package / "src").iterdir()}
    found = packages_distributions()
    foreign = modules - own - set(sys.stdlib_module_names)
    return {normal(found[module][0] if module in found else module) for module in foreign}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_dependencies_are_those_that_are_imported(package: Path) -> None:
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    optional = {"pytest"} & declared(project.get("optional-dependencies", {}).get("testing", []))
    assert imported(package) | (COMPILED.keys() & declared(project["dependencies"])) == optional | declared(
        project["dependencies"]
    )


# --- the rooms of the core

SOURCES = ROOT / "core/src/raddle"


def rooms_in_docs() -> list[str]:
    """The rooms in the table of docs/architecture.md, from the top down."""
    table = (ROOT / "docs/architecture.md").read_text().partition("## Rooms of the core")[2].partition("\n## ")[0]
    names = [name for line in table.splitlines() if line.startswith("| `") for name in line.split("|")[1].split(",")]
    rooms = [name.strip(" `").removesuffix("/").removesuffix(".py") for name in names]
    return [room.removeprefix("raddle/") for room in rooms if room.startswith("raddle/")]


def room(path: Path) -> str:
    return path.relative_to(SOURCES).parts[0].removesuffix(".py")


def modules(node: ast.AST) -> list[str]:
    """What an import statement names, from Raddle's modules."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert not node.level, "rooms are imported by their whole names"
        return [f"raddle.{alias.name}" for alias in node.names] if node.module == "raddle" else [node.module or ""]
    return []


def imports_of_rooms() -> Iterator[tuple[str, str, str]]:
    """A room, another one that it imports, and where: for type checkers only, or within a function, too."""
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            for module in modules(node):
                package, _, rest = module.partition(".")
                other = rest.partition(".")[0]
                if package == "raddle" and other not in (room(path), "__version__"):
                    yield room(path), other, f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"


def upward(imports: Iterator[tuple[str, str, str]], order: list[str]) -> list[str]:
    """Imports of a room that does not stand further down in `order`."""
    facade = {"__init__", "__main__"}  # for users: no room imports it
    return [
        f"{where}: {importer} imports {imported}"
        for importer, imported, where in imports
        if importer not in facade and order.index(importer) >= (order.index(imported) if imported in order else 0)
    ]


def test_the_architecture_lists_each_room_once() -> None:
    rooms = {room(path) for path in SOURCES.rglob("*.py")} - {"__init__", "__main__"}
    assert sorted(rooms_in_docs()) == sorted(rooms)


def test_rooms_import_only_what_stands_below_them() -> None:
    assert upward(imports_of_rooms(), rooms_in_docs()) == []


def test_an_import_upwards_is_found() -> None:
    """The control: a circle has one in any order."""
    circle = [("ir", "runtime", "here"), ("runtime", "ir", "there")]
    for order in (["ir", "runtime"], ["runtime", "ir"]):
        assert len(upward(iter(circle), order)) == 1
    assert upward(iter([("ir", "Machine", "here")]), ["ir"]) == ["here: ir imports Machine"]
