# SPDX-License-Identifier: Apache-2.0
"""What a package declares to need it imports, and what it imports it declares."""

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
