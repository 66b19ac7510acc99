# SPDX-License-Identifier: Apache-2.0
"""`-dfilter`: the guest addresses to which a log is limited."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from raddle.errors import UsageError

__all__ = ["contains", "parse_ranges"]

NUMBER: Final = r"(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})"
RANGE: Final = re.compile(rf"{NUMBER}(\.\.|[+-]){NUMBER}", re.ASCII)
END: Final = 1 << 64


def parse_ranges(text: str) -> tuple[range, ...]:
    """`FIRST..LAST`, `FIRST+SIZE` and `LAST-SIZE`, with commas between them. Raises UsageError."""
    return tuple(map(_range, text.split(",")))


def _range(text: str) -> range:
    match = RANGE.fullmatch(text)
    if match is None:
        raise UsageError(f"-dfilter {text!r} is no range of addresses: FIRST..LAST, FIRST+SIZE or LAST-SIZE")
    one, other = (int(number, 16) if number[:2] in ("0x", "0X") else int(number) for number in (match[1], match[3]))
    first, end = {"..": (one, other + 1), "+": (one, one + other), "-": (one - other + 1, one + 1)}[match[2]]
    if not 0 <= first < end <= END:
        raise UsageError(f"-dfilter {text!r} holds no address, or some beyond 64 bits")
    return range(first, end)


def contains(ranges: Sequence[range], address: int) -> bool:
    """Whether one of the ranges has the address, or there are no ranges."""
    return not ranges or any(address in one for one in ranges)
