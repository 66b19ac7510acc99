# SPDX-License-Identifier: Apache-2.0
"""`raddle new-target`: writes a guest package with a machine that runs programs, to start from."""

from __future__ import annotations

import argparse
from typing import Final

from raddle.cli import new_package

KIND: Final = new_package.Kind("target", "guest")


def configure(parser: argparse.ArgumentParser) -> None:
    new_package.configure(parser, KIND)


def run(arguments: argparse.Namespace) -> int:
    return new_package.write(arguments, KIND)


def package(name: str) -> dict[str, str]:
    """The files of the package of a guest `name`: text by path."""
    return new_package.package(KIND, name)
