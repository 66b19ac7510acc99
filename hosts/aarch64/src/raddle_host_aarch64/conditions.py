# SPDX-License-Identifier: Apache-2.0
"""Condition codes (Arm DDI 0487, C1.2.4), and what else branches test. `code ^ 1` is the opposite condition.

They are numbered as `raddle.ir.types.FlagCondition`: C is the carry of an addition, and the inverted borrow of a
subtraction.
"""

from enum import Enum
from typing import Final, NamedTuple

EQ: Final = 0
NE: Final = 1
CS: Final = 2  # unsigned >=, carry
CC: Final = 3  # unsigned <, no carry
MI: Final = 4
PL: Final = 5
VS: Final = 6
VC: Final = 7
HI: Final = 8  # unsigned >
LS: Final = 9  # unsigned <=
GE: Final = 10  # signed >=
LT: Final = 11  # signed <
GT: Final = 12  # signed >
LE: Final = 13  # signed <=

NAMES: Final = ("eq", "ne", "cs", "cc", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le")


class Kind(Enum):
    FLAGS = 0
    NOT_ZERO = 1
    BIT = 2


class Test(NamedTuple):
    """How a branch finds out whether a condition holds."""

    kind: Kind
    operand: int
    """The host condition; or the register that is not 0, or whose bit is set, if the condition holds."""
    detail: int = 0
    """Whether the register has 64 bits; or the number of the bit."""
    negated: bool = False
    """Whether the condition holds if that is not so."""
