# SPDX-License-Identifier: Apache-2.0
"""`raddle docs`: shows the pages that are installed with Raddle, and those that are made from its tables."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from typing import Final

from raddle.cli.commands import program
from raddle.cli.reference import PAGES
from raddle.errors import unknown

SUFFIX: Final = ".md"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("page", metavar="PAGE", nargs="?", help="the page to print; without it, they are listed")


def run(arguments: argparse.Namespace) -> int:
    pages: dict[str, Callable[[], str]] = {
        file.name.removesuffix(SUFFIX): partial(file.read_text, encoding="utf-8")
        for file in (files("raddle") / "docs").iterdir()
        if file.name.endswith(SUFFIX)
    }
    pages |= PAGES
    wanted: str | None = arguments.page
    if wanted is None:
        for name, text in sorted(pages.items()):
            title = text().partition("\n")[0].lstrip("# ")
            print(f"{name:<16}{title}")
        print(f"\n{program()} docs PAGE prints one.")
        return 0
    page = pages.get(wanted.removesuffix(SUFFIX))
    if page is None:
        raise unknown("page", wanted, sorted(pages))
    print(page(), end="")
    return 0
