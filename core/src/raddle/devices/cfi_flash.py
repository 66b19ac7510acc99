# SPDX-License-Identifier: Apache-2.0
"""A bank of NOR flash: two 16-bit chips side by side, with the Intel command set (JESD68.01; Intel's application note
646, "Common Flash Interface (CFI) and Command Sets"; the StrataFlash data sheets).

The guest reads the array like ROM. A store is a command, or data for one; until the command Read Array, loads show
status, identifiers or the query table. Everything takes effect at once: a chip is never busy.

Both chips get the same commands, and show the same: the bank has one state. Even an access that is narrower than the
bank reaches both chips, so guests that probe 16 bits at a time find a flash that they can use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import ClassVar, Final

from raddle.devices.base import guest_error
from raddle.memory import AddressSpace
from raddle.stateful import Stateful

__all__ = ["CfiFlash"]

WIDTH: Final = 4
"""Bytes of the bank's bus: one word of each chip."""
CHIPS: Final = 2
CHIP_SIZE_LOG2: Final = 25
CHIP_BLOCK: Final = 128 << 10
CHIP_BUFFER_LOG2: Final = 11

MANUFACTURER: Final = 0x89
DEVICE: Final = 0x18
UNLOCKED: Final = 0
IDENTIFIERS: Final = {0: MANUFACTURER, 1: DEVICE, 2: UNLOCKED}
"""Values of Read Identifier Codes, by word in the block; others read as 0."""

# Commands: the low byte of the value that is written.
READ_ARRAY: Final = 0xFF
READ_IDENTIFIER: Final = 0x90
READ_QUERY: Final = 0x98
READ_STATUS: Final = 0x70
CLEAR_STATUS: Final = 0x50
PROGRAM: Final = (0x40, 0x10)
BUFFERED_PROGRAM: Final = 0xE8
ERASE: Final = 0x20
LOCK: Final = 0x60
CONFIRM: Final = 0xD0
LOCK_CONFIRMS: Final = (0x01, 0x2F, CONFIRM)
"""Lock, lock down, unlock. The chips have no lock bits, as their query table says, so nothing is locked."""

# Status register
READY: Final = 1 << 7
ERASE_FAILED: Final = 1 << 5
PROGRAM_FAILED: Final = 1 << 4
BLOCK_LOCKED: Final = 1 << 1
BAD_SEQUENCE: Final = ERASE_FAILED | PROGRAM_FAILED


def query_table() -> Mapping[int, int]:
    """The bytes that Read Query shows, by the chip's word address (JESD68.01, chapter 4); others are 0."""
    table: dict[int, int] = {}

    def put(address: int, *values: int) -> None:
        table.update({address + n: value for n, value in enumerate(values)})

    blocks = (1 << CHIP_SIZE_LOG2) // CHIP_BLOCK
    put(0x10, *b"QRY")
    put(0x13, *(0x0001).to_bytes(2, "little"), *(0x0031).to_bytes(2, "little"))  # command set, its table
    put(0x1B, 0x45, 0x55)  # supply of 4.5 to 5.5 V, no programming voltage
    put(0x1F, 7, 7, 10)  # log2 of the typical time: word µs, buffer µs, block erase ms
    put(0x23, 4, 4, 4)  # log2 of how many times longer it may take
    put(0x27, CHIP_SIZE_LOG2, *(2).to_bytes(2, "little"))  # interface: 8 or 16 bits
    put(0x2A, *CHIP_BUFFER_LOG2.to_bytes(2, "little"))
    put(0x2C, 1, *(blocks - 1).to_bytes(2, "little"), *(CHIP_BLOCK // 256).to_bytes(2, "little"))  # one erase region
    put(0x31, *b"PRI10")  # no optional feature
    return table


class _Mode(Enum):
    """Modes of loads: what they show."""

    ARRAY = "array"
    STATUS = "status"
    IDENTIFIER = "identifier"
    QUERY = "query"


class _Awaits(Enum):
    """What the next store means."""

    COMMAND = "command"
    WORD = "word to program"
    COUNT = "count of words"
    DATA = "word for the buffer"
    BUFFER_CONFIRM = "confirmation of a buffered program"
    ERASE_CONFIRM = "confirmation of a block erase"
    LOCK_CONFIRM = "lock bit's setting"


class CfiFlash(Stateful):
    """A bank of 64 MiB in 256 blocks. Everything is called under the big lock, on any thread.

    The region's `memory` is the array; writing it from Python (a loader) works like an external programmer.
    """

    SIZE: ClassVar[int] = CHIPS << CHIP_SIZE_LOG2
    BLOCK: ClassVar[int] = CHIPS * CHIP_BLOCK
    BUFFER: ClassVar[int] = CHIPS << CHIP_BUFFER_LOG2
    """The most bytes that a buffered program changes, within one aligned range of this size."""
    QUERY: ClassVar[Mapping[int, int]] = query_table()
    STATE: ClassVar = ("_status", "_mode", "_awaits", "_place", "_left", "_buffer")
    """The array is memory, and not saved with it."""

    def __init__(
        self,
        memory: AddressSpace,
        name: str,
        start: int,
        *,
        save: Callable[[int, bytes], None] | None = None,
        writable: bool = True,
    ) -> None:
        """Adds the bank to `memory` at `start`, zeroed. `save(offset, data)` is called before the guest changes part of
        the array; an exception in it stops the machine, with the array unchanged. The guest's programs and erases fail
        if the bank is not `writable`.
        """
        self._memory = memory
        self.region = memory.add_rom_device(name, start, self.SIZE, self)
        self._save = save
        self._writable = writable
        self._status = READY
        self._mode = _Mode.ARRAY
        self._awaits = _Awaits.COMMAND
        self._place = 0
        """Offset of the first cycle of the current command."""
        self._left = 0
        """Words that the buffer still needs."""
        self._buffer: list[tuple[int, bytes]] = []
        """Offsets and data of words that wait for confirmation: at most as many as the given count."""
        self._noted: set[int] = set()

    def reset(self) -> None:
        """The chips' reset pin: loads show the array, which keeps its contents."""
        self._status = READY
        self._awaits = _Awaits.COMMAND
        self._buffer.clear()
        self._show(_Mode.ARRAY)

    def restored(self) -> None:
        self._show(self._mode)

    def disconnect(self) -> None:
        """The machine is closed: drop the reference to the region, which refers back to the bank."""
        self.__dict__.pop("region", None)

    # --- guest accesses

    def read(self, offset: int, size: int) -> int:
        """Read `size` bytes (1, 2, 4 or 8) of what is shown, little-endian."""
        if self._mode is _Mode.ARRAY:
            return int.from_bytes(self._array(offset, size), "little")
        first = offset & -WIDTH
        words = b"".join(
            self._shown(place).to_bytes(WIDTH // CHIPS, "little") * CHIPS
            for place in range(first, offset + size, WIDTH)
        )
        return int.from_bytes(words[offset - first : offset - first + size], "little")

    def _shown(self, offset: int) -> int:
        """What one chip shows at an offset in the bank."""
        if self._mode is _Mode.STATUS:
            return self._status
        if self._mode is _Mode.IDENTIFIER:
            return IDENTIFIERS.get(offset % self.BLOCK // WIDTH, 0)
        return self.QUERY.get(offset // WIDTH, 0)

    def write(self, offset: int, size: int, value: int) -> None:
        """A command, or data for one; each `WIDTH` bytes are a bus cycle."""
        while size > WIDTH:
            self.write(offset, WIDTH, value & (1 << 8 * WIDTH) - 1)
            offset, size, value = offset + WIDTH, size - WIDTH, value >> 8 * WIDTH
        match self._awaits:
            case _Awaits.COMMAND:
                self._command(offset, value & 0xFF)
            case _Awaits.WORD:
                self._finish(self._program([(offset, value.to_bytes(size, "little"))]))
            case _Awaits.COUNT:
                self._count(value & 0xFFFF)
            case _Awaits.DATA:
                self._load_buffer(offset, value.to_bytes(size, "little"))
            case _Awaits.BUFFER_CONFIRM:
                self._finish(self._program_buffer() if value & 0xFF == CONFIRM else BAD_SEQUENCE)
            case _Awaits.ERASE_CONFIRM:
                self._finish(self._erase(self._place) if value & 0xFF == CONFIRM else BAD_SEQUENCE)
            case _Awaits.LOCK_CONFIRM:
                self._finish(0 if value & 0xFF in LOCK_CONFIRMS else BAD_SEQUENCE)

    def _command(self, offset: int, command: int) -> None:
        self._place = offset
        if command in FIRST_CYCLES:
            self._awaits = FIRST_CYCLES[command]
            self._show(_Mode.STATUS)
            return
        if command == CLEAR_STATUS:
            self._status = READY
        elif command not in MODES and command not in self._noted:
            self._noted.add(command)
            guest_error("%s: guest gives unknown command %#x", self.region.name, command)
        self._show(MODES.get(command, _Mode.ARRAY))

    def _finish(self, failed: int) -> None:
        """A command has succeeded or failed: status bits say which, until they are cleared."""
        self._status |= failed
        self._awaits = _Awaits.COMMAND
        self._buffer.clear()

    # --- programming and erasing; each returns the status bits that it sets

    def _program(self, words: list[tuple[int, bytes]]) -> int:
        """Programming makes ones zeros, never the other way."""
        if not self._writable:
            return PROGRAM_FAILED | BLOCK_LOCKED
        first = min(offset for offset, _ in words)
        last = max(offset + len(data) for offset, data in words)
        new = bytearray(self._array(first, last - first))
        for offset, data in words:
            for n, byte in enumerate(data, offset - first):
                new[n] &= byte
        self._change(first, bytes(new))
        return 0

    def _count(self, less_one: int) -> None:
        if less_one >= self.BUFFER // WIDTH:
            self._finish(BAD_SEQUENCE)
            return
        self._left = less_one + 1
        self._awaits = _Awaits.DATA

    def _load_buffer(self, offset: int, data: bytes) -> None:
        self._buffer.append((offset, data))
        self._left -= 1
        if not self._left:
            self._awaits = _Awaits.BUFFER_CONFIRM

    def _program_buffer(self) -> int:
        """All words must lie in the command's block, and in the same aligned range as the first one."""
        start = self._buffer[0][0] & -self.BUFFER
        in_block = start & -self.BLOCK == self._place & -self.BLOCK
        if not in_block or any(offset & -self.BUFFER != start for offset, _ in self._buffer):
            return BAD_SEQUENCE
        return self._program(self._buffer)

    def _erase(self, offset: int) -> int:
        if not self._writable:
            return ERASE_FAILED | BLOCK_LOCKED
        self._change(offset & -self.BLOCK, b"\xff" * self.BLOCK)
        return 0

    def _change(self, offset: int, data: bytes) -> None:
        if data == self._array(offset, len(data)):
            return
        if self._save is not None:
            self._save(offset, data)
        self._memory.write(self.region.start + offset, data)

    def _array(self, offset: int, size: int) -> bytes:
        assert self.region.memory is not None
        return bytes(self.region.memory.bytes[offset : offset + size])

    def _show(self, mode: _Mode) -> None:
        self._mode = mode
        self._memory.serve_loads(self.region, mode is not _Mode.ARRAY)


MODES: Final = {
    READ_ARRAY: _Mode.ARRAY,
    READ_IDENTIFIER: _Mode.IDENTIFIER,
    READ_QUERY: _Mode.QUERY,
    READ_STATUS: _Mode.STATUS,
}
"""Commands of one cycle, which only change what is shown. Clear Status and commands that the chips do not have show the
array."""
FIRST_CYCLES: Final = {
    **dict.fromkeys(PROGRAM, _Awaits.WORD),
    BUFFERED_PROGRAM: _Awaits.COUNT,
    ERASE: _Awaits.ERASE_CONFIRM,
    LOCK: _Awaits.LOCK_CONFIRM,
}
"""Commands of more cycles; loads show status until another command changes that."""
