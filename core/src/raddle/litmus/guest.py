# SPDX-License-Identifier: Apache-2.0
"""What a guest provides so that litmus tests can run on it: machine code for a few operations.

A target names it in its descriptor (`Target.litmus`), as a function that returns a `LitmusGuest`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from raddle.litmus.models import Model

__all__ = ["NEEDED", "OPTIONAL", "Encode", "LitmusGuest", "Setup", "words"]

Encode = Callable[..., bytes]
"""Called with the operands of an operation, all integers; returns its machine code, which may be several instructions.
The code's length does not depend on distances. The code may change only its destination register, and flags."""

NEEDED: Final[Mapping[str, str]] = {
    "constant": "d, value: register d = a number of 32 bits, or an address",
    "load": "d, a, offset: d = the word at a + offset, 0 to 255",
    "store": "s, a, offset: the word at a + offset = s",
    "add": "d, a, b; a may be an address",
    "xor": "d, a, b",
    "add_immediate": "d, a, number: -255 to 255; a may be an address",
    "branch_if_zero": "a, distance: branch if a is 0; the distance is in bytes from the operation's first byte",
    "branch_if_not_zero": "a, distance",
    "branch_if_less": "a, b, distance: branch if a is less than b; both are 0 to 2**31 - 1",
    "jump": "distance",
}
"""Operations that every guest provides, with their operands. Words have 32 bits; d, s, a and b are register numbers."""

OPTIONAL: Final[Mapping[str, str]] = {
    "and": "d, a, b",
    "load_acquire": "d, a: d = the word at a, an acquire of RCsc",
    "load_acquirepc": "d, a: an acquire of RCpc",
    "store_release": "s, a: the word at a = s",
    "fence_mb": "orders everything before it before everything after it",
    "fence_rmb": "orders earlier loads before everything after it",
    "fence_wmb": "orders earlier stores before later ones",
    "fence_isb": "what follows it is fetched after earlier branches are resolved",
    "load_linked": "d, a: d = the word at a, reserved",
    "store_conditional": "d, s, a: the word at a = s if it is still reserved; d = 0 if it was, else 1; d is not s or a",
    "atomic_add": "d, a, b: in one step, d = the word at a, which becomes d + b; d is not a or b",
    "atomic_exchange": "d, a, b: in one step, d = the word at a, which becomes b; d is not a or b",
    "pause": "a hint that the code waits for another CPU",
}
"""Operations that a guest may lack. Tests that need them do not run on it. Without `pause`, waiting code just loops."""


def words(*code: int) -> bytes:
    """Machine code of little-endian words of 32 bits."""
    return struct.pack(f"<{len(code)}I", *code)


class Setup(NamedTuple):
    """What each CPU executes first: code that turns on the MMU, for example, if that changes the order of accesses."""

    code: bytes
    """Machine code that falls through to what follows it. It may change any register."""
    data: bytes = b""
    """Data that the code uses, at the address that `LitmusGuest.setup` was called with."""


class LitmusGuest(NamedTuple):
    """A guest for litmus tests. Immutable.

    models: for each CPU model of the target, the model of its memory; `raddle.litmus.models.SC` is one.
    board: the board that tests run on.
    base: a physical address, a multiple of 64 KiB. From there on, the board has RAM that nothing else uses.
    registers: operands are registers 0 to `registers` - 1; at least 12.
    operations: operations by name, all of `NEEDED` and any of `OPTIONAL`.
    setup: called with the physical address of the setup's data, a multiple of 64 KiB.
    direct_map: the difference between the addresses that the guest's code uses, and begins at, and physical addresses;
        0 where they are the same.
    """

    models: Mapping[str, Model]
    board: str
    base: int
    registers: int
    operations: Mapping[str, Encode]
    setup: Callable[[int], Setup] = lambda address: Setup(b"")
    direct_map: int = 0
