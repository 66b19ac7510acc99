# SPDX-License-Identifier: Apache-2.0
"""The base of memory-mapped devices: a device is a table of registers, with functions for those that need them.

A register is a row of the class's `REGISTERS`, of 8, 16, 32 or 64 bits. A row without functions is storage: a write
changes the bits in `writable`, and a read shows those in `readable`. A method `read_NAME(self, index) -> int` replaces
the value that is read, and `write_NAME(self, index, value, mask)` the effect of a write; `index` counts the elements of
a row that is an array. `mask` has ones where bits were written that are `writable`, and `value` is 0 elsewhere, so that
a byte access to a word needs no code of its own. An access that is wider than a register also reaches the following
ones, in pieces, from the lowest.

Mark rows that guests read all the time as `hot`: if a board gives the device's `routine` to `AddressSpace.add_io`,
their storage is read without Python and without the GIL.

This file handles bounds, widths, arrays, narrow, wide and unaligned accesses, and offsets without a register.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from raddle.errors import RaddleError
from raddle.ir.builder import Builder, Value, native
from raddle.ir.header import COMMON
from raddle.ir.types import Condition, Type
from raddle.memory import HostMemory
from raddle.stateful import Stateful

__all__ = ["WRITE", "Device", "Register", "guest_error"]

WORD: Final = 4
"""Bytes of a register, unless its row says otherwise, and of a word of storage."""
MASK: Final = 0xFFFF_FFFF
SIZES: Final = (1, 2, 4, 8)
ALL: Final = -1
"""For `readable`: all bits, however many there are."""
WRITE: Final = 1 << 8
"""In the second argument of a region's routine, or-ed to the size in bytes."""


@dataclass(frozen=True, slots=True)
class Register:
    """One row: `count` consecutive registers of `size` bytes from `offset` on."""

    offset: int
    """A multiple of `size`."""
    name: str
    reset: int = 0
    readable: int = ALL
    """Bits that a read shows; the others are 0."""
    writable: int = 0
    """Bits that a write changes. 0: the register is read-only, and a write is logged as the guest's error."""
    count: int = 1
    hot: bool = False
    """A read shows the storage and needs no Python: there is no `read_NAME`."""
    size: int = WORD
    """Bytes: 1, 2, 4 or 8."""


@dataclass(slots=True, eq=False)
class _Slot:
    """A register, with its functions and its place in the storage."""

    register: Register
    index: int
    offset: int
    position: int
    """Place in the storage of its only word, or of the lower one of two."""
    size: int
    readable: int
    read: Callable[[Any, int], int] | None
    write: Callable[[Any, int, int, int], None] | None


@dataclass(slots=True)
class _Map:
    """The table, resolved for its class."""

    shift: int = 2
    """log2 of the bytes of the smallest register."""
    slots: dict[int, _Slot] = field(default_factory=dict)
    """The register at each `offset >> shift`."""
    positions: dict[str, int] = field(default_factory=dict)
    long: set[str] = field(default_factory=set)
    """The rows whose registers have two words of storage each."""
    resets: list[int] = field(default_factory=list)

    def is_split(self, offset: int, size: int) -> bool:
        """Whether an access at which no register begins reaches more than one possible place of a register."""
        return (offset & (1 << self.shift) - 1) + size > 1 << self.shift


class Device(Stateful):
    """A device with registers. Everything is called under the big lock, on any thread."""

    NAME: ClassVar[str]
    SIZE: ClassVar[int] = 0x1000
    """Bytes of address space that registers may have. The device's region, of whole pages, may be larger: what lies
    beyond the registers reads as 0."""
    REGISTERS: ClassVar[tuple[Register, ...]] = ()
    STATE: ClassVar[tuple[str, ...]] = ("_memory",)
    """Attributes that are state: the storage of the registers, and what a device adds."""
    _map: ClassVar[_Map] = _Map()

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls._map = _resolve(cls)

    def __init__(self) -> None:
        self._memory = HostMemory(max(WORD, WORD * len(self._map.resets)), self.NAME)
        self.values = self._memory.words
        """The storage of all registers: one word for each, or two, the lower first. Changed under the big lock."""
        self.values[:] = array("I", self._map.resets or [0])
        self._noted: set[tuple[str, int]] = set()

    def reset(self) -> None:
        """Put the device into its power-on state. Devices with more state than registers extend this."""
        self.values[:] = array("I", self._map.resets or [0])

    # --- stored registers, by name

    def value(self, name: str, index: int = 0) -> int:
        """The value in a register's storage."""
        known = self._map
        if known.long and name in known.long:
            position = known.positions[name] + 2 * index
            return self.values[position] | self.values[position + 1] << 32
        return self.values[known.positions[name] + index]

    def store(self, name: str, value: int, index: int = 0) -> None:
        """Change a register's storage, without calling a function, and regardless of `writable`."""
        known = self._map
        if known.long and name in known.long:
            position = known.positions[name] + 2 * index
            self.values[position], self.values[position + 1] = value & MASK, value >> 32
        else:
            self.values[known.positions[name] + index] = value

    # --- guest accesses

    def read(self, offset: int, size: int) -> int:
        """Read `size` bytes (1, 2, 4 or 8) at `offset`, little-endian."""
        known = self._map
        slot = known.slots.get(offset >> known.shift)
        if slot is None:
            if not known.is_split(offset, size):
                self._note("reads unknown register", offset)
                return 0
        elif (shift := offset - slot.offset) + size <= slot.size:
            if slot.read is not None:
                value = slot.read(self, slot.index)
            elif slot.size <= WORD:
                value = self.values[slot.position]
            else:
                value = self._stored_long(slot)
            return (value & slot.readable) >> 8 * shift & ((1 << 8 * size) - 1)
        half = size // 2
        return self.read(offset, half) | self.read(offset + half, half) << 8 * half

    def write(self, offset: int, size: int, value: int) -> None:
        """Write the low `size` bytes (1, 2, 4 or 8) of `value` at `offset`, little-endian."""
        known = self._map
        slot = known.slots.get(offset >> known.shift)
        if slot is None:
            if not known.is_split(offset, size):
                self._note("writes unknown register", offset)
                return
        elif (shift := offset - slot.offset) + size <= slot.size:
            mask = ((1 << 8 * size) - 1) << 8 * shift & slot.register.writable
            value = value << 8 * shift & mask
            if not mask:
                self._note("writes read-only register", offset)
            elif slot.write is not None:
                slot.write(self, slot.index, value, mask)
            elif slot.size <= WORD:
                self.values[slot.position] = self.values[slot.position] & ~mask | value
            else:
                self.store(slot.register.name, self._stored_long(slot) & ~mask | value, slot.index)
            return
        half = size // 2
        self.write(offset, half, value)
        self.write(offset + half, half, value >> 8 * half)

    def _stored_long(self, slot: _Slot) -> int:
        return self.values[slot.position] | self.values[slot.position + 1] << 32

    def routine(self, b: Builder) -> None:
        """Build the routine of the device's region: it serves reads of hot registers, and passes everything else on."""
        arguments = [b.get(COMMON[f"arg{n}"]) for n in range(4)]
        self.serve_natively(b, *arguments[:3])
        b.ret(b.call(native("io_python"), *arguments, type=Type.I64))

    def serve_natively(self, b: Builder, offset: Value, how: Value, value: Value) -> None:
        """Emit all that the routine does without Python, for whoever puts several devices into one region; the
        arguments are those of `serve`.
        """
        self.serve(b, offset, how, value)
        hot = [register for register in self.REGISTERS if register.hot]
        with b.if_(b.and_(b.icmp(Condition.ULE, how, WORD), b.eq(b.and_(offset, WORD - 1), 0))):
            for register in hot:
                if register.size == WORD:
                    place = b.sub(offset, register.offset)
                    start = self.address(register.name)
                    with b.if_(b.icmp(Condition.ULT, place, WORD * register.count)):
                        b.ret(b.and_(_load(b, b.add(place, start)), register.readable & MASK))
        for register in hot:
            if register.size > WORD:
                self._read_long(b, register, offset, how)
            elif register.size < WORD:
                self._read_short(b, register, offset, how)

    def _read_long(self, b: Builder, register: Register, offset: Value, how: Value) -> None:
        """Reads of a hot row of 64 bits: whole registers, and their halves."""
        place = b.sub(offset, register.offset)
        with b.if_(b.icmp(Condition.ULT, place, register.size * register.count)):
            address = b.add(place, self.address(register.name))
            low, high = register.readable & MASK, register.readable >> 32 & MASK
            with b.if_(b.and_(b.eq(how, WORD), b.eq(b.and_(offset, WORD - 1), 0))):
                readable = b.select(b.ne(b.and_(offset, WORD), 0), high, low, Type.I64)
                b.ret(b.and_(_load(b, address), readable))
            with b.if_(b.and_(b.eq(how, register.size), b.eq(b.and_(offset, register.size - 1), 0))):
                upper = b.shl(b.and_(_load(b, b.add(address, WORD)), high), 32)
                b.ret(b.or_(upper, b.and_(_load(b, address), low)))

    def _read_short(self, b: Builder, register: Register, offset: Value, how: Value) -> None:
        """Reads of a hot row of 8 or 16 bits: whole registers. Each has a word of storage."""
        size = register.size
        place = b.sub(offset, register.offset)
        inside = b.icmp(Condition.ULT, place, size * register.count)
        with b.if_(b.and_(b.and_(b.eq(how, size), b.eq(b.and_(offset, size - 1), 0)), inside)):
            address = b.add(b.shl(place, (WORD // size).bit_length() - 1), self.address(register.name))
            b.ret(b.and_(_load(b, address), register.readable & (1 << 8 * size) - 1))

    def serve(self, b: Builder, offset: Value, how: Value, value: Value) -> None:
        """Emit code for other accesses that the routine serves without Python; the code returns from the routine for
        them. The values are I64: the offset, the size in bytes | `WRITE` for writes, and the value that is written.

        A stored register is read by ``b.call(native("host_load32"), b.const(self.address("NAME"), Type.I64),
        type=Type.I64)``, and written by `host_store32`. Such a write does not look at `writable`.
        """

    def address(self, name: str) -> int:
        """The host address of a register's storage, for `serve`. Use it with `host_load32` and `host_store32`.

        The registers of an array follow one another. One of 64 bits has its lower word first; one of 8 or 16 bits has a
        word of its own.
        """
        return self._memory.address + WORD * self._map.positions[name]

    def _note(self, what: str, offset: int) -> None:
        """Log a guest's error, once for each register."""
        if (what, offset) not in self._noted:
            self._noted.add((what, offset))
            guest_error("%s: guest %s %#x", self.NAME, what, offset)


def _load(b: Builder, address: Value) -> Value:
    """A word of storage."""
    return b.call(native("host_load32"), address, type=Type.I64)


def guest_error(message: str, *values: object) -> None:
    """Log an error of the guest's with a device (`-d guest_errors`). Callers must limit how often.

    A listener has imported `logging`. Importing it here would take time at every start, or could fail while the guest
    runs, for lack of memory or a descriptor.
    """
    logging = sys.modules.get("logging")
    if logging is not None:
        logging.getLogger("raddle.devices").info(message, *values)


def _resolve(cls: type[Device]) -> _Map:
    """Check the table and find the functions for its names."""
    resolved = _Map()
    for register in cls.REGISTERS:
        _check(cls, register)
    if cls.REGISTERS:
        resolved.shift = min(register.size for register in cls.REGISTERS).bit_length() - 1
    for register in cls.REGISTERS:
        if register.name in resolved.positions:
            raise RaddleError(f"{cls.__name__}: register {register.name} is in the table twice")
        read, write = getattr(cls, f"read_{register.name}", None), getattr(cls, f"write_{register.name}", None)
        if read is not None and register.hot:
            raise RaddleError(f"{cls.__name__}: register {register.name} is hot but has read_{register.name}")
        if write is not None and not register.writable:
            raise RaddleError(
                f"{cls.__name__}: register {register.name} has write_{register.name} but no writable bits"
            )
        resolved.positions[register.name] = len(resolved.resets)
        words = [register.reset]
        if register.size > WORD:
            resolved.long.add(register.name)
            words = [register.reset & MASK, register.reset >> 32]
        readable = register.readable & (1 << 8 * register.size) - 1
        for index in range(register.count):
            offset = register.offset + register.size * index
            slot = _Slot(register, index, offset, len(resolved.resets), register.size, readable, read, write)
            resolved.resets += words
            for place in range(offset >> resolved.shift, offset + register.size >> resolved.shift):
                if place in resolved.slots:
                    other = resolved.slots[place].register
                    raise RaddleError(f"{cls.__name__}: registers {other.name} and {register.name} overlap")
                resolved.slots[place] = slot
    unknown = {
        name
        for name in dir(cls)
        if name.startswith(("read_", "write_")) and name.partition("_")[2] not in resolved.positions
    }
    if unknown:
        raise RaddleError(f"{cls.__name__}: {', '.join(sorted(unknown))} belong to no register of the table")
    return resolved


def _check(cls: type[Device], register: Register) -> None:
    """Raise an error for a row that no device can have."""
    name, size = f"{cls.__name__}: register {register.name}", register.size
    if size not in SIZES:
        raise RaddleError(f"{name} has {size} bytes; a register has 1, 2, 4 or 8")
    if register.offset % size or register.offset < 0 or register.offset + size * register.count > cls.SIZE:
        raise RaddleError(f"{name} lies outside the device, or at an offset that is no multiple of its {size} bytes")
    for what, bits in (("reset", register.reset), ("readable", register.readable), ("writable", register.writable)):
        if (bits != ALL or what == "reset") and bits >> 8 * size:
            raise RaddleError(f"{name}: {what} is {bits:#x}, which has more bits than its {size} bytes")
