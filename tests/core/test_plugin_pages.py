# SPDX-License-Identifier: Apache-2.0
"""The code in `docs/add-a-guest.md` and `docs/add-a-host.md` is that of the packages they are about, whose own tests
run it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from textwrap import indent

import pytest

from raddle.cli import new_host, new_target

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "plugins" / "raddle-target-tiny"
ALPHA = ROOT / "targets" / "alpha"
HOST = ROOT / "hosts" / "aarch64"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PACKAGES = {
    "add-a-guest": ((TINY, ALPHA), new_target.package("acme")),
    "add-a-host": ((HOST,), new_host.package("acme")),
}
"""By page: packages of this tree, and one that is written."""
TESTS = ROOT / "tests" / "hosts" / "aarch64"


def blocks(page: str) -> Iterator[str]:
    for language, text in BLOCK.findall((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")):
        yield text if language else text.replace("\n", "\n\n\n")  # lines of a table, which may be apart


def texts(page: str) -> Iterator[str]:
    directories, written = PACKAGES[page]
    for path in (*chain(*(directory.rglob("*") for directory in directories)), *TESTS.glob("*.py")):
        if path.suffix in (".py", ".dec", ".toml"):
            yield path.read_text(encoding="utf-8")
    yield from written.values()


def stands_in(block: str, text: str) -> bool:
    """Whether the lines of a block stand in a text as they are, but for their indentation; functions may be apart."""
    parts = [part.strip("\n") + "\n" for part in block.split("\n\n\n") if part]
    return any(all(indent(part, " " * spaces) in text for part in parts) for spaces in (0, 4, 8, 12))


CASES = [(page, block) for page in PACKAGES for block in blocks(page)]


@pytest.mark.parametrize(("page", "block"), CASES, ids=lambda text: text.strip().partition("\n")[0])
def test_code_is_a_packages(page: str, block: str) -> None:
    assert any(stands_in(block, text) for text in texts(page))


@pytest.mark.parametrize("page", PACKAGES)
def test_code_that_is_no_packages_is_noticed(page: str) -> None:
    assert not any(stands_in("def MUL(b: Builder, f: Fields) -> None:\n", text) for text in texts(page))


def test_the_pages_have_what_an_author_needs() -> None:
    assert len(list(blocks("add-a-guest"))) > 15
    assert len(list(blocks("add-a-host"))) > 7


def test_the_guest_page_goes_through_all_of_alpha() -> None:
    page = (ROOT / "docs" / "add-a-guest.md").read_text(encoding="utf-8")
    package = ALPHA / "src" / "raddle_target_alpha"
    files = {str(path.relative_to(package)) for path in package.rglob("*.py") if path.name != "__init__.py"}
    unnamed = {file for file in files if f"`{file}`" not in page}
    # Chapters of the manual.
    names = ("branch", "float_arithmetic", "float_moves", "float_vax", "integer", "memory", "miscellaneous", "parallel")
    assert unnamed == {f"insns/{name}.py" for name in names}


def test_the_host_page_goes_through_all_files() -> None:
    """Of both packages."""
    page = (ROOT / "docs" / "add-a-host.md").read_text(encoding="utf-8")
    _, written = PACKAGES["add-a-host"]
    files = [str(path.relative_to(HOST)).split("/", 2)[2] for path in HOST.rglob("src/**/*.py")]
    files += [path.split("/", 2)[2] for path in written if path.startswith("src/") and path.endswith(".py")]
    unnamed = {file for file in files if f"`{file}`" not in page and not file.endswith("__init__.py")}
    # What a few lines of another file would do.
    assert unnamed == {"conditions.py"}
