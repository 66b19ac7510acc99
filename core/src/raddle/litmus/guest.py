# SPDX-License-Identifier: Apache-2.0
"""What a guest gives so that litmus tests can run on it: machine code for a few operations.

A target names it in its descriptor (`Target.litmus`), as a function that returns a `LitmusGuest`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

__all__ = ["NEEDED", "OPTIONAL", "Encode", "LitmusGuest", "Setup"]

Encode = Callable[..., bytes]
"""Called with the operands of an operation, all whole numbers; returns its machine code, which may be several
instructions. The code's length does not depend on distances. It may change no register but its destination, and flags.
"""

NEEDED: Final[Mapping[str, str]] = {
    "constant": "d, value: register d = a number of 32 bits",
    "load": "d, a, offset: d = the word at a + offset, 0 to 255",
    "store": "s, a, offset: the word at a + offset = s",
    "add": "d, a, b",
    "xor": "d, a, b",
    "add_immediate": "d, a, number: -255 to 255",
    "branch_if_zero": "a, distance: go there if a is 0; from the first byte of the operation, in bytes",
    "branch_if_not_zero": "a, distance",
    "branch_if_less": "a, b, distance: if a is less than b, both from 0 to 2**31 - 1",
    "jump": "distance",
}
"""Operations that every guest gives, with their operands. Words have 32 bits; d, s, a and b are registers' numbers."""

OPTIONAL: Final[Mapping[str, str]] = {
    "and": "d, a, b",
    "load_acquire": "d, a: d = the word at a, DDI 0487's acquire",
    "load_acquirepc": "d, a: DDI 0487's acquirePC",
    "store_release": "s, a: the word at a = s",
    "fence_mb": "orders everything before it with everything after it",
    "fence_rmb": "orders earlier loads with everything after it",
    "fence_wmb": "orders earlier stores with later ones",
    "fence_isb": "what follows is fetched after earlier branches are taken",
    "load_linked": "d, a: d = the word at a, reserved",
    "store_conditional": "d, s, a: the word at a = s if it is still reserved; d = 0 if it was, else 1; d is not s or a",
    "atomic_add": "d, a, b: in one step, d = the word at a, which becomes d + b; d is not a or b",
    "atomic_exchange": "d, a, b: in one step, d = the word at a, which becomes b; d is not a or b",
    "pause": "a hint that the code waits for another CPU",
}
"""Operations that a guest may lack. Tests that need them do not run on it; without `pause`, it spins."""


class Setup(NamedTuple):
    """What each CPU does first, such as to turn an MMU on without which its memory would have another order."""

    code: bytes
    """Machine code that ends in what follows it. It may change any register."""
    data: bytes = b""
    """What it uses, at the address that it was made for."""


class LitmusGuest(NamedTuple):
    """A guest, as litmus tests see it. Immutable."""

    models: Mapping[str, str]
    """For each CPU model, the name of its memory's model in raddle.litmus.models."""
    board: str
    """The board that tests run on."""
    base: int
    """Physical address, a multiple of 64 KiB, from which on the board has RAM that nothing else uses."""
    registers: int
    """Operands are registers 0 to `registers` - 1; at least 12."""
    operations: Mapping[str, Encode]
    """By name: those of `NEEDED`, and any of `OPTIONAL`."""
    setup: Callable[[int], Setup] = lambda address: Setup(b"")
    """Called with an address that is a multiple of 64 KiB, for its data."""
