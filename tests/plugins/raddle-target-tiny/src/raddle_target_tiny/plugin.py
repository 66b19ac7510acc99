# SPDX-License-Identifier: Apache-2.0
"""The tiny guest as a plug-in: what the core must know before it imports anything of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raddle.ordering import MemoryOrder
from raddle.plugins import Target, hookimpl

if TYPE_CHECKING:
    from raddle.translate.frontend import FrontEnd

RADDLE_API_VERSION: Final = 1

TARGET_SUPPORTS_MTTCG: Final = True
TCG_GUEST_DEFAULT_MO: Final = MemoryOrder.ALL
"""Sequentially consistent: every access is ordered, so that Dekker's algorithm works without a barrier."""


def load() -> FrontEnd:
    from raddle_target_tiny.frontend import FRONT_END

    return FRONT_END


@hookimpl
def raddle_target() -> Target:
    return Target(
        name="tiny",
        word_bits=32,
        supports_mttcg=TARGET_SUPPORTS_MTTCG,
        default_mo=TCG_GUEST_DEFAULT_MO,
        elf_machine=None,
        cpus=("tiny",),
        load=load,
    )
