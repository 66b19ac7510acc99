# SPDX-License-Identifier: Apache-2.0
"""ELF programs: which bytes to load where, and the entry.

See the System V ABI, chapters 4 and 5. Reads files of both classes and byte orders. This is our own code because a
library for all of ELF takes longer to import than a kernel takes to load. The headers are checked against the machine's
memory before anything else is read, since a file may be hostile.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from raddle.errors import UsageError
from raddle.layout import Layout, Segment
from raddle.machine.files import Contents
from raddle.plugins import ElfFormat, Target

__all__ = ["ELF_MAGIC", "identify", "load_elf", "machine_name"]

ELF_MAGIC: Final = b"\x7fELF"
SEGMENT_LIMIT: Final = 64

HEADER_SIZE: Final = 64
"""Bytes of the larger of the two headers."""
BITS: Final = {1: 32, 2: 64}
"""By e_ident[EI_CLASS]."""
ORDERS: Final = {1: "little", 2: "big"}
"""By e_ident[EI_DATA]."""
BYTE_ORDER: Final = {"little": "<", "big": ">"}
"""As struct spells it."""
MACHINE: Final = {order: struct.Struct(f"{spelled}18x H") for order, spelled in BYTE_ORDER.items()}
ELF_HEADERS: Final = {32: "16x 2H 4x 2I 10x 2H 6x", 64: "16x 2H 4x 2Q 14x 2H 6x"}
"""By class: e_type, e_machine, e_entry, e_phoff, e_phentsize, e_phnum."""
PROGRAM_HEADERS: Final = {32: "8I", 64: "2I 6Q"}
"""By class: p_type, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_flags, p_align; in the larger one p_flags is the
second."""
PT_LOAD: Final = 1
PF_X: Final = 1
EXECUTABLE: Final = 2
DYNAMIC: Final = 3
"""A position-independent program. At the addresses that it is linked for, it needs no relocation."""
OTHER_KINDS: Final = {1: "relocatable", 4: "core dump"}
MACHINES: Final = {
    2: "SPARC",
    3: "i386",
    4: "m68k",
    8: "MIPS",
    15: "PA-RISC",
    20: "PowerPC",
    21: "64-bit PowerPC",
    22: "S/390",
    40: "ARM",
    42: "SuperH",
    43: "64-bit SPARC",
    50: "IA-64",
    62: "x86_64",
    92: "OpenRISC",
    94: "Xtensa",
    183: "AArch64",
    189: "MicroBlaze",
    243: "RISC-V",
    258: "LoongArch",
}
"""Names of instruction sets by e_machine, for messages about kernels that no guest here runs."""


def machine_name(machine: int) -> str:
    """The name of an e_machine's instruction set in messages."""
    return MACHINES.get(machine, f"machine {machine}")


def identify(head: bytes) -> tuple[int, ElfFormat] | None:
    """`e_machine`, class and byte order of the file that begins with `head`; None if it is no ELF file."""
    try:
        form = ElfFormat(BITS[head[4]], ORDERS[head[5]])
        (machine,) = MACHINE[form.order].unpack_from(head)
    except (IndexError, KeyError, struct.error):
        return None
    return (machine, form) if head.startswith(ELF_MAGIC) else None


class _Loaded(NamedTuple):
    """A program header of a segment that takes memory."""

    offset: int
    virtual: int
    physical: int
    in_file: int
    in_memory: int
    executable: bool

    def holds(self, start: int, address: int) -> bool:
        """Whether `address` would lie in the segment if that began at `start`."""
        return start <= address < start + self.in_memory


class _Header(NamedTuple):
    """The fields of the ELF header that matter."""

    kind: int
    machine: int
    entry: int
    table: int
    """Offset of the program headers."""
    entry_size: int
    entries: int


def load_elf(contents: Contents, name: str, target: Target, layout: Layout) -> tuple[tuple[Segment, ...], int]:
    """The segments at their physical addresses, in ascending order, and the physical address of the entry, with the
    file's bit 0. Raises UsageError for a file that is damaged, not for `target`, or does not fit into `layout`.
    """
    form, header = _header(contents.start(HEADER_SIZE), name, target)
    if not 0 < header.entries <= SEGMENT_LIMIT:
        raise UsageError(f"cannot use {name}: it has {header.entries} program headers, and 1 to {SEGMENT_LIMIT} can be")
    (table,) = contents.parts([(header.table, header.entries * header.entry_size)], checked=False)
    loaded = _loaded(_program_headers(table, header, form, name), name, target.direct_map)
    for one in loaded:
        layout.check(name, one.physical, one.in_memory)
        if header.kind == DYNAMIC and not layout.in_ram(one.physical, one.in_memory):
            raise UsageError(
                f"cannot use {name}: it is position-independent and not linked for the RAM at {layout.ram.start:#x}; "
                f"link it with an address there"
            )
    entered = _entry(header.entry, loaded, name)
    parts = contents.parts([(one.offset, one.in_file) for one in loaded], checked=True)
    for one, data in zip(loaded, parts, strict=True):
        if len(data) < one.in_file:
            raise UsageError(
                f"cannot use {name}: it is truncated (a segment ends at {one.offset + one.in_file}, the file before it)"
            )
    return tuple(Segment(one.physical, data, one.in_memory) for one, data in zip(loaded, parts, strict=True)), entered


def _header(data: bytes, name: str, target: Target) -> tuple[ElfFormat, _Header]:
    """The file's class and byte order, and its header."""
    identity = identify(data)
    if identity is None:
        raise UsageError(f"cannot use {name}: the ELF header is damaged")
    machine, form = identity
    if target.elf_machine is None:
        raise UsageError(f"cannot use {name}: it is an ELF program, and the {target.name} guest runs none")
    if machine != target.elf_machine:
        said = machine_name(machine)
        raise UsageError(f"cannot use {name}: it is an ELF program for {said}, not for the {target.name} guest")
    if form not in target.formats:
        taken = " or ".join(map(str, target.formats))
        raise UsageError(f"cannot use {name}: it is a {form} program, not a {taken} one")
    try:
        header = _Header(*struct.unpack_from(BYTE_ORDER[form.order] + ELF_HEADERS[form.bits], data))
    except struct.error:
        raise UsageError(f"cannot use {name}: the ELF header is damaged") from None
    if header.kind not in (EXECUTABLE, DYNAMIC):
        said = OTHER_KINDS.get(header.kind, f"type {header.kind}")
        raise UsageError(f"cannot use {name}: it is no executable program ({said})")
    return form, header


def _program_headers(table: bytes, header: _Header, form: ElfFormat, name: str) -> list[tuple[int, ...]]:
    """The fields of each program header, in the order of the 32-bit class for both classes."""
    row = struct.Struct(BYTE_ORDER[form.order] + PROGRAM_HEADERS[form.bits])
    if header.entry_size < row.size or len(table) < header.entries * header.entry_size:
        raise UsageError(f"cannot use {name}: its program headers are damaged")
    rows = [row.unpack_from(table, n * header.entry_size) for n in range(header.entries)]
    return rows if form.bits == 32 else [(kind, *others, flags, align) for kind, flags, *others, align in rows]


def _loaded(headers: Sequence[tuple[int, ...]], name: str, direct_map: tuple[int, int]) -> list[_Loaded]:
    """The segments to load, by ascending physical addresses; no two overlap. Addresses in `direct_map` (first address,
    size) become physical.
    """
    loaded = []
    first, size = direct_map
    for kind, offset, virtual, physical, in_file, in_memory, flags, _ in headers:
        if kind != PT_LOAD or not in_memory:
            continue
        if in_file > in_memory:
            raise UsageError(f"cannot use {name}: a segment has more bytes in the file than in memory")
        if first <= physical < first + size:
            physical -= first
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
    """The physical address of the entry: the file has a virtual one, which the segment that contains it translates.

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
