# SPDX-License-Identifier: Apache-2.0
"""x86-64 as a plug-in: what the core must know before it imports anything of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raddle.ordering import MemoryOrder
from raddle.plugins import Host, hookimpl

if TYPE_CHECKING:
    from raddle.codegen.backend import BackEnd
    from raddle.litmus.models import Model

RADDLE_API_VERSION: Final = 1

TCG_TARGET_DEFAULT_MO: Final = MemoryOrder.ALL & ~MemoryOrder.ST_LD
"""Total store order: a load may pass an earlier store and nothing else moves (Intel SDM volume 3, 9.2)."""


def load() -> type[BackEnd]:
    """The back end, with its assembler tables."""
    from raddle_host_x86_64.backend import X86BackEnd

    return X86BackEnd


def load_memory_model() -> Model:
    """The model of its memory, for litmus tests."""
    from raddle_host_x86_64.memory_model import X86_TSO

    return X86_TSO


@hookimpl
def raddle_host() -> Host:
    return Host(
        name="x86_64",
        word_bits=64,
        default_mo=TCG_TARGET_DEFAULT_MO,
        machine_names=("x86_64", "AMD64"),
        load=load,
        memory_model=load_memory_model,
    )
