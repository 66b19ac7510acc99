# SPDX-License-Identifier: Apache-2.0
"""Operands that the decode tables compute from fields. Every function of this module may be named in a table."""

from __future__ import annotations

from typing import Final

from raddle.translate.pattern import Function, Linear
from raddle_target_alpha.state import FIRST_FLOAT

__all__ = ["FUNCTIONS"]


def value(field: int) -> int:
    return field


def signed(displacement: int) -> int:
    """The 16-bit displacement of the memory format."""
    return displacement - ((displacement & 0x8000) << 1)


def high(displacement: int) -> int:
    """LDAH's displacement (4.2.1)."""
    return signed(displacement) << 16


def branch(displacement: int) -> int:
    """The distance of a branch from its own address: 21 bits count instructions from the next one (4.3)."""
    return (displacement - ((displacement & 0x10_0000) << 1) << 2) + 4


def fp(register: int) -> int:
    """The number of a floating-point register among all registers."""
    return register + FIRST_FLOAT


FUNCTIONS: Final[dict[str, Function | Linear]] = {
    function.__name__: Linear(function) for function in (value, signed, high, branch, fp)
}
