# SPDX-License-Identifier: Apache-2.0
"""The firmware configuration device: it gives firmware data about the machine, and the kernel to boot.

Items have numbers, and are read as streams of bytes: the guest selects an item and reads it byte by byte, or gives the
address of a request that says how many bytes to copy to which place in RAM. The device tree's binding is
qemu,fw-cfg-mmio; QEMU's documentation of the interface calls it fw_cfg. Registers and requests are big-endian, numbers
in items little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import ClassVar, Final

from raddle.memory import AddressSpace, Kind
from raddle.stateful import Stateful

__all__ = ["FwCfg", "Item"]


class Item(IntEnum):
    """Numbers of items. Others read as zeros."""

    SIGNATURE = 0x00
    FEATURES = 0x01
    CPUS = 0x05
    KERNEL_SIZE = 0x08
    INITRD_SIZE = 0x0B
    KERNEL_DATA = 0x11
    INITRD_DATA = 0x12
    COMMAND_LINE_SIZE = 0x14
    COMMAND_LINE = 0x15
    FILES = 0x19


DATA: Final = 0x00
SELECTOR: Final = 0x08
REQUEST: Final = 0x10
"""Offsets of the registers: 8, 2 and 8 bytes. Writing the request's low half starts it."""

SIGNATURE: Final = b"QEMU"
REQUEST_SIGNATURE: Final = int.from_bytes(b"QEMU CFG", "big")
STREAM, REQUESTS = 1 << 0, 1 << 1

REQUEST_LAYOUT: Final = struct.Struct(">IIQ")
"""Control, length, address."""
FAILED, READ, SKIP, SELECT, WRITE = (1 << bit for bit in range(5))

PIECE: Final = 1 << 20
"""Bytes that are copied at a time."""


class FwCfg(Stateful):
    """All methods are called under the big lock."""

    NAME: ClassVar[str] = "fw_cfg"
    SIZE: ClassVar[int] = 0x1000
    REGISTERS_SIZE: ClassVar[int] = 0x18
    """Bytes of the region that are registers."""
    STATE: ClassVar = ("_selected", "_position", "_request")

    def __init__(self, memory: AddressSpace, items: Mapping[Item, bytes]) -> None:
        """`items` are added to the items that identify this device and say that there are no files."""
        self._memory = memory
        self._items: Final[dict[int, bytes]] = {
            Item.SIGNATURE: SIGNATURE,
            Item.FEATURES: (STREAM | REQUESTS).to_bytes(4, "little"),
            Item.FILES: bytes(4),
            **{int(number): item for number, item in items.items()},
        }
        self._selected = 0
        self._position = 0
        self._request = 0
        self.reset()

    def reset(self) -> None:
        self._request = 0
        self._select(Item.SIGNATURE)

    def _select(self, number: int) -> None:
        self._selected = number
        self._position = 0

    def _take(self, count: int) -> bytes:
        """The next bytes of the stream; zeros after the end of the item."""
        item = self._items.get(self._selected, b"")
        taken = item[self._position : self._position + count]
        self._position += count
        return taken.ljust(count, b"\0")

    # --- registers

    def read(self, offset: int, size: int) -> int:
        """The bytes of an access are in the order of the stream, whatever its width."""
        if offset < DATA + 8:
            return int.from_bytes(self._take(size), "little")
        if REQUEST <= offset <= REQUEST + 8 - size:
            shown = REQUEST_SIGNATURE.to_bytes(8, "big")[offset - REQUEST :][:size]
            return int.from_bytes(shown, "little")
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        written = value.to_bytes(size, "little")
        if offset == SELECTOR and size == 2:
            self._select(int.from_bytes(written, "big"))
        elif REQUEST <= offset <= REQUEST + 8 - size:
            request = bytearray(self._request.to_bytes(8, "big"))
            request[offset - REQUEST : offset - REQUEST + size] = written
            self._request = int.from_bytes(request, "big")
            if offset + size == REQUEST + 8:
                address, self._request = self._request, 0
                self._do(address)

    # --- requests

    def _do(self, address: int) -> None:
        """Carry out the request at an address, and write the result there: 0, or FAILED."""
        if not self._is_ram(address, REQUEST_LAYOUT.size):
            return
        control, length, place = REQUEST_LAYOUT.unpack(self._memory.read(address, REQUEST_LAYOUT.size))
        if control & SELECT:
            self._select(control >> 16)
        done = True
        if control & READ:
            done = self._copy(place, length)
        elif control & WRITE:
            done = not length  # no item can be written
        elif control & SKIP:
            self._position += length
        self._memory.write(address, (0 if done else FAILED).to_bytes(4, "big"))

    def _copy(self, place: int, length: int) -> bool:
        """Copy the next `length` bytes of the stream to RAM; False if they do not fit there."""
        if length and not self._is_ram(place, length):
            return False
        for position in range(0, length, PIECE):
            self._memory.write(place + position, self._take(min(PIECE, length - position)))
        return True

    def _is_ram(self, address: int, size: int) -> bool:
        region = self._memory.find(address)
        return region is not None and region.kind is Kind.RAM and address + size <= region.end
