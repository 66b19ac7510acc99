# SPDX-License-Identifier: Apache-2.0
"""Empty virtio-mmio slots (Virtual I/O Device 1.2, section 4.2): places for devices, without any device.

A driver that looks for devices at fixed addresses reads the magic value and the version, and then that the device's
number is 0, which means that it must skip the slot.
"""

from __future__ import annotations

from itertools import chain
from typing import ClassVar, Final

from raddle.devices.base import WORD, Device, Register
from raddle.ir.builder import Builder, Value
from raddle.ir.types import Type

__all__ = ["SLOTS", "SLOT_SIZE", "VirtioSlots"]

SLOTS: Final = 32
SLOT_SIZE: Final = 0x200

MAGIC_OFFSET, VERSION_OFFSET, DEVICE_ID_OFFSET = 0x000, 0x004, 0x008
MAGIC: Final = int.from_bytes(b"virt", "little")
VERSION: Final = 1
"""The legacy interface (4.2.4), which drivers that look at fixed addresses expect on this board."""


def _slot(number: int) -> tuple[Register, ...]:
    start = SLOT_SIZE * number
    return (
        Register(start + MAGIC_OFFSET, f"MAGIC{number}", reset=MAGIC),
        Register(start + VERSION_OFFSET, f"VERSION{number}", reset=VERSION),
        Register(start + DEVICE_ID_OFFSET, f"DEVICE_ID{number}"),
    )


class VirtioSlots(Device):
    """SLOTS consecutive slots of SLOT_SIZE bytes. Other registers than these three read as 0; a driver does not need
    them.
    """

    NAME = "virtio-mmio"
    SIZE = SLOTS * SLOT_SIZE
    REGISTERS: ClassVar = tuple(chain.from_iterable(map(_slot, range(SLOTS))))

    def serve(self, b: Builder, offset: Value, how: Value, value: Value) -> None:
        """Emit aligned reads of words for all slots at once; `hot` rows would be compared one by one."""
        with b.if_(b.and_(b.eq(how, WORD), b.eq(b.and_(offset, WORD - 1), 0))):
            place = b.and_(offset, SLOT_SIZE - 1)
            with b.if_(b.eq(place, MAGIC_OFFSET)):
                b.ret(b.const(MAGIC, Type.I64))
            with b.if_(b.eq(place, VERSION_OFFSET)):
                b.ret(b.const(VERSION, Type.I64))
            with b.if_(b.eq(place, DEVICE_ID_OFFSET)):
                b.ret(b.const(0, Type.I64))
