# SPDX-License-Identifier: Apache-2.0
"""The tiny guest as a plug-in: what the core must know before it imports anything of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from raddle.ordering import MemoryOrder
from raddle.plugins import Board, Target, hookimpl

if TYPE_CHECKING:
    from raddle.translate.frontend import FrontEnd

RADDLE_API_VERSION: Final = 1

TARGET_SUPPORTS_MTTCG: Final = True
TCG_GUEST_DEFAULT_MO: Final = MemoryOrder.ALL
"""Sequentially consistent: every access is ordered, so that Dekker's algorithm works without a barrier."""


def load(cpu: str) -> FrontEnd:
    from raddle_target_tiny.frontend import FRONT_ENDS

    return FRONT_ENDS[cpu]


@hookimpl
def raddle_target() -> Target:
    return Target(
        name="tiny",
        word_bits=32,
        supports_mttcg=TARGET_SUPPORTS_MTTCG,
        default_mo=TCG_GUEST_DEFAULT_MO,
        elf_machine=None,
        cpus=("tiny", "tiny-uni"),
        load=load,
        litmus=load_litmus,
    )


def load_litmus() -> Any:
    from raddle_target_tiny.litmus import GUEST

    return GUEST


def load_board() -> Any:
    from raddle_target_tiny.board import Desk

    return Desk


@hookimpl
def raddle_boards() -> Iterable[Board]:
    return [
        Board(name="desk", target="tiny", description="RAM, a console, a power switch", max_cpus=8, load=load_board)
    ]
