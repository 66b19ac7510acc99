# SPDX-License-Identifier: Apache-2.0
"""Raddle: a dynamic binary translator and machine emulator that runs one host thread per guest CPU."""

from __future__ import annotations

import importlib

from raddle.errors import MachineError, PluginError, RaddleError, UsageError

TYPE_CHECKING = False  # the constant of `typing` would import it: a tenth of the time of `raddle --help`
if TYPE_CHECKING:
    from typing import Any, Final

    from raddle.accel import Decision
    from raddle.machine.chardev import CharDevice, ConsoleClosed, ExpectTimeout, MemoryConsole
    from raddle.machine.machine import Machine
    from raddle.machine.parts import Hook, Registers, State, VCpu
    from raddle.memory import AddressSpace, MemoryAccessError
    from raddle.ordering import MemoryOrder

__all__ = [
    "AddressSpace",
    "CharDevice",
    "ConsoleClosed",
    "Decision",
    "ExpectTimeout",
    "FlashFile",
    "Hook",
    "Machine",
    "MachineError",
    "MemoryAccessError",
    "MemoryConsole",
    "MemoryOrder",
    "PluginError",
    "RaddleError",
    "Registers",
    "State",
    "UsageError",
    "VCpu",
    "__version__",
]

__version__ = "0.1.0"

LAZY: Final = {
    "AddressSpace": "raddle.memory",
    "CharDevice": "raddle.machine.chardev",
    "ConsoleClosed": "raddle.machine.chardev",
    "Decision": "raddle.accel",
    "ExpectTimeout": "raddle.machine.chardev",
    "FlashFile": "raddle.machine.flash_file",
    "Hook": "raddle.machine.parts",
    "Machine": "raddle.machine.machine",
    "MemoryAccessError": "raddle.memory",
    "MemoryConsole": "raddle.machine.chardev",
    "MemoryOrder": "raddle.ordering",
    "Registers": "raddle.machine.parts",
    "State": "raddle.machine.parts",
    "VCpu": "raddle.machine.parts",
}
"""The module that each name is imported from when it is first used. So `import raddle` itself imports little."""


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module 'raddle' has no attribute {name!r}")
    value = getattr(importlib.import_module(LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
