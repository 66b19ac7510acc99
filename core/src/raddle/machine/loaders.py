# SPDX-License-Identifier: Apache-2.0
"""Kernels and other images from files: recognised, decompressed and checked before anything of them reaches a guest.

Whatever is wrong with a file is a UsageError that names the file and the fault.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Final

from raddle.errors import UsageError
from raddle.machine.sizes import size_text

__all__ = ["Image", "ImageKind", "Layout", "Segment", "load_image", "read_file"]

FILE_LIMIT: Final = 1 << 30
"""Bytes of the largest file that is read."""
PIECE: Final = 1 << 20
"""Bytes of a file of unknown size that are read at a time: memory is taken before it is known how many there are."""
EXPANSION_LIMIT: Final = 512 << 20
"""Bytes that a compressed image may have when it is decompressed."""
SEGMENT_LIMIT: Final = 64

FILE_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
"""What is not read: it might not end, or have the reader wait for ever."""

ZIMAGE_MAGIC: Final = b"\x18\x28\x6f\x01"
ZIMAGE_HEADER: Final = 0x34
ZIMAGE_LITTLE_ENDIAN: Final = 0x0403_0201
GZIP_MAGIC: Final = b"\x1f\x8b"
ELF_MAGIC: Final = b"\x7fELF"

FOREIGN: Final = (
    (0x38, b"ARM\x64", "a 64-bit ARM kernel"),
    (0x202, b"HdrS", "an x86 kernel"),
    (0x00, b"\x27\x05\x19\x56", "a U-Boot image (uImage); extract the kernel first"),
    (0x00, b"\xd0\x0d\xfe\xed", "a device tree or FIT image"),
    (0x00, GZIP_MAGIC, "compressed twice; decompress it first"),
    (0x00, b"\xfd7zXZ\x00", "compressed with xz; decompress it first"),
    (0x00, b"\x28\xb5\x2f\xfd", "compressed with zstd; decompress it first"),
    (0x00, b"BZh", "compressed with bzip2; decompress it first"),
    (0x00, b"\x89LZO", "compressed with lzop; decompress it first"),
    (0x00, b"\x04\x22\x4d\x18", "compressed with lz4; decompress it first"),
    (0x00, b"07070", "a cpio archive; give it as -initrd"),
    (0x00, b"!<arch>", "a package or library archive"),
)
"""Offset, magic and what it is: files that would be taken for raw images otherwise."""

ELF_HEADER: Final = struct.Struct("<24x II 10x HH 6x")
"""Of a 32-bit little-endian file: e_entry, e_phoff, e_phentsize, e_phnum."""
PROGRAM_HEADER: Final = struct.Struct("<8I")
"""p_type, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_flags, p_align."""
PT_LOAD: Final = 1
ELF_EXECUTABLE: Final = 2
ELF_KINDS: Final = {1: "relocatable", 3: "position-independent", 4: "core dump"}
ELF_MACHINES: Final = {
    3: "x86",
    8: "MIPS",
    21: "64-bit PowerPC",
    40: "ARM",
    62: "x86-64",
    183: "AArch64",
    243: "RISC-V",
}


class ImageKind(Enum):
    ZIMAGE = "zImage"
    ELF = "ELF"
    RAW = "raw image"


@dataclass(frozen=True, slots=True)
class Segment:
    """`data` at guest-physical `address`, followed by zeroes up to `size` bytes."""

    address: int
    data: bytes
    size: int

    @property
    def end(self) -> int:
        return self.address + self.size


@dataclass(frozen=True, slots=True)
class Image:
    """What is to be put into memory, and where to enter it.

    A zImage and a raw image have no address of their own: their only segment and their entry start at 0.
    """

    name: str
    kind: ImageKind
    segments: tuple[Segment, ...]
    entry: int


def read_file(path: str | Path, what: str, limit: int = FILE_LIMIT) -> bytes:
    """The contents of a file. `what` (the kernel, the initrd) is for the message."""
    try:
        path = Path(path)
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"cannot read {what} {path}: it is {FILE_KINDS[stat.S_IFMT(status.st_mode)]}, not a file")
        too_large = f"cannot use {what} {path}: it is larger than {size_text(limit)}"
        if status.st_size > limit:
            raise UsageError(too_large)
        # Should it have become a FIFO by now: to open it waits for nobody.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            size = min(status.st_size, limit) + 1  # one more, to see the end
            data = file.read(size)
            while size <= len(data) <= limit:
                size = len(data) + PIECE
                data += file.read(PIECE)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {what} {path}: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > limit:  # the size of a file in /proc is 0
        raise UsageError(too_large)
    if not data:
        raise UsageError(f"cannot use {what} {path}: it is empty")
    return data


def load_image(path: str | Path, elf_machine: int, what: str = "kernel") -> Image:
    """Read a zImage, ELF program or raw image for ELF machine `elf_machine`, gzip'd or not."""
    name = f"{what} {path}"
    data = read_file(path, what)
    if data.startswith(GZIP_MAGIC):
        data = gunzip(data, name)
    if data.startswith(ELF_MAGIC):
        return _elf(data, name, elf_machine)
    if data[0x24:0x28] == ZIMAGE_MAGIC:
        return _zimage(data, name)
    for offset, magic, found in FOREIGN:
        if data[offset : offset + len(magic)] == magic:
            raise UsageError(f"cannot use {name}: it is {found}")
    if len(data) < 4:
        raise UsageError(f"cannot use {name}: {len(data)} bytes are no program")
    return Image(name, ImageKind.RAW, (Segment(0, data, len(data)),), 0)


def gunzip(data: bytes, name: str, limit: int = EXPANSION_LIMIT) -> bytes:
    """The contents of the first gzip member; `limit` guards against bombs. What follows it is ignored, as gzip does."""
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        plain = stream.decompress(data, limit)
    except zlib.error as error:
        raise UsageError(f"cannot decompress {name}: the gzip data are damaged ({error})") from None
    if stream.eof:
        if not plain:
            raise UsageError(f"cannot use {name}: it is empty when decompressed")
        return plain
    if len(plain) >= limit:
        raise UsageError(f"cannot use {name}: it has more than {size_text(limit)} when decompressed")
    raise UsageError(f"cannot decompress {name}: the gzip data are truncated")


def _zimage(data: bytes, name: str) -> Image:
    """See Documentation/arm/booting: magic, start and end at 0x24, byte order after them."""
    if len(data) < ZIMAGE_HEADER:
        raise UsageError(f"cannot use {name}: the zImage is truncated ({len(data)} bytes end within its header)")
    start, end, order = struct.unpack_from("<III", data, 0x28)
    if order != ZIMAGE_LITTLE_ENDIAN:
        raise UsageError(f"cannot use {name}: it is a big-endian zImage")
    size = end - start
    if size < ZIMAGE_HEADER:
        raise UsageError(f"cannot use {name}: its zImage header is damaged (start {start:#x}, end {end:#x})")
    if size > len(data):
        raise UsageError(f"cannot use {name}: the zImage is truncated ({len(data)} of {size} bytes)")
    return Image(name, ImageKind.ZIMAGE, (Segment(0, data, len(data)),), 0)


def _elf(data: bytes, name: str, machine: int) -> Image:
    """See the System V ABI, chapters 4 and 5. By hand, because a library for all of ELF takes longer to import than a
    kernel takes to load.
    """
    try:
        bits, order = {1: 32, 2: 64}[data[4]], {1: "little", 2: "big"}[data[5]]
        kind, found = struct.unpack_from("<HH" if order == "little" else ">HH", data, 16)
        entry, table, entry_size, count = ELF_HEADER.unpack_from(data)
    except (IndexError, KeyError, struct.error):
        raise UsageError(f"cannot use {name}: the ELF header is damaged") from None
    if found != machine:
        said, wanted = (ELF_MACHINES.get(number, f"machine {number}") for number in (found, machine))
        raise UsageError(f"cannot use {name}: it is an ELF program for {said}, not for {wanted}")
    if bits != 32 or order != "little":
        raise UsageError(
            f"cannot use {name}: it is a {bits}-bit {order}-endian program, not a 32-bit little-endian one"
        )
    if kind != ELF_EXECUTABLE:
        said = ELF_KINDS.get(kind, f"type {kind}")
        raise UsageError(f"cannot use {name}: it is not an executable with fixed addresses ({said})")
    if not 0 < count <= SEGMENT_LIMIT:
        raise UsageError(f"cannot use {name}: it has {count} program headers (1 to {SEGMENT_LIMIT} can be)")
    if entry_size < PROGRAM_HEADER.size or table + count * entry_size > len(data):
        raise UsageError(f"cannot use {name}: its program headers are damaged")
    segments = []
    for position in range(table, table + count * entry_size, entry_size):
        load, offset, _, address, in_file, in_memory, _, _ = PROGRAM_HEADER.unpack_from(data, position)
        if load != PT_LOAD or not in_memory:
            continue
        if in_file > in_memory:
            raise UsageError(f"cannot use {name}: a segment has more bytes in the file than in memory")
        if offset + in_file > len(data):
            raise UsageError(
                f"cannot use {name}: it is truncated (a segment ends at {offset + in_file} of {len(data)})"
            )
        segments.append(Segment(address, data[offset : offset + in_file], in_memory))
    if not segments:
        raise UsageError(f"cannot use {name}: it has no segment to load")
    segments.sort(key=lambda segment: segment.address)
    for one, next_one in pairwise(segments):
        if one.end > next_one.address:
            raise UsageError(
                f"cannot use {name}: two of its segments overlap ({one.address:#x}-{one.end - 1:#x} and "
                f"{next_one.address:#x}-{next_one.end - 1:#x})"
            )
    if not any(segment.address <= entry & ~1 < segment.end for segment in segments):
        raise UsageError(f"cannot use {name}: its entry {entry:#x} lies in none of its segments")
    return Image(name, ImageKind.ELF, tuple(segments), entry)


@dataclass(frozen=True, slots=True)
class _Place:
    name: str
    segment: Segment


class Layout:
    """What goes where in a machine's RAM; refuses what does not fit or overlaps."""

    def __init__(self, ram_start: int, ram_size: int) -> None:
        self.ram_start = ram_start
        self.ram_end = ram_start + ram_size
        self._places: list[_Place] = []

    def add(self, name: str, address: int, data: bytes, size: int = 0) -> Segment:
        """Reserve `size` bytes (at least `data`) at `address` for `name`."""
        segment = Segment(address, data, max(size, len(data)))
        if segment.address < self.ram_start or segment.end > self.ram_end:
            raise UsageError(
                f"{name} ({segment.address:#x}-{segment.end - 1:#x}) does not fit into the RAM of "
                f"{size_text(self.ram_end - self.ram_start)} at {self.ram_start:#x}; more memory (-m) may help"
            )
        for other in self._places:
            if segment.address < other.segment.end and other.segment.address < segment.end:
                raise UsageError(
                    f"{name} ({segment.address:#x}-{segment.end - 1:#x}) overlaps {other.name} "
                    f"({other.segment.address:#x}-{other.segment.end - 1:#x}); more memory (-m) may help"
                )
        self._places.append(_Place(name, segment))
        return segment

    def free(self, size: int, start: int, alignment: int = 0x1000) -> int:
        """The first aligned address from `start` on with `size` free bytes. Raises UsageError where there is none."""
        address = max(start, self.ram_start) + alignment - 1 & -alignment
        for place in sorted(self._places, key=lambda one: one.segment.address):
            if place.segment.end > address and place.segment.address < address + size:
                address = place.segment.end + alignment - 1 & -alignment
        if address + size > self.ram_end:
            raise UsageError(f"the RAM has no room for {size} bytes more; more memory (-m) may help")
        return address

    @property
    def segments(self) -> tuple[Segment, ...]:
        return tuple(place.segment for place in self._places)
