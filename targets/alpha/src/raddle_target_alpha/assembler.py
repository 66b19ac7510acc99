# SPDX-License-Identifier: Apache-2.0
"""Instruction words, for the console's code and litmus tests (Architecture Reference Manual, 3.3)."""

from __future__ import annotations

from typing import Final, NamedTuple

from raddle_target_alpha.pal import TABLE

# Opcodes of the memory format
LDA, LDAH, STB, LDL, LDQ, LDL_L, LDQ_L = 0x08, 0x09, 0x0E, 0x28, 0x29, 0x2A, 0x2B
STL, STQ, STL_C, STQ_C = 0x2C, 0x2D, 0x2E, 0x2F
# Opcodes of branches
BR, BEQ, BNE = 0x30, 0x39, 0x3D

MB: Final = 0x6000_4000
WMB: Final = 0x6000_4400
RET: Final = 0x6BFA_8001
"""By r26."""

CALL_PAL: Final = {function.__name__: number for number, function in TABLE.items()}
"""The words of PALcode functions: the opcode is 0."""


class Operation(NamedTuple):
    """An instruction of the operate format."""

    opcode: int
    function: int


ADDL, ADDQ, SUBQ = Operation(0x10, 0x00), Operation(0x10, 0x20), Operation(0x10, 0x29)
CMPEQ, CMPLT = Operation(0x10, 0x2D), Operation(0x10, 0x4D)
AND, BIC, BIS, XOR = Operation(0x11, 0x00), Operation(0x11, 0x08), Operation(0x11, 0x20), Operation(0x11, 0x40)
SRL, SLL = Operation(0x12, 0x34), Operation(0x12, 0x39)


def memory(opcode: int, a: int, displacement: int, b: int) -> int:
    """Ra, displacement(Rb)."""
    return opcode << 26 | a << 21 | b << 16 | displacement & 0xFFFF


def branch(opcode: int, a: int, displacement: int) -> int:
    """To the instruction that is ``displacement`` instructions after the next one."""
    return opcode << 26 | a << 21 | displacement & 0x1F_FFFF


def jump(a: int, b: int) -> int:
    """JSR Ra, (Rb)."""
    return 0x1A << 26 | a << 21 | b << 16 | 1 << 14


def operate(operation: Operation, a: int, b: int, c: int) -> int:
    """Rc = Ra operation Rb."""
    return operation.opcode << 26 | a << 21 | b << 16 | operation.function << 5 | c


def literal(operation: Operation, a: int, value: int, c: int) -> int:
    """Rc = Ra operation value, of 8 bits."""
    return operation.opcode << 26 | a << 21 | value << 13 | 1 << 12 | operation.function << 5 | c
