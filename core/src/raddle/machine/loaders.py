# SPDX-License-Identifier: Apache-2.0
"""Reads kernels from files: recognises, decompresses and checks them before any part reaches a guest.

Any fault of a file is a UsageError that names the file and the fault. A file takes no more of the host's memory than
the guest's RAM allows.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from raddle.errors import UsageError
from raddle.layout import MORE_MEMORY, Layout, Segment
from raddle.machine.elf import ELF_MAGIC, load_elf
from raddle.machine.files import GZIP_MAGIC, Contents, read_file
from raddle.plugins import KERNEL_HEAD, Magic, Target

__all__ = [
    "ELF",
    "RAW",
    "UIMAGE",
    "UIMAGE_MAGIC",
    "Image",
    "image_of",
    "load_image",
    "refuse_foreign",
    "uimage_architecture",
]

UIMAGE_MAGIC: Final = b"\x27\x05\x19\x56"
UIMAGE_HEADER: Final = struct.Struct(">7I4B32s")
"""Magic, checksum of the header, time, size of the data, load address, entry, checksum of the data, operating system,
architecture, type, compression, name (U-Boot's legacy image format)."""
UIMAGE_KERNEL: Final = 2
UIMAGE_COMPRESSIONS: Final = {0: "none", 1: "gzip", 2: "bzip2", 3: "lzma", 4: "lzo", 5: "lz4", 6: "zstd"}

FOREIGN: Final = (
    Magic(0x00, b"\xd0\x0d\xfe\xed", "a device tree or FIT image"),
    Magic(0x00, GZIP_MAGIC, "compressed twice; decompress it first"),
    Magic(0x00, b"\xfd7zXZ\x00", "compressed with xz; decompress it first"),
    Magic(0x00, b"\x28\xb5\x2f\xfd", "compressed with zstd; decompress it first"),
    Magic(0x00, b"BZh", "compressed with bzip2; decompress it first"),
    Magic(0x00, b"\x89LZO", "compressed with lzop; decompress it first"),
    Magic(0x00, b"\x04\x22\x4d\x18", "compressed with lz4; decompress it first"),
    Magic(0x00, b"07070", "a cpio archive; give it as -initrd"),
    Magic(0x00, b"!<arch>", "a package or library archive"),
)
"""Files that would otherwise be taken for raw images, for any guest; a target adds its own."""

ELF: Final = "ELF"
UIMAGE: Final = "uImage"
RAW: Final = "raw image"


class Image(NamedTuple):
    """The segments to load, and the entry."""

    name: str
    kind: str
    """ELF, UIMAGE, RAW, or the name of one of the target's kernel kinds."""
    segments: tuple[Segment, ...]
    entry: int
    has_addresses: bool
    """Whether the file names its load addresses. If not, the addresses are offsets from where the board puts it; a raw
    image has one segment and its entry at 0."""


def uimage_architecture(head: bytes) -> int | None:
    """The architecture's number in the uImage that begins with `head`; None if it is no uImage."""
    if not head.startswith(UIMAGE_MAGIC) or len(head) < UIMAGE_HEADER.size:
        return None
    return int(UIMAGE_HEADER.unpack_from(head)[8])


def load_image(path: str | Path, target: Target, layout: Layout, what: str = "kernel") -> Image:
    """Read a kernel for `target`, gzip'd or not: an ELF program, a uImage, one of the target's own kinds, or a raw
    image. A file that is too large for the memory of `layout` is not kept; `layout` is not changed. Raises UsageError.
    """
    name = f"{what} {path}"
    return image_of(Contents(read_file(path, what), name), name, target, layout)


def image_of(contents: Contents, name: str, target: Target, layout: Layout) -> Image:
    """The same for the contents of a file, which messages call `name`."""
    head = contents.start(KERNEL_HEAD)
    if head.startswith(ELF_MAGIC):
        segments, entry = load_elf(contents, name, target, layout)
        return Image(name, ELF, segments, entry, has_addresses=True)
    refuse_foreign(head, name, target.foreign_files)
    data = contents.whole(layout.ram.size, MORE_MEMORY)
    if head.startswith(UIMAGE_MAGIC):
        return _uimage(data, name, target, layout)
    for kind in target.kernel_kinds:
        if kind.magic.matches(head):
            segments, entry = kind.load()(data, name, layout)
            return Image(name, kind.name, segments, entry, kind.has_addresses)
    if len(data) < 4:
        raise UsageError(f"cannot use {name}: {len(data)} bytes are no program")
    return Image(name, RAW, (Segment(0, data, len(data)),), 0, has_addresses=False)


def refuse_foreign(head: bytes, name: str, of_target: Iterable[Magic]) -> None:
    """Raises UsageError if the file `name`, which begins with `head`, is one of FOREIGN or of the target's foreign
    files.
    """
    for magic in (*FOREIGN, *of_target):
        if magic.matches(head):
            raise UsageError(f"cannot use {name}: it is {magic.meaning}")


def _uimage(data: bytes, name: str, target: Target, layout: Layout) -> Image:
    if len(data) < UIMAGE_HEADER.size:
        raise UsageError(f"cannot use {name}: the uImage is truncated ({len(data)} bytes end within its header)")
    _, header_sum, _, size, load, entry, data_sum, _, architecture, kind, compression, _ = UIMAGE_HEADER.unpack_from(
        data
    )
    if zlib.crc32(data[:4] + bytes(4) + data[8 : UIMAGE_HEADER.size]) != header_sum:
        raise UsageError(f"cannot use {name}: the checksum of the uImage's header is wrong")
    if architecture != target.uimage_architecture:
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
    return Image(name, UIMAGE, (Segment(load, body, len(body)),), entry, has_addresses=True)
