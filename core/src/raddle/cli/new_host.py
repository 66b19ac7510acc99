# SPDX-License-Identifier: Apache-2.0
"""`raddle new-host`: writes a host package for a machine that it simulates, to start from."""

from __future__ import annotations

import argparse
from typing import Final

from raddle.cli import new_package

KIND: Final = new_package.Kind("host", "host")


def configure(parser: argparse.ArgumentParser) -> None:
    new_package.configure(parser, KIND)


def run(arguments: argparse.Namespace) -> int:
    return new_package.write(arguments, KIND)


def package(name: str) -> dict[str, str]:
    """The files of the package of a host `name`: text by path."""
    return new_package.package(KIND, name)
