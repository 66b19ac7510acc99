# SPDX-License-Identifier: Apache-2.0
"""Condition codes of Jcc, SETcc and CMOVcc (Intel SDM volume 1, appendix B). `code ^ 1` is the opposite condition."""

from typing import Final

O: Final = 0
NO: Final = 1
B: Final = 2  # unsigned <, carry
AE: Final = 3  # unsigned >=, no carry
E: Final = 4
NE: Final = 5
BE: Final = 6  # unsigned <=
A: Final = 7  # unsigned >
S: Final = 8
NS: Final = 9
P: Final = 10
NP: Final = 11
L: Final = 12  # signed <
GE: Final = 13  # signed >=
LE: Final = 14  # signed <=
G: Final = 15  # signed >

NAMES: Final = ("o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g")
