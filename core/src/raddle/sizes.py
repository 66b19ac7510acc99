# SPDX-License-Identifier: Apache-2.0
"""Sizes of memory and files as people write and read them."""

from __future__ import annotations

import re
from typing import Final

from raddle.errors import UsageError

__all__ = ["parse_size", "size_text"]

PATTERN: Final = re.compile(r"(\d{1,15})(\.\d{1,9})?([kKmMgGtT]?)[iI]?[bB]?", re.ASCII)
SHIFT: Final = {"": 20, "k": 10, "m": 20, "g": 30, "t": 40}
UNITS: Final = (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10))


def parse_size(text: str) -> int:
    """Bytes of a size like `512M` or `1.5G`; a plain number is MiB. Raises UsageError."""
    match = PATTERN.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is not a memory size: give a number and K, M or G, as in 512M")
    return int(float(match[1] + (match[2] or "")) * (1 << SHIFT[match[3].lower()]))


def size_text(size: int) -> str:
    """`size` bytes in the largest unit of which they are a whole number: `1536 MiB`, `100 TiB`, `1 byte`."""
    for unit, shift in UNITS:
        if size and size % (1 << shift) == 0:
            return f"{size >> shift} {unit}"
    return "1 byte" if size == 1 else f"{size} bytes"
