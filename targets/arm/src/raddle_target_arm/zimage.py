# SPDX-License-Identifier: Apache-2.0
"""The zImage, a kernel that decompresses itself (Linux, Documentation/arch/arm/booting.rst).

It has no address of its own: it is entered at its first byte, wherever that is.
"""

from __future__ import annotations

import struct
from typing import Final

from raddle.errors import UsageError
from raddle.layout import Layout, Segment

__all__ = ["read"]

HEADER: Final = struct.Struct("<40x III")
"""After 36 bytes of code and the magic: the addresses of start and end that it was linked for, and its byte order."""
LITTLE_ENDIAN: Final = 0x0403_0201


def read(data: bytes, name: str, _: Layout) -> tuple[tuple[Segment, ...], int]:
    """One segment with the whole file, and the entry, 0. Raises UsageError. See raddle.plugins.KernelReader."""
    if len(data) < HEADER.size:
        raise UsageError(f"cannot use {name}: the zImage is truncated ({len(data)} bytes end within its header)")
    start, end, order = HEADER.unpack_from(data)
    if order != LITTLE_ENDIAN:
        raise UsageError(f"cannot use {name}: it is a big-endian zImage")
    size = end - start
    if size < HEADER.size:
        raise UsageError(f"cannot use {name}: its zImage header is damaged (start {start:#x}, end {end:#x})")
    if size > len(data):
        raise UsageError(f"cannot use {name}: the zImage is truncated ({len(data)} of {size} bytes)")
    return (Segment(0, data, len(data)),), 0
