# SPDX-License-Identifier: Apache-2.0
"""ARM as a plug-in: what the core must know before it imports the rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from raddle.ordering import MemoryOrder
from raddle.plugins import Board, ElfFormat, KernelKind, Magic, Property, Target, hookimpl

if TYPE_CHECKING:
    from raddle.litmus.guest import LitmusGuest
    from raddle.plugins import KernelReader
    from raddle.translate.frontend import FrontEnd
    from raddle_target_arm.boards.virt import Virt

RADDLE_API_VERSION: Final = 1

TARGET_SUPPORTS_MTTCG: Final = True
TCG_GUEST_DEFAULT_MO: Final = MemoryOrder.NONE
"""ARMv7-A orders plain accesses only by dependencies and barriers (ARM DDI 0406C, A3.8)."""

EM_ARM: Final = 40
IH_ARCH_ARM: Final = 2
"""In U-Boot's legacy image format."""

FOREIGN_FILES: Final = (
    Magic(0x38, b"ARM\x64", "a 64-bit ARM kernel"),
    Magic(0x202, b"HdrS", "an x86 kernel"),
)


def load(cpu: str) -> FrontEnd:
    """The front end for a CPU model, with its decode tables."""
    from raddle_target_arm.frontend import FRONT_ENDS

    front_end = FRONT_ENDS[cpu]
    front_end.instruction_set(0)  # a guest whose tables cannot be read must not be offered
    return front_end


def load_zimage() -> KernelReader:
    """The reader of zImages."""
    from raddle_target_arm.zimage import read

    return read


def load_virt() -> type[Virt]:
    """The board's class, with its devices."""
    from raddle_target_arm.boards.virt import Virt

    return Virt


def load_litmus() -> LitmusGuest:
    """Machine code for litmus tests."""
    from raddle_target_arm.litmus import GUEST

    return GUEST


VIRT_PROPERTIES: Final = (
    Property("gic-version", ("2", "max", "host"), "architecture of the interrupt controller, which is GICv2"),
    Property("virtualization", ("off",), "Virtualization Extensions"),
    Property("secure", ("off",), "Security Extensions"),
    Property("highmem", ("off",), "devices and RAM beyond 4 GiB"),
    Property("its", ("off",), "the Interrupt Translation Service of later interrupt controllers"),
)


@hookimpl
def raddle_target() -> Target:
    return Target(
        name="arm",
        word_bits=32,
        supports_mttcg=TARGET_SUPPORTS_MTTCG,
        default_mo=TCG_GUEST_DEFAULT_MO,
        elf_machine=EM_ARM,
        cpus=("cortex-a15",),
        load=load,
        elf_formats=(ElfFormat(32, "little"),),
        uimage_architecture=IH_ARCH_ARM,
        kernel_kinds=(KernelKind("zImage", Magic(0x24, b"\x18\x28\x6f\x01", "a zImage"), load_zimage),),
        foreign_files=FOREIGN_FILES,
        litmus=load_litmus,
    )


@hookimpl
def raddle_boards() -> Iterable[Board]:
    described = "generic board for device-tree kernels: GICv2, PL011, PL031, PSCI"
    return [Board("virt", "arm", described, 8, load_virt, VIRT_PROPERTIES)]
