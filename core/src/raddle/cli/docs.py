# SPDX-License-Identifier: Apache-2.0
"""`raddle docs`: shows the pages that are installed with Raddle."""

from __future__ import annotations

import argparse
from importlib.resources import files
from typing import Final

from raddle.cli.commands import program
from raddle.errors import unknown

SUFFIX: Final = ".md"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("page", metavar="PAGE", nargs="?", help="the page to print; without it, they are listed")


def run(arguments: argparse.Namespace) -> int:
    pages = {
        file.name.removesuffix(SUFFIX): file
        for file in (files("raddle") / "docs").iterdir()
        if file.name.endswith(SUFFIX)
    }
    wanted: str | None = arguments.page
    if wanted is None:
        for name, file in sorted(pages.items()):
            title = file.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
            print(f"{name:<16}{title}")
        print(f"\n{program()} docs PAGE prints one.")
        return 0
    page = pages.get(wanted.removesuffix(SUFFIX))
    if page is None:
        raise unknown("page", wanted, sorted(pages))
    print(page.read_text(encoding="utf-8"), end="")
    return 0
