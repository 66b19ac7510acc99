# SPDX-License-Identifier: Apache-2.0
"""Machine code for litmus tests. There are no barriers, since there is nothing for them to do."""

from __future__ import annotations

import struct
from typing import Final

from raddle.litmus.guest import LitmusGuest
from raddle.litmus.models import SC
from raddle_target_tiny.assembler import OPERANDS, PLACES
from raddle_target_tiny.insns import INSTRUCTION_BYTES

__all__ = ["GUEST"]

BASE: Final = 0x1_0000
ZERO, SCRATCH = 15, 14
"""Registers that operations use besides those of their operands."""
REGISTERS: Final = 14


def instruction(name: str, *operands: int) -> bytes:
    """One instruction; a branch's operand is the distance in bytes."""
    word = (list(OPERANDS).index(name) + 1) << 24
    for kind, operand in zip(OPERANDS[name], operands, strict=True):
        if kind == "l":
            word |= operand // INSTRUCTION_BYTES & 0xFFFF
        elif kind == "i":
            word |= operand & 0xFFFF
        else:
            word |= operand << PLACES[kind]
    return struct.pack("<I", word)


def constant(d: int, value: int) -> bytes:
    return instruction("MOVI", d, value) + instruction("MOVHI", d, value >> 16)


CLEAR: Final = instruction("MOVI", ZERO, 0)


def branch_if_zero(a: int, distance: int) -> bytes:
    return CLEAR + instruction("BEQ", a, ZERO, distance - 4)


def branch_if_not_zero(a: int, distance: int) -> bytes:
    return CLEAR + instruction("BEQ", a, ZERO, 8) + instruction("JAL", SCRATCH, distance - 8)


def branch_if_less(a: int, b: int, distance: int) -> bytes:
    return instruction("BLT", a, b, distance)


GUEST: Final = LitmusGuest(
    models={"tiny": SC, "tiny-uni": SC},
    board="desk",
    base=BASE,
    registers=REGISTERS,
    operations={
        "constant": constant,
        "load": lambda d, a, offset: instruction("LDW", d, a, offset),
        "store": lambda s, a, offset: instruction("STW", s, a, offset),
        "add": lambda d, a, b: instruction("ADD", d, a, b),
        "xor": lambda d, a, b: instruction("XOR", d, a, b),
        "add_immediate": lambda d, a, number: instruction("ADDI", d, a, number),
        "branch_if_zero": branch_if_zero,
        "branch_if_not_zero": branch_if_not_zero,
        "branch_if_less": branch_if_less,
        "jump": lambda distance: instruction("JAL", SCRATCH, distance),
        "atomic_add": lambda d, a, b: instruction("FETCHADD", d, a, b),
        "fence_mb": bytes,
        "fence_rmb": bytes,
        "fence_wmb": bytes,
        "fence_isb": bytes,
    },
)
