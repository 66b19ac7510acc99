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


def traps(qualifiers: int) -> int:
    """Trap qualifiers of arithmetic (4.7.9): none, /U, /SU, /SUI."""
    return int(qualifiers in (0, 1, 5, 7))


def inexact(qualifiers: int) -> int:
    """Trap qualifiers of conversions from integers: none, /SUI."""
    return int(qualifiers in (0, 7))


def vax_traps(qualifiers: int) -> int:
    """Trap qualifiers of VAX arithmetic (4.7.7.1): none, /U, /S, /SU."""
    return int(qualifiers in (0, 1, 4, 5))


def vax_rounding(rounding: int) -> int:
    """Rounding qualifiers of VAX arithmetic (4.7.5): /C, none."""
    return int(rounding in (0, 2))


def both(qualifiers: int) -> int:
    """Trap qualifiers of comparisons: none, /SU; these are its two bits."""
    return int(qualifiers in (0, 3))


def compared(qualifiers: int) -> int:
    """The same as all three bits have it."""
    return 5 if qualifiers else 0


def completed(qualifier: int) -> int:
    """/S alone."""
    return qualifier << 2


_LINEAR: Final = (value, signed, high, branch, fp, completed)
_OTHERS: Final = (traps, inexact, vax_traps, vax_rounding, both, compared)

FUNCTIONS: Final[dict[str, Function | Linear]] = {
    **{function.__name__: Linear(function) for function in _LINEAR},
    **{function.__name__: function for function in _OTHERS},
}
