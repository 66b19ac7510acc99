# SPDX-License-Identifier: Apache-2.0
"""The base of memory-mapped devices: a device is a table of registers, and the functions that some of them need.

A register is a row of the class's `REGISTERS`. A row without functions is storage: it keeps the bits that `writable`
names and shows those that `readable` names. A method `read_NAME(self, index) -> int` replaces what is read, and
`write_NAME(self, index, value, mask)` what a write does; `index` counts the elements of a row that is an array, and
`mask` has ones where bits were written, so that a byte's access to a word needs no code of its own.

Rows that guests read all the time are `hot`: where a board gives the device's `routine` to `AddressSpace.add_io`, their
storage is read without Python and without the GIL.

Bounds, widths, arrays, narrow, wide and unaligned accesses, and offsets without a register are this file's affair.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from raddle.errors import RaddleError
from raddle.ir.builder import Builder, Value, native
from raddle.ir.types import Condition, Type
from raddle.memory import HostMemory
from raddle.runtime.layout import COMMON

__all__ = ["WRITE", "Device", "Register", "guest_error"]

WORD: Final = 4
MASK: Final = 0xFFFF_FFFF
WRITE: Final = 1 << 8
"""In the second argument of a region's routine, beside the size in bytes."""


@dataclass(frozen=True, slots=True)
class Register:
    """One row: `count` registers of 32 bits from `offset` on, 4 bytes apart."""

    offset: int
    name: str
    reset: int = 0
    readable: int = MASK
    """Bits that reading shows; the others are 0."""
    writable: int = 0
    """Bits that writing changes. 0: the guest only reads it, and writes are noted as the guest's errors."""
    count: int = 1
    hot: bool = False
    """Reading shows the storage, and need not go through Python: there is no `read_NAME`."""


@dataclass(slots=True, eq=False)
class _Slot:
    """What one word of a device's registers leads to."""

    register: Register
    index: int
    position: int
    read: Callable[[Any, int], int] | None
    write: Callable[[Any, int, int, int], None] | None


@dataclass(slots=True)
class _Map:
    """The table, resolved for the class it belongs to."""

    slots: dict[int, _Slot] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    resets: list[int] = field(default_factory=list)


class Device:
    """A device with registers. Everything is called under the big lock, on any thread."""

    NAME: ClassVar[str]
    SIZE: ClassVar[int] = 0x1000
    """Bytes of address space, a multiple of 4096."""
    REGISTERS: ClassVar[tuple[Register, ...]] = ()
    _map: ClassVar[_Map] = _Map()

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls._map = _resolve(cls)

    def __init__(self) -> None:
        self._memory = HostMemory(max(WORD, WORD * len(self._map.resets)), self.NAME)
        self.values = self._memory.words
        """What all registers' storage holds. Changed under the big lock."""
        self.values[:] = array("I", self._map.resets or [0])
        self._noted: set[tuple[str, int]] = set()

    def reset(self) -> None:
        """Put the device into the state it has after power-on. Devices with more state than registers add to this."""
        self.values[:] = array("I", self._map.resets or [0])

    # --- stored registers, by name

    def value(self, name: str, index: int = 0) -> int:
        """What the storage of a register holds."""
        return self.values[self._map.positions[name] + index]

    def store(self, name: str, value: int, index: int = 0) -> None:
        """Change the storage of a register, without any function and whatever `writable` says."""
        self.values[self._map.positions[name] + index] = value

    # --- guest accesses

    def read(self, offset: int, size: int) -> int:
        """The `size` bytes (1, 2, 4 or 8) at `offset`, little-endian."""
        shift = offset & 3
        if shift + size > WORD:
            half = size // 2
            return self.read(offset, half) | self.read(offset + half, half) << 8 * half
        slot = self._map.slots.get(offset >> 2)
        if slot is None:
            self._note("reads unknown register", offset)
            return 0
        register = slot.register
        if slot.read is not None:
            value = slot.read(self, slot.index)
        else:
            value = self.values[slot.position]
        return (value & register.readable) >> 8 * shift & ((1 << 8 * size) - 1)

    def write(self, offset: int, size: int, value: int) -> None:
        """Take the low `size` bytes (1, 2, 4 or 8) of `value` at `offset`, little-endian."""
        shift = offset & 3
        if shift + size > WORD:
            half = size // 2
            self.write(offset, half, value)
            self.write(offset + half, half, value >> 8 * half)
            return
        slot = self._map.slots.get(offset >> 2)
        if slot is None:
            self._note("writes unknown register", offset)
            return
        mask = ((1 << 8 * size) - 1) << 8 * shift & slot.register.writable
        if not mask:
            self._note("writes read-only register", offset)
            return
        value = value << 8 * shift & mask
        if slot.write is not None:
            slot.write(self, slot.index, value, mask)
        else:
            self.values[slot.position] = self.values[slot.position] & ~mask | value

    def routine(self, b: Builder) -> None:
        """Build the routine of the device's region: it reads hot registers, and passes everything else on."""
        arguments = [b.get(COMMON[f"arg{n}"]) for n in range(4)]
        offset, how, value = arguments[:3]
        self.serve(b, offset, how, value)
        with b.if_(b.and_(b.icmp(Condition.ULE, how, WORD), b.eq(b.and_(offset, WORD - 1), 0))):
            for register in self.REGISTERS:
                if register.hot:
                    place = b.sub(offset, register.offset)
                    start = self._address(register.name)
                    with b.if_(b.icmp(Condition.ULT, place, WORD * register.count)):
                        shown = b.call(native("host_load32"), b.add(place, start), type=Type.I64)
                        b.ret(b.and_(shown, register.readable))
        b.ret(b.call(native("io_python"), *arguments, type=Type.I64))

    def serve(self, b: Builder, offset: Value, how: Value, value: Value) -> None:
        """What else of accesses the routine does without Python: the code returns from there. The values are I64: the
        offset, the size in bytes | `WRITE` for writes, and what is written.
        """

    def _address(self, name: str) -> int:
        """The host's, of the storage of a register."""
        return self._memory.address + WORD * self._map.positions[name]

    def _note(self, what: str, offset: int) -> None:
        """Log a guest's error, once for each register."""
        if (what, offset) not in self._noted:
            self._noted.add((what, offset))
            guest_error("%s: guest %s %#x", self.NAME, what, offset)


def guest_error(message: str, *values: object) -> None:
    """Log what a guest does to a device and should not (`-d guest_errors`). Whoever calls keeps it within bounds.

    Who listens has imported `logging`. To import it here takes time at every start, or could fail while the guest runs:
    for want of memory, or of a descriptor.
    """
    logging = sys.modules.get("logging")
    if logging is not None:
        logging.getLogger("raddle.devices").info(message, *values)


def _resolve(cls: type[Device]) -> _Map:
    """Check the table and find the functions that belong to its names."""
    resolved = _Map()
    for register in cls.REGISTERS:
        if register.offset % WORD or register.offset + WORD * register.count > cls.SIZE:
            raise RaddleError(f"{cls.__name__}: register {register.name} lies outside the device or between words")
        if register.name in resolved.positions:
            raise RaddleError(f"{cls.__name__}: register {register.name} is in the table twice")
        position = len(resolved.resets)
        resolved.positions[register.name] = position
        resolved.resets += [register.reset] * register.count
        read, write = getattr(cls, f"read_{register.name}", None), getattr(cls, f"write_{register.name}", None)
        if read is not None and register.hot:
            raise RaddleError(f"{cls.__name__}: register {register.name} is hot but has read_{register.name}")
        if write is not None and not register.writable:
            raise RaddleError(
                f"{cls.__name__}: register {register.name} has write_{register.name} but no writable bits"
            )
        for index in range(register.count):
            word = register.offset // WORD + index
            if word in resolved.slots:
                other = resolved.slots[word].register
                raise RaddleError(f"{cls.__name__}: registers {other.name} and {register.name} overlap")
            resolved.slots[word] = _Slot(register, index, position + index, read, write)
    unknown = {
        name
        for name in dir(cls)
        if name.startswith(("read_", "write_")) and name.partition("_")[2] not in resolved.positions
    }
    if unknown:
        raise RaddleError(f"{cls.__name__}: {', '.join(sorted(unknown))} belong to no register of the table")
    return resolved
