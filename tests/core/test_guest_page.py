# SPDX-License-Identifier: Apache-2.0
"""The code in `docs/add-a-guest.md` is that of the two guests it is about, whose own tests run it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

import pytest

from raddle.cli.new_target import package

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "plugins" / "raddle-target-tiny"
PAGE = ROOT / "docs" / "add-a-guest.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> Iterator[str]:
    for language, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        yield text if language else text.replace("\n", "\n\n\n")  # lines of a table, which may be apart


def texts() -> Iterator[str]:
    for path in TINY.rglob("*"):
        if path.suffix in (".py", ".dec", ".toml"):
            yield path.read_text(encoding="utf-8")
    yield from package("acme").values()


def stands_in(block: str, text: str) -> bool:
    """Whether the lines of a block stand in a text as they are, but for their indentation; functions may be apart."""
    parts = [part.strip("\n") + "\n" for part in block.split("\n\n\n") if part]
    return any(all(indent(part, " " * spaces) in text for part in parts) for spaces in (0, 4, 8, 12))


@pytest.mark.parametrize("block", list(blocks()), ids=lambda block: block.strip().partition("\n")[0])
def test_code_is_a_guests(block: str) -> None:
    assert any(stands_in(block, text) for text in texts())


def test_code_that_is_no_guests_is_noticed() -> None:
    assert not any(stands_in("def MUL(b: Builder, f: Fields) -> None:\n", text) for text in texts())


def test_the_page_has_what_a_guest_needs() -> None:
    assert len(list(blocks())) > 15
