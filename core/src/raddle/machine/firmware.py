# SPDX-License-Identifier: Apache-2.0
"""Firmware images: refuses files that are certainly none, since a CPU would run them without any message."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from raddle.errors import UsageError
from raddle.machine.elf import ELF_MAGIC
from raddle.machine.files import GZIP_MAGIC
from raddle.machine.loaders import UIMAGE_MAGIC, refuse_foreign
from raddle.plugins import KERNEL_HEAD, Magic
from raddle.sizes import size_text

__all__ = ["check_firmware"]

VECTORS_SIZE: Final = 32
"""Bytes at the beginning of any program with exception vectors."""

VOLUME_SIZE: Final = struct.Struct("<32x Q 4s")
"""A firmware volume's header (UEFI Platform Initialization, volume 3): its length, and its signature."""
VOLUME_SIGNATURE: Final = b"_FVH"


def check_firmware(data: bytes | memoryview, name: str, foreign: Iterable[Magic] = ()) -> None:
    """Raises UsageError if `data`, the contents of ROM or flash in which the CPU starts, is no firmware. `foreign` are
    the files that the target refuses.
    """
    head = bytes(data[:KERNEL_HEAD])

    def refused(why: str) -> UsageError:
        return UsageError(f"cannot use {name}: {why}")

    if not head[:VECTORS_SIZE].strip(b"\0") or not head[:VECTORS_SIZE].strip(b"\xff"):
        raise refused("there is no firmware in it: it begins with nothing but zeros or ones")
    if head.startswith(ELF_MAGIC):
        raise refused("it is an ELF program, not what a CPU finds in ROM; give it as -kernel, or give its raw image")
    if head.startswith(UIMAGE_MAGIC):
        raise refused("it is a U-Boot image (uImage); give it as -kernel")
    if head.startswith(GZIP_MAGIC):
        raise refused("it is compressed with gzip; decompress it first")
    refuse_foreign(head, name, foreign)
    if len(head) >= VOLUME_SIZE.size:
        size, signature = VOLUME_SIZE.unpack_from(head)
        if signature == VOLUME_SIGNATURE and size > len(data):
            raise refused(f"it is truncated: {size_text(len(data))} of a firmware volume of {size_text(size)}")
