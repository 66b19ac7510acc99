# SPDX-License-Identifier: Apache-2.0
"""Alpha as a plug-in: what the core must know before it imports anything of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from raddle.ordering import MemoryOrder
from raddle.plugins import Board, ElfFormat, Target, hookimpl

if TYPE_CHECKING:
    from raddle.litmus.guest import LitmusGuest
    from raddle.translate.frontend import FrontEnd
    from raddle_target_alpha.boards.clipper import Clipper

RADDLE_API_VERSION: Final = 1

TARGET_SUPPORTS_MTTCG: Final = True
TCG_GUEST_DEFAULT_MO: Final = MemoryOrder.NONE
"""Alpha orders plain accesses only by barriers: not even by dependencies (Architecture Reference Manual, 5.6.1)."""

EM_ALPHA: Final = 0x9026
KSEG: Final = (0xFFFF_FC00_0000_0000, 1 << 40)
"""Kernels are linked in this part of KSEG, which is memory (21264 Hardware Reference Manual, 5.3.5)."""

CPUS: Final = ("ev67", "ev4", "ev45", "ev5", "ev56", "pca56", "ev6", "ev68")
"""The default first; raddle_target_alpha.cpus says what each has."""


def load(cpu: str) -> FrontEnd:
    """The front end for a CPU model, with its decode tables."""
    from raddle_target_alpha.frontend import front_end

    made = front_end(cpu)
    made.instruction_set(0)  # a guest whose tables cannot be read must not be offered
    return made


def load_clipper() -> type[Clipper]:
    """The board's class, with its devices."""
    from raddle_target_alpha.boards.clipper import Clipper

    return Clipper


def load_litmus() -> LitmusGuest:
    """Machine code for litmus tests."""
    from raddle_target_alpha.litmus import GUEST

    return GUEST


@hookimpl
def raddle_target() -> Target:
    return Target(
        name="alpha",
        word_bits=64,
        supports_mttcg=TARGET_SUPPORTS_MTTCG,
        default_mo=TCG_GUEST_DEFAULT_MO,
        elf_machine=EM_ALPHA,
        cpus=CPUS,
        load=load,
        elf_formats=(ElfFormat(64, "little"),),
        direct_map=KSEG,
        litmus=load_litmus,
    )


@hookimpl
def raddle_boards() -> Iterable[Board]:
    described = "DP264 with the 21272 chipset: 8259s, 8254, MC146818, 16550, empty PCI bus"
    return [Board("clipper", "alpha", described, 4, load_clipper)]
