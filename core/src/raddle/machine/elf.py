# SPDX-License-Identifier: Apache-2.0
"""ELF programs: what is to be loaded where, and where they are entered.

See the System V ABI, chapters 4 and 5. By hand, because a library for all of ELF takes longer to import than a kernel
takes to load. The headers of a hostile file are checked against the machine's memory before anything else is read.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from raddle.errors import UsageError
from raddle.machine.files import Contents
from raddle.machine.layout import Layout, Segment

__all__ = ["ELF_MAGIC", "load_elf"]

ELF_MAGIC: Final = b"\x7fELF"
SEGMENT_LIMIT: Final = 64

HEADER_SIZE: Final = 52
ELF_HEADER: Final = struct.Struct("<16x H 6x II 10x HH 6x")
"""Of a 32-bit little-endian file: e_type, e_entry, e_phoff, e_phentsize, e_phnum."""
PROGRAM_HEADER: Final = struct.Struct("<8I")
"""p_type, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_flags, p_align."""
PT_LOAD: Final = 1
PF_X: Final = 1
EXECUTABLE: Final = 2
DYNAMIC: Final = 3
"""A position-independent program. At the addresses that it is linked for, it needs no relocation."""
OTHER_KINDS: Final = {1: "relocatable", 4: "core dump"}
MACHINES: Final = {
    3: "x86",
    8: "MIPS",
    21: "64-bit PowerPC",
    40: "ARM",
    62: "x86-64",
    183: "AArch64",
    243: "RISC-V",
}


class _Loaded(NamedTuple):
    """A program header of a segment that takes memory."""

    offset: int
    virtual: int
    physical: int
    in_file: int
    in_memory: int
    executable: bool

    def holds(self, start: int, address: int) -> bool:
        """Whether `address` lies in the segment, were that at `start`."""
        return start <= address < start + self.in_memory


def load_elf(contents: Contents, name: str, machine: int, layout: Layout) -> tuple[tuple[Segment, ...], int]:
    """The segments at their physical addresses, in ascending order, and the physical address of the entry, whose bit 0
    is the file's. Raises UsageError for what is damaged, not for ELF machine number `machine`, or finds no room in
    `layout`.
    """
    kind, entry, table, entry_size, count = _header(contents.start(HEADER_SIZE), name, machine)
    if not 0 < count <= SEGMENT_LIMIT:
        raise UsageError(f"cannot use {name}: it has {count} program headers (1 to {SEGMENT_LIMIT} can be)")
    (headers,) = contents.parts([(table, count * entry_size)], checked=False)
    if entry_size < PROGRAM_HEADER.size or len(headers) < count * entry_size:
        raise UsageError(f"cannot use {name}: its program headers are damaged")
    loaded = _loaded([PROGRAM_HEADER.unpack_from(headers, n * entry_size) for n in range(count)], name)
    for one in loaded:
        layout.check(name, one.physical, one.in_memory)
        if kind == DYNAMIC and not layout.in_ram(one.physical, one.in_memory):
            raise UsageError(
                f"cannot use {name}: it is position-independent and not linked for the RAM at {layout.ram.start:#x}; "
                f"link it with an address there"
            )
    entered = _entry(entry, loaded, name)
    parts = contents.parts([(one.offset, one.in_file) for one in loaded], checked=True)
    for one, data in zip(loaded, parts, strict=True):
        if len(data) < one.in_file:
            raise UsageError(
                f"cannot use {name}: it is truncated (a segment ends at {one.offset + one.in_file}, the file before it)"
            )
    return tuple(Segment(one.physical, data, one.in_memory) for one, data in zip(loaded, parts, strict=True)), entered


def _header(data: bytes, name: str, machine: int) -> tuple[int, int, int, int, int]:
    """The file's type, its entry, the offset of the program headers, the size of one, and how many there are."""
    try:
        bits, order = {1: 32, 2: 64}[data[4]], {1: "little", 2: "big"}[data[5]]
        kind, found = struct.unpack_from("<HH" if order == "little" else ">HH", data, 16)
        fields: tuple[int, int, int, int, int] = ELF_HEADER.unpack_from(data)
    except (IndexError, KeyError, struct.error):
        raise UsageError(f"cannot use {name}: the ELF header is damaged") from None
    if found != machine:
        said, wanted = (MACHINES.get(number, f"machine {number}") for number in (found, machine))
        raise UsageError(f"cannot use {name}: it is an ELF program for {said}, not for {wanted}")
    if bits != 32 or order != "little":
        raise UsageError(
            f"cannot use {name}: it is a {bits}-bit {order}-endian program, not a 32-bit little-endian one"
        )
    if kind not in (EXECUTABLE, DYNAMIC):
        said = OTHER_KINDS.get(kind, f"type {kind}")
        raise UsageError(f"cannot use {name}: it is no executable program ({said})")
    return fields


def _loaded(headers: Sequence[tuple[int, ...]], name: str) -> list[_Loaded]:
    """What is to be loaded, by ascending physical addresses; no two overlap."""
    loaded = []
    for kind, offset, virtual, physical, in_file, in_memory, flags, _ in headers:
        if kind != PT_LOAD or not in_memory:
            continue
        if in_file > in_memory:
            raise UsageError(f"cannot use {name}: a segment has more bytes in the file than in memory")
        loaded.append(_Loaded(offset, virtual, physical, in_file, in_memory, bool(flags & PF_X)))
    if not loaded:
        raise UsageError(f"cannot use {name}: it has no segment to load")
    loaded.sort(key=lambda one: one.physical)
    for one, after in pairwise(loaded):
        if one.physical + one.in_memory > after.physical:
            raise UsageError(
                f"cannot use {name}: two of its segments overlap "
                f"({one.physical:#x}-{one.physical + one.in_memory - 1:#x} and "
                f"{after.physical:#x}-{after.physical + after.in_memory - 1:#x})"
            )
    return loaded


def _entry(entry: int, loaded: Sequence[_Loaded], name: str) -> int:
    """The physical address of the entry, which is a virtual address: the segment that holds it says where that is.

    Some linker scripts give a physical one, which lies in no segment's virtual addresses. A file without an entry has 0
    there; such a program is entered where its code begins.
    """
    place = entry & ~1
    for one in loaded:
        if one.holds(one.virtual, place):
            return one.physical + entry - one.virtual
    if any(one.holds(one.physical, place) for one in loaded):
        return entry
    code = [one.physical for one in loaded if one.executable]
    if entry or not code:
        raise UsageError(f"cannot use {name}: its entry {entry:#x} lies in none of its segments")
    return code[0]
