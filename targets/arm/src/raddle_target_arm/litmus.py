# SPDX-License-Identifier: Apache-2.0
"""A32 machine code for litmus tests. Sections are those of DDI 0406C.

Memory is Normal, write-back and shareable, as the model of ARMv7's memory assumes. With the MMU off it would be
strongly ordered (B3.2.1).
"""

from __future__ import annotations

from typing import Final

from raddle.litmus.guest import LitmusGuest, Setup, words
from raddle_target_arm.memory_model import ARMV7

__all__ = ["GUEST"]

BASE: Final = 0x4010_0000
"""In the RAM of the `virt` board, above what a kernel's boot puts there."""
REGISTERS: Final = 13
"""r0 to r12."""
PC_AHEAD: Final = 8
"""By how many bytes the pc that a branch reads is ahead of the branch (A2.3)."""

SECTION: Final = 1 << 20
SECTIONS: Final = 1 << 12
NORMAL_SECTION: Final = 0x0001_1C0E
"""A section of Normal memory: write-back write-allocate (TEX 1, C, B), shareable, full access (B3.5.1)."""
WALK_ATTRIBUTES: Final = 0x4A
"""Of TTBR0: walks are inner and outer write-back write-allocate, shareable (B4.1.154)."""


def constant(d: int, value: int) -> bytes:
    """MOVW, MOVT   (A8.8.102, A8.8.106)"""
    low, high = value & 0xFFFF, value >> 16 & 0xFFFF
    return words(
        0xE300_0000 | low >> 12 << 16 | d << 12 | low & 0xFFF, 0xE340_0000 | high >> 12 << 16 | d << 12 | high & 0xFFF
    )


def load(d: int, a: int, offset: int) -> bytes:
    """LDR (immediate)   (A8.8.63)"""
    return words(0xE590_0000 | a << 16 | d << 12 | offset)


def store(s: int, a: int, offset: int) -> bytes:
    """STR (immediate)   (A8.8.204)"""
    return words(0xE580_0000 | a << 16 | s << 12 | offset)


def add(d: int, a: int, b: int) -> bytes:
    return words(0xE080_0000 | a << 16 | d << 12 | b)


def and_(d: int, a: int, b: int) -> bytes:
    return words(0xE000_0000 | a << 16 | d << 12 | b)


def xor(d: int, a: int, b: int) -> bytes:
    return words(0xE020_0000 | a << 16 | d << 12 | b)


def add_immediate(d: int, a: int, number: int) -> bytes:
    """ADD or SUB   (A8.8.5, A8.8.222)"""
    return words((0xE280_0000 if number >= 0 else 0xE240_0000) | a << 16 | d << 12 | abs(number))


def _branch(condition: int, distance: int) -> int:
    """B<c>   (A8.8.18)"""
    return condition << 28 | 0x0A00_0000 | (distance - PC_AHEAD) >> 2 & 0xFF_FFFF


EQ, NE, LT, AL = 0x0, 0x1, 0xB, 0xE


def _compare_zero(a: int) -> int:
    return 0xE350_0000 | a << 16


def branch_if_zero(a: int, distance: int) -> bytes:
    return words(_compare_zero(a), _branch(EQ, distance - 4))


def branch_if_not_zero(a: int, distance: int) -> bytes:
    return words(_compare_zero(a), _branch(NE, distance - 4))


def branch_if_less(a: int, b: int, distance: int) -> bytes:
    return words(0xE150_0000 | a << 16 | b, _branch(LT, distance - 4))


def jump(distance: int) -> bytes:
    return words(_branch(AL, distance))


def load_linked(d: int, a: int) -> bytes:
    """LDREX   (A8.8.75)"""
    return words(0xE190_0F9F | a << 16 | d << 12)


def store_conditional(d: int, s: int, a: int) -> bytes:
    """STREX   (A8.8.212)"""
    return words(0xE180_0F90 | a << 16 | d << 12 | s)


DMB_ISH: Final = 0xF57F_F05B
DMB_ISHST: Final = 0xF57F_F05A
ISB: Final = 0xF57F_F06F
YIELD: Final = 0xE320_F001


def setup(address: int) -> Setup:
    """Turn the MMU on with a flat table of sections at `address`."""
    table = b"".join(words(section * SECTION | NORMAL_SECTION) for section in range(SECTIONS))
    code = b"".join(
        (
            constant(0, 0),
            words(0xEE02_0F50),  # mcr p15, 0, r0, c2, c0, 2: TTBCR, TTBR0 for all addresses, short descriptors
            constant(0, address | WALK_ATTRIBUTES),
            words(0xEE02_0F10),  # mcr p15, 0, r0, c2, c0, 0: TTBR0
            constant(0, 0xFFFF_FFFF),
            words(0xEE03_0F10),  # mcr p15, 0, r0, c3, c0, 0: DACR, no permission is checked
            words(0xEE08_0F17),  # mcr p15, 0, r0, c8, c7, 0: TLBIALL
            words(ISB),
            words(0xEE11_0F10),  # mrc p15, 0, r0, c1, c0, 0: SCTLR
            constant(1, 0x1005),  # I, C and M
            words(0xE180_0001),  # orr r0, r0, r1
            words(0xEE01_0F10),  # mcr p15, 0, r0, c1, c0, 0
            words(ISB),
        )
    )
    return Setup(code, table)


GUEST: Final = LitmusGuest(
    models={"cortex-a15": ARMV7},
    board="virt",
    base=BASE,
    registers=REGISTERS,
    operations={
        "constant": constant,
        "load": load,
        "store": store,
        "add": add,
        "and": and_,
        "xor": xor,
        "add_immediate": add_immediate,
        "branch_if_zero": branch_if_zero,
        "branch_if_not_zero": branch_if_not_zero,
        "branch_if_less": branch_if_less,
        "jump": jump,
        "load_linked": load_linked,
        "store_conditional": store_conditional,
        "fence_mb": lambda: words(DMB_ISH),
        "fence_wmb": lambda: words(DMB_ISHST),
        "fence_isb": lambda: words(ISB),
        "pause": lambda: words(YIELD),
    },
    setup=setup,
)
"""ARMv7-A has no barrier for loads only, and no acquire and release accesses (those came with ARMv8)."""
