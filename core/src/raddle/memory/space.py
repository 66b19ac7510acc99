# SPDX-License-Identifier: Apache-2.0
"""The guest's physical address space: a sorted list of regions that never overlap.

Regions are added while a machine is built and do not change while it runs, so readers need no lock. Only this changes:
whether the memory or the handler of a ROM device serves loads.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, overload

from raddle import kinds, workers
from raddle.errors import RaddleError, UsageError, machine_closed
from raddle.memory.host import HostMemory
from raddle.unique import Unique

if TYPE_CHECKING:
    from raddle.translate.frontend import RoutineBuilder

__all__ = ["SMALLEST_PAGE", "AddressSpace", "IoHandler", "Kind", "MemoryAccessError", "Region"]

SMALLEST_PAGE: Final = 1 << 12
"""Bytes of the smallest page that a guest can have: the software TLB keeps flags in the address bits below it."""


CLEARED_AT_ONCE: Final = 1 << 20
"""Bytes, where a runtime writes."""


class MemoryAccessError(RaddleError, IndexError):
    """Python code accessed guest-physical addresses that are not RAM or ROM."""


class Kind(Enum):
    RAM = "RAM"
    ROM = "ROM"
    IO = "I/O"
    ROM_DEVICE = "ROM device"


class IoHandler(Protocol):
    """Serves accesses to an I/O region or a ROM device, at `offset` from its start. Called under the big lock."""

    def read(self, offset: int, size: int) -> int:
        """The value of `size` bytes (1, 2, 4 or 8), little-endian."""

    def write(self, offset: int, size: int, value: int) -> None:
        """Take the low `size` bytes of `value`."""


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Guest-physical addresses from `start` up to `end`. RAM and ROM have `memory`, I/O has `handler` and, if registers
    are served without Python, `routine`: see `AddressSpace.add_io`. A ROM device has `memory` and `handler`.
    """

    name: str
    kind: Kind
    start: int
    size: int
    memory: HostMemory | None = None
    handler: IoHandler | None = None
    routine: RoutineBuilder | None = None

    @property
    def end(self) -> int:
        """The first address after the region."""
        return self.start + self.size

    @property
    def host_address(self) -> int:
        """Host address of the region's first byte; 0 for I/O."""
        return self.memory.address if self.memory else 0

    def __str__(self) -> str:
        return f"{self.name} ({self.kind.value}, {self.start:#x}-{self.end - 1:#x})"


Writer = Callable[[int, "bytes | memoryview"], None]
"""Called as `writer(start, data)` to write guest memory."""
WriteListener = Callable[[int, int], None]
"""Called as `listener(start, size)` after Python has written guest memory."""
LoadsListener = Callable[[Region, bool], None]
"""Called as `listener(region, by_handler)` when `serve_loads` changes who serves loads from a ROM device."""


class AddressSpace(Unique):
    """Guest-physical memory, readable and writable from Python as a buffer: `memory[a:b]`, `memory[a]`.

    Reading and writing from Python reaches RAM and ROM, not device registers, and any thread may do it: the guest sees
    such a write like another CPU's plain stores, in no particular order and not atomically.
    """

    def __init__(self, page_size: int = SMALLEST_PAGE) -> None:
        """`page_size` is that of the guest's smallest page, in bytes."""
        kinds.number("the size of a page", page_size)
        self.page_size = page_size
        """Regions begin and end on multiples of this many bytes, since the software TLB distinguishes regions by
        page."""
        self.regions: tuple[Region, ...] = ()
        """Sorted by address."""
        self.initiator = 0
        """Index of the vCPU that makes the current I/O access; the runtime sets it, under the big lock, before it calls
        a handler."""
        self.routines: dict[str, RoutineBuilder] = {}
        """IR routines of devices and boards; see `add_routines`."""
        self._starts: list[int] = []
        self._fixed = False
        """A runtime knows the regions, which must not change from now on."""
        self._closed = False
        self._writer: Writer | None = None
        self._listeners: list[WriteListener] = []
        self._loads_listeners: list[LoadsListener] = []
        self._loads_by_handler: set[int] = set()
        """Start addresses of ROM devices whose handlers serve loads. Changed under the big lock."""

    # --- building

    def add_ram(self, name: str, start: int, size: int) -> Region:
        """Add zeroed RAM of `size` bytes. Raises UsageError, as all methods that add or change regions do."""
        self._check(name, start, size)
        memory = HostMemory(size, f"{name} of the guest")
        memory.prefer_huge_pages()
        return self._insert(Region(name, Kind.RAM, start, size, memory))

    def add_rom(self, name: str, start: int, size: int, contents: bytes = b"") -> Region:
        """Add ROM of `size` bytes that begins with `contents`; the guest's writes to it are bus errors."""
        self._check(name, start, size)
        return self._insert(Region(name, Kind.ROM, start, size, _rom(name, size, contents)))

    def add_io(
        self, name: str, start: int, size: int, handler: IoHandler, routine: RoutineBuilder | None = None
    ) -> Region:
        """Add device registers.

        `routine` builds an IR routine that serves every access instead of the handler, under the big lock, without
        Python: `routine(offset, size | is_write << 8, value, id)`, all I64, returns what is read. It passes accesses
        that it does not serve to the native helper `io_python`, with its own four arguments, and returns that result;
        then the handler is called. The device keeps state that both sides use in a HostMemory, which the helpers
        `host_load32`, `host_store32` ... reach, and changes it only under the big lock.
        """
        self._check(name, start, size)
        _check_handler(name, handler)
        if routine is not None:
            kinds.function(f"the routine of region {name}", routine)
        return self._insert(Region(name, Kind.IO, start, size, handler=handler, routine=routine))

    def add_rom_device(self, name: str, start: int, size: int, handler: IoHandler, contents: bytes = b"") -> Region:
        """Add memory that a device changes by its own rules, such as flash: the guest's stores go to `handler`; its
        loads are plain reads of the memory, which begins with `contents`, until `serve_loads` directs them to
        `handler`, too. Instruction fetches always read the memory. The device changes the memory with `write`.
        """
        self._check(name, start, size)
        _check_handler(name, handler)
        return self._insert(Region(name, Kind.ROM_DEVICE, start, size, _rom(name, size, contents), handler))

    def serve_loads(self, region: Region, by_handler: bool) -> None:
        """Direct the guest's loads from a ROM device to its handler, or back to its memory. Under the big lock. A CPU
        that sees a later store of the guest also sees this change.
        """
        kinds.instance("what serve_loads() turns", "a region", region, Region)
        kinds.switch("by_handler of serve_loads()", by_handler)
        if region.kind is not Kind.ROM_DEVICE:
            raise UsageError(f"{region} is no ROM device: only for those can it be chosen who serves the loads")
        if by_handler == (region.start in self._loads_by_handler):
            return
        (self._loads_by_handler.add if by_handler else self._loads_by_handler.discard)(region.start)
        for listener in self._loads_listeners:
            listener(region, by_handler)

    def add_routines(self, routines: Mapping[str, RoutineBuilder]) -> None:
        """Add IR routines, which are compiled with the target's, so that devices' routines can call each other by name.

        A routine with the name of a target's routine replaces it, so that a target can call its board (ARM:
        `timer_line`). Raises UsageError for a name that another device has used.
        """
        kinds.instance("what add_routines() adds", "a mapping from names to functions", routines, Mapping)
        self._require_building("routines")
        for name, routine in routines.items():
            kinds.text("the name of a routine", name)
            kinds.function(f"routine {name}", routine)
            if name in self.routines:
                raise UsageError(f"two devices have a routine called {name}")
        self.routines.update(routines)

    def _check(self, name: str, start: int, size: int) -> None:
        kinds.text("the name of a region", name)
        kinds.number(f"the start of region {name}", start)
        kinds.number(f"the size of region {name}", size)
        self._require_building(f"region {name}")
        if start < 0 or size <= 0 or start % self.page_size or size % self.page_size:
            raise UsageError(
                f"region {name} ({start:#x}, {size:#x} bytes) is not made of whole pages of {self.page_size} bytes"
            )
        for other in self.regions:
            if start < other.end and other.start < start + size:
                raise UsageError(f"region {name} ({start:#x}-{start + size - 1:#x}) overlaps {other}")

    def fix(self) -> None:
        """A runtime knows the regions: from now on none can be added."""
        self._fixed = True

    def _require_building(self, what: str) -> None:
        if self._closed:
            raise machine_closed()
        if self._fixed:
            raise UsageError(
                f"{what} cannot be added to a machine that has been built: a board of your own adds it in its __init__"
            )

    def _insert(self, region: Region) -> Region:
        self.regions = tuple(sorted((*self.regions, region), key=lambda one: one.start))
        self._starts = [one.start for one in self.regions]
        return region

    def close(self) -> None:
        """Free the host memory. No vCPU may run any more."""
        self._closed = True
        regions, self.regions, self._starts = self.regions, (), []
        self.routines = {}
        self.disconnect()
        for region in regions:
            if region.memory:
                region.memory.close()

    # --- using

    def find(self, address: int) -> Region | None:
        """The region that contains `address`, or None."""
        kinds.number("an address in guest memory", address)
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self.regions[index].end:
            return None
        return self.regions[index]

    def read(self, address: int, size: int) -> bytes:
        """Read `size` bytes of RAM or ROM. Raises MemoryAccessError if there is none."""
        return b"".join(bytes(part) for part in self._parts(address, size))

    @workers.handed_over
    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write `data` to RAM or ROM: all of it, or nothing if part of the range is neither."""
        source = kinds.octets("what is written to guest memory", data)
        parts = list(self._parts(address, len(source)))
        if self._writer is not None:
            self._writer(address, source)
        else:
            position = 0
            for part in parts:
                part[:] = source[position : position + len(part)]
                position += len(part)
        for listener in self._listeners:
            listener(address, len(source))

    @workers.handed_over
    def clear(self, address: int, size: int) -> None:
        """Zero `size` bytes of RAM or ROM within one region."""
        kinds.number("the size of what is cleared", size)
        if self._closed:
            raise machine_closed()
        region = self.find(address)
        if size < 0 or region is None or region.memory is None or address + size > region.end:
            raise MemoryAccessError(f"there are no {size} bytes of guest memory at {address:#x}")
        if self._writer is not None:
            for start in range(0, size, CLEARED_AT_ONCE):
                self._writer(address + start, bytes(min(CLEARED_AT_ONCE, size - start)))
        else:
            region.memory.clear(address - region.start, size)
        for listener in self._listeners:
            listener(address, size)

    def write_by(self, writer: Writer) -> None:
        """Let `writer(start, data)` write RAM and ROM: the runtime, where writes must go by its rules."""
        self._writer = writer

    def on_write(self, listener: WriteListener) -> None:
        """Call `listener(start, size)` after each write from Python: translations of the old bytes are stale."""
        kinds.function("what on_write() calls", listener)
        self._listeners.append(listener)

    def on_serve_loads(self, listener: LoadsListener) -> None:
        """Call `listener(region, by_handler)` when `serve_loads` changes something. At first, memory serves all
        loads.
        """
        kinds.function("what on_serve_loads() calls", listener)
        self._loads_listeners.append(listener)

    def disconnect(self) -> None:
        """Drop the writer and all listeners, because their runtime is closed."""
        self._writer = None
        self._listeners.clear()
        self._loads_listeners.clear()

    def _parts(self, address: int, size: int) -> Iterator[memoryview]:
        kinds.number("an address in guest memory", address)
        kinds.number("the size of an access to guest memory", size)
        if size < 0:
            raise MemoryAccessError(f"cannot access {size} bytes")
        if self._closed:
            raise machine_closed()
        position, end = address, address + size
        while position < end:
            region = self.find(position)
            if region is None:
                raise MemoryAccessError(f"there is no guest memory at {position:#x}")
            if region.memory is None:
                raise MemoryAccessError(f"{position:#x} is a register of {region}; only RAM and ROM are memory")
            stop = min(end, region.end)
            yield region.memory.bytes[position - region.start : stop - region.start]
            position = stop

    @overload
    def __getitem__(self, key: int) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> bytes: ...
    def __getitem__(self, key: int | slice) -> bytes | int:
        if isinstance(key, slice):
            start, size = self._range(key)
            return self.read(start, size)
        return self.read(key, 1)[0]

    @overload
    def __setitem__(self, key: int, value: int) -> None: ...
    @overload
    def __setitem__(self, key: slice, value: bytes | bytearray | memoryview) -> None: ...
    def __setitem__(self, key: int | slice, value: int | bytes | bytearray | memoryview) -> None:
        if isinstance(key, slice):
            start, size = self._range(key)
            data = kinds.octets(f"what is written to {start:#x}-{start + size - 1:#x}", value)
            if len(data) != size:
                raise MemoryAccessError(
                    f"{size} bytes must be given to write {start:#x}-{start + size - 1:#x}, not {len(data)}"
                )
            self.write(start, data)
        else:
            kinds.number("an address in guest memory", key)
            self.write(key, bytes([kinds.unsigned(f"the byte at {key:#x}", value, 8)]))

    def __contains__(self, address: object) -> bool:
        """Whether there is RAM or ROM at an address."""
        region = self.find(address) if isinstance(address, int) and not isinstance(address, bool) else None
        return region is not None and region.memory is not None

    def __iter__(self) -> NoReturn:
        raise TypeError("guest memory has gaps, and is read in pieces: memory[start:end]; `regions` says what there is")

    __bytes__ = __iter__

    @staticmethod
    def _range(key: slice) -> tuple[int, int]:
        if key.start is None or key.stop is None or key.step not in (None, 1):
            raise MemoryAccessError("a range of guest memory needs a first and an end address, and no step")
        kinds.number("the first address of a range", key.start)
        kinds.number("the end address of a range", key.stop)
        return key.start, max(0, key.stop - key.start)


def _check_handler(name: str, handler: IoHandler) -> None:
    if not (callable(getattr(handler, "read", None)) and callable(getattr(handler, "write", None))):
        raise kinds.another_kind(f"the handler of region {name}", "a device, with methods read and write", handler)


def _rom(name: str, size: int, contents: bytes) -> HostMemory:
    data = kinds.octets(f"the contents of {name}", contents)
    if len(data) > size:
        raise UsageError(f"{name} has room for {size} bytes, not for {len(data)}")
    memory = HostMemory(size, name)
    memory.bytes[: len(data)] = data
    return memory
