# SPDX-License-Identifier: Apache-2.0
"""Raddle: a dynamic binary translator and machine emulator that runs one host thread per guest CPU."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from raddle.errors import MachineError, PluginError, RaddleError, UsageError

if TYPE_CHECKING:
    from raddle.accel import Decision
    from raddle.machine.chardev import CharDevice, MemoryConsole
    from raddle.machine.machine import Machine
    from raddle.memory import AddressSpace
    from raddle.ordering import MemoryOrder

__all__ = [
    "AddressSpace",
    "CharDevice",
    "Decision",
    "FlashFile",
    "Machine",
    "MachineError",
    "MemoryConsole",
    "MemoryOrder",
    "PluginError",
    "RaddleError",
    "UsageError",
    "__version__",
]

__version__ = "0.1.0"

LAZY: Final = {
    "AddressSpace": "raddle.memory",
    "CharDevice": "raddle.machine.chardev",
    "Decision": "raddle.accel",
    "FlashFile": "raddle.machine.flash_file",
    "Machine": "raddle.machine.machine",
    "MemoryConsole": "raddle.machine.chardev",
    "MemoryOrder": "raddle.ordering",
}
"""Where a name is imported from when it is first used, so that `import raddle` alone costs next to nothing."""


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module 'raddle' has no attribute {name!r}")
    value = getattr(importlib.import_module(LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
