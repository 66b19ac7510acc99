# SPDX-License-Identifier: Apache-2.0
"""Kernels from files: recognised, decompressed and checked before anything of them reaches a guest.

Whatever is wrong with a file is a UsageError that names the file and the fault. What a file takes of the host's memory
is bounded by the guest's RAM.
"""

from __future__ import annotations

import struct
import zlib
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

from raddle.errors import UsageError
from raddle.machine.elf import ELF_MAGIC, load_elf
from raddle.machine.files import GZIP_MAGIC, Contents, read_file
from raddle.machine.layout import MORE_MEMORY, Layout, Segment

__all__ = ["UIMAGE_MAGIC", "Image", "ImageKind", "image_of", "load_image"]

HEAD: Final = 0x240
"""Bytes from which each kind of image is recognised."""

ZIMAGE_MAGIC: Final = b"\x18\x28\x6f\x01"
ZIMAGE_HEADER: Final = 0x34
ZIMAGE_LITTLE_ENDIAN: Final = 0x0403_0201

UIMAGE_MAGIC: Final = b"\x27\x05\x19\x56"
UIMAGE_HEADER: Final = struct.Struct(">7I4B32s")
"""Magic, checksum of the header, time, size of the data, load address, entry, checksum of the data, operating system,
architecture, type, compression, name (U-Boot's legacy image format)."""
UIMAGE_KERNEL: Final = 2
UIMAGE_COMPRESSIONS: Final = {0: "none", 1: "gzip", 2: "bzip2", 3: "lzma", 4: "lzo", 5: "lz4", 6: "zstd"}
UIMAGE_ARCHITECTURES: Final = {2: 40, 3: 3, 5: 8, 22: 183, 24: 62, 26: 243}
"""ELF's machine numbers by the image format's."""

FOREIGN: Final = (
    (0x38, b"ARM\x64", "a 64-bit ARM kernel"),
    (0x202, b"HdrS", "an x86 kernel"),
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


class ImageKind(Enum):
    ZIMAGE = "zImage"
    UIMAGE = "uImage"
    ELF = "ELF"
    RAW = "raw image"


class Image(NamedTuple):
    """What is to be put into memory, and where to enter it.

    A zImage and a raw image have no address of their own: their only segment and their entry start at 0.
    """

    name: str
    kind: ImageKind
    segments: tuple[Segment, ...]
    entry: int

    @property
    def has_addresses(self) -> bool:
        """Whether the file says where it is to be loaded."""
        return self.kind in (ImageKind.ELF, ImageKind.UIMAGE)


def load_image(path: str | Path, elf_machine: int, layout: Layout, what: str = "kernel") -> Image:
    """Read a zImage, uImage, ELF program or raw image for ELF machine `elf_machine`, gzip'd or not. Of what is too
    large for the memory of `layout` nothing is kept; nothing is added there.
    """
    name = f"{what} {path}"
    return image_of(Contents(read_file(path, what), name), name, elf_machine, layout)


def image_of(contents: Contents, name: str, elf_machine: int, layout: Layout) -> Image:
    """The same for a file that has been read, and is called `name`."""
    head = contents.start(HEAD)
    if head.startswith(ELF_MAGIC):
        segments, entry = load_elf(contents, name, elf_machine, layout)
        return Image(name, ImageKind.ELF, segments, entry)
    for offset, magic, found in FOREIGN:
        if head[offset : offset + len(magic)] == magic:
            raise UsageError(f"cannot use {name}: it is {found}")
    data = contents.whole(layout.ram.size, MORE_MEMORY)
    if head.startswith(UIMAGE_MAGIC):
        return _uimage(data, name, elf_machine, layout)
    if head[0x24:0x28] == ZIMAGE_MAGIC:
        return _zimage(data, name)
    if len(data) < 4:
        raise UsageError(f"cannot use {name}: {len(data)} bytes are no program")
    return Image(name, ImageKind.RAW, (Segment(0, data, len(data)),), 0)


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


def _uimage(data: bytes, name: str, machine: int, layout: Layout) -> Image:
    if len(data) < UIMAGE_HEADER.size:
        raise UsageError(f"cannot use {name}: the uImage is truncated ({len(data)} bytes end within its header)")
    _, header_sum, _, size, load, entry, data_sum, _, architecture, kind, compression, _ = UIMAGE_HEADER.unpack_from(
        data
    )
    if zlib.crc32(data[:4] + bytes(4) + data[8 : UIMAGE_HEADER.size]) != header_sum:
        raise UsageError(f"cannot use {name}: the checksum of the uImage's header is wrong")
    if UIMAGE_ARCHITECTURES.get(architecture) != machine:
        raise UsageError(f"cannot use {name}: it is a uImage for another architecture (number {architecture})")
    if kind != UIMAGE_KERNEL:
        raise UsageError(f"cannot use {name}: it is a uImage of type {kind}, not a kernel (type {UIMAGE_KERNEL})")
    body = data[UIMAGE_HEADER.size : UIMAGE_HEADER.size + size]
    if len(body) < size:
        raise UsageError(f"cannot use {name}: the uImage is truncated ({len(body)} of {size} bytes)")
    if zlib.crc32(body) != data_sum:
        raise UsageError(f"cannot use {name}: the checksum of the uImage's data is wrong")
    if compression not in (0, 1):
        said = UIMAGE_COMPRESSIONS.get(compression, f"method {compression}")
        raise UsageError(f"cannot use {name}: the uImage is compressed with {said}; only gzip is supported")
    if compression:
        if not body.startswith(GZIP_MAGIC):
            raise UsageError(f"cannot decompress {name}: the gzip data are damaged")
        body = Contents(body, name).whole(layout.ram.size, MORE_MEMORY)
    if not load <= entry & ~1 < load + len(body):
        raise UsageError(f"cannot use {name}: its entry {entry:#x} lies outside of it ({load:#x} on)")
    return Image(name, ImageKind.UIMAGE, (Segment(load, body, len(body)),), entry)
