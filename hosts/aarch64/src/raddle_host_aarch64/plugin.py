# SPDX-License-Identifier: Apache-2.0
"""AArch64 as a plug-in: what the core must know before it imports anything of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raddle.ordering import MemoryOrder
from raddle.plugins import Host, hookimpl

if TYPE_CHECKING:
    from raddle.codegen.backend import BackEnd
    from raddle.litmus.models import Model

RADDLE_API_VERSION: Final = 1

TCG_TARGET_DEFAULT_MO: Final = MemoryOrder.NONE
"""Plain accesses to different places may be seen in any order (Arm DDI 0487, B2.3)."""

MACHINE_NAMES: Final = ("aarch64", "arm64")
"""What `platform.machine()` says on Linux, and elsewhere."""


def load() -> type[BackEnd]:
    """The back end, with its assembler tables."""
    from raddle_host_aarch64.backend import AArch64BackEnd

    return AArch64BackEnd


def load_memory_model() -> Model:
    """The model of its memory, for litmus tests."""
    from raddle_host_aarch64.memory_model import ARMV8

    return ARMV8


@hookimpl
def raddle_host() -> Host:
    return Host(
        name="aarch64",
        word_bits=64,
        default_mo=TCG_TARGET_DEFAULT_MO,
        machine_names=MACHINE_NAMES,
        load=load,
        memory_model=load_memory_model,
    )
