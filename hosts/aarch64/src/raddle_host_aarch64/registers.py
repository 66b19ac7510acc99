# SPDX-License-Identifier: Apache-2.0
"""Register numbers of AArch64, and their names as 32-bit and 64-bit registers (Arm DDI 0487, B1.2.1).

Number 31 is the zero register or the stack pointer, as the instruction has it.
"""

from typing import Final

from raddle.codegen.locations import RegisterClass

GENERAL: Final = RegisterClass("general", 32)
"""Number 31 holds no value."""
FLOATING: Final = RegisterClass("floating-point", 32)
"""Registers of Advanced SIMD. A value has the low 32 or 64 bits; of the low 64 bits, the others are zero."""

X0: Final = 0
X1: Final = 1
X2: Final = 2
X3: Final = 3
X4: Final = 4
X5: Final = 5
X6: Final = 6
X7: Final = 7
X8: Final = 8
X9: Final = 9
X10: Final = 10
X11: Final = 11
X12: Final = 12
X13: Final = 13
X14: Final = 14
X15: Final = 15
X16: Final = 16
X17: Final = 17
X18: Final = 18
X19: Final = 19
X20: Final = 20
X21: Final = 21
X22: Final = 22
X23: Final = 23
X24: Final = 24
X25: Final = 25
X26: Final = 26
X27: Final = 27
X28: Final = 28
X29: Final = 29
X30: Final = 30
ZR: Final = 31
SP: Final = 31

V0: Final = 0
V1: Final = 1
V2: Final = 2
V8: Final = 8
V9: Final = 9
V10: Final = 10
V11: Final = 11
V12: Final = 12
V13: Final = 13
V14: Final = 14
V15: Final = 15
V16: Final = 16
V17: Final = 17
V18: Final = 18
V19: Final = 19
V20: Final = 20
V21: Final = 21
V22: Final = 22
V23: Final = 23

NAMES_32: Final = (*(f"w{number}" for number in range(31)), "wzr")
NAMES_64: Final = (*(f"x{number}" for number in range(31)), "xzr")
