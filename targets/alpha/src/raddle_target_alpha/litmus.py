# SPDX-License-Identifier: Apache-2.0
"""Machine code for litmus tests. Sections are those of the Alpha Architecture Reference Manual, 4th edition.

Programs run in kernel mode and see memory in KSEG, which needs no page tables. Registers have 64 bits. Numbers are in
them as LDL loads them, but for what additions of large ones carry beyond 32 bits.
"""

from __future__ import annotations

from typing import Final

from raddle.litmus.guest import LitmusGuest, words
from raddle_target_alpha import mmu
from raddle_target_alpha.assembler import (
    ADDL,
    ADDQ,
    AND,
    BEQ,
    BIS,
    BNE,
    BR,
    CMPLT,
    LDA,
    LDAH,
    LDL,
    LDL_L,
    MB,
    SLL,
    STL,
    STL_C,
    WMB,
    XOR,
    Operation,
    branch,
    literal,
    memory,
    operate,
)
from raddle_target_alpha.cpus import MODELS
from raddle_target_alpha.memory_model import ALPHA
from raddle_target_alpha.state import ZERO

__all__ = ["GUEST"]

BASE: Final = 0x40_0000
"""In the RAM of the `clipper` board, above the console, the kernel and its parameters."""
SCRATCH: Final = 28
"""The register that operations use besides those of their operands."""
REGISTERS: Final = SCRATCH
INSTRUCTION_BYTES: Final = 4


def _parts(value: int) -> tuple[int, int, int]:
    """The displacements of LDA and LDAH that add up to a number, and what is left of it, without its lower 32 bits."""
    low = (value & 0xFFFF ^ 0x8000) - 0x8000
    above = value - low >> 16
    high = (above & 0xFFFF ^ 0x8000) - 0x8000
    return low, high, above - high >> 16


def constant(d: int, value: int) -> bytes:
    """A number of 32 bits, or an address of 64 bits   (LDA and LDAH: 4.2.1)"""
    if value < 1 << 32:
        value = (value ^ 1 << 31) - (1 << 31)
    low, high, rest = _parts(value)
    base, start = ZERO, b""
    if rest:
        upper_low, upper_high, _ = _parts(rest)
        start = words(memory(LDAH, d, upper_high, ZERO), memory(LDA, d, upper_low, d), literal(SLL, d, 32, d))
        base = d
    return start + words(memory(LDAH, d, high, base), memory(LDA, d, low, d))


def load(d: int, a: int, offset: int) -> bytes:
    return words(memory(LDL, d, offset, a))


def store(s: int, a: int, offset: int) -> bytes:
    return words(memory(STL, s, offset, a))


def add_immediate(d: int, a: int, number: int) -> bytes:
    return words(memory(LDA, d, number, a))


def _three(operation: Operation, d: int, a: int, b: int) -> bytes:
    return words(operate(operation, a, b, d))


def _displacement(distance: int, instruction: int) -> int:
    """What a branch has that is instruction number `instruction` of an operation   (3.3.2)"""
    return distance // INSTRUCTION_BYTES - instruction - 1


def branch_if_zero(a: int, distance: int) -> bytes:
    """ADDL leaves the lower 32 bits   (4.4.1)"""
    return words(operate(ADDL, a, ZERO, SCRATCH), branch(BEQ, SCRATCH, _displacement(distance, 1)))


def branch_if_not_zero(a: int, distance: int) -> bytes:
    return words(operate(ADDL, a, ZERO, SCRATCH), branch(BNE, SCRATCH, _displacement(distance, 1)))


def branch_if_less(a: int, b: int, distance: int) -> bytes:
    return words(operate(CMPLT, a, b, SCRATCH), branch(BNE, SCRATCH, _displacement(distance, 1)))


def jump(distance: int) -> bytes:
    return words(branch(BR, ZERO, _displacement(distance, 0)))


def store_conditional(d: int, s: int, a: int) -> bytes:
    """STL_C takes the value from the register in which it leaves whether it has stored   (4.2.5)"""
    return words(operate(BIS, s, s, d), memory(STL_C, d, 0, a), literal(XOR, d, 1, d))


GUEST: Final = LitmusGuest(
    models=dict.fromkeys(MODELS, ALPHA),
    board="clipper",
    base=BASE,
    registers=REGISTERS,
    operations={
        "constant": constant,
        "load": load,
        "store": store,
        "add": lambda d, a, b: _three(ADDQ, d, a, b),
        "and": lambda d, a, b: _three(AND, d, a, b),
        "xor": lambda d, a, b: _three(XOR, d, a, b),
        "add_immediate": add_immediate,
        "branch_if_zero": branch_if_zero,
        "branch_if_not_zero": branch_if_not_zero,
        "branch_if_less": branch_if_less,
        "jump": jump,
        "load_linked": lambda d, a: words(memory(LDL_L, d, 0, a)),
        "store_conditional": store_conditional,
        "fence_mb": lambda: words(MB),
        "fence_wmb": lambda: words(WMB),
    },
    direct_map=mmu.KSEG,
)
"""Alpha has no barrier for loads only, no acquire and release accesses, and no hint that a CPU waits."""
