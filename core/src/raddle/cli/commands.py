# SPDX-License-Identifier: Apache-2.0
"""The sub-commands of `raddle`, and their files."""

from __future__ import annotations

import sys
from importlib import import_module

TYPE_CHECKING = False  # see raddle/__init__.py
if TYPE_CHECKING:
    from typing import Any, Final

__all__ = ["COMMANDS", "load", "program"]

COMMANDS: Final = {
    "boot": "boot a machine: system mode, with QEMU-style options",
    "info": "list plug-ins, boards and CPUs, and the threading mode of each guest on each host",
    "demo": "run the bundled multi-processor guest and show what each vCPU did",
    "litmus": "run litmus tests of memory order as guests, and compare with what the guest's architecture allows",
    "fetch-demo-kernel": "fetch a stock Debian kernel and make an initial RAM disk, to boot",
    "new-target": "write a guest package with a machine that runs programs, to start from",
    "new-host": "write a host package for a machine that is simulated, to start from",
    "docs": "show the pages that are installed with Raddle: how to add a guest, how it works inside",
}


def program() -> str:
    """The command as the user typed it, for messages that say what to type."""
    return "python -m raddle" if sys.argv[0].endswith("/raddle/__main__.py") else "raddle"


def load(command: str) -> Any:
    """The module of a sub-command."""
    return import_module(f"raddle.cli.{command.replace('-', '_')}")
