# SPDX-License-Identifier: Apache-2.0
"""Operands that the decode tables compute from fields. A table may name any function of this module.

Arguments are the unsigned values of the fields. Predicates return 0 for words that are undefined, or unpredictable and
undefined here.
"""

from __future__ import annotations

from raddle.translate.pattern import Function, Linear

__all__ = ["FUNCTIONS"]

CARRY_UNCHANGED = 2
"""The value of `carry` if the shifter leaves the C flag as it is."""


def _signed(value: int, width: int) -> int:
    return value - ((value >> width - 1) << width)


# Plain numbers


def value(field: int) -> int:
    return field


def successor(field: int) -> int:
    return field + 1


def negative(field: int) -> int:
    return -field


def half(field: int) -> int:
    return field >> 1


def times2(field: int) -> int:
    return field << 1


def times4(field: int) -> int:
    return field << 2


def times8(field: int) -> int:
    return field << 3


def offset(add: int, size: int) -> int:
    """A byte offset that bit U adds or subtracts."""
    return size if add else -size


def offset4(add: int, words: int) -> int:
    """An offset in words that bit U adds or subtracts."""
    return words << 2 if add else -(words << 2)


# Immediates


def a32_imm(rotation: int, imm8: int) -> int:
    """ARMExpandImm (A5.2.4)."""
    turn = rotation << 1
    return (imm8 >> turn | imm8 << 32 - turn) & 0xFFFFFFFF


def a32_imm_carry(rotation: int, imm8: int) -> int:
    """The carry out of ARMExpandImm_C (A5.2.4): bit 31 of the value, or CARRY_UNCHANGED."""
    return a32_imm(rotation, imm8) >> 31 if rotation else CARRY_UNCHANGED


def t32_imm(imm12: int) -> int:
    """ThumbExpandImm (A6.3.2)."""
    imm8 = imm12 & 0xFF
    if imm12 >> 10:
        turn = imm12 >> 7
        rotated = 0x80 | imm12 & 0x7F
        return (rotated >> turn | rotated << 32 - turn) & 0xFFFFFFFF
    return imm8 * (1, 0x00010001, 0x01000100, 0x01010101)[imm12 >> 8]


def t32_imm_carry(imm12: int) -> int:
    """The carry out of ThumbExpandImm_C (A6.3.2): bit 31 of a rotated value, else CARRY_UNCHANGED."""
    return t32_imm(imm12) >> 31 if imm12 >> 10 else CARRY_UNCHANGED


def t32_imm16(imm4: int, imm12: int) -> int:
    """The 16-bit immediate of MOVW and MOVT (A8.8.102, A8.8.106)."""
    return imm4 << 12 | imm12


def vfp_imm32(imm8: int) -> int:
    """VFPExpandImm for single precision (A7.5.1): the bits of the number."""
    exponent = 0x7C if imm8 & 0x40 else 0x80
    return (imm8 >> 7) << 31 | (exponent | imm8 >> 4 & 3) << 23 | (imm8 & 0xF) << 19


def vfp_imm64(imm8: int) -> int:
    """VFPExpandImm for double precision (A7.5.1): the bits of the number."""
    exponent = 0x3FC if imm8 & 0x40 else 0x400
    return (imm8 >> 7) << 63 | (exponent | imm8 >> 4 & 3) << 52 | (imm8 & 0xF) << 48


# Branches: byte offsets from the pc, which is 8 (A32) or 4 (T32) bytes after the branch


def a32_branch(imm24: int) -> int:
    """B, BL (A8.8.18, A8.8.25)."""
    return _signed(imm24, 24) << 2


def a32_branch_exchange(imm24: int, halfword: int) -> int:
    """BLX (immediate) to T32 code (A8.8.25)."""
    return _signed(imm24, 24) << 2 | halfword << 1


def branch8(imm8: int) -> int:
    """B, encoding T1 (A8.8.18)."""
    return _signed(imm8, 8) << 1


def branch11(imm11: int) -> int:
    """B, encoding T2 (A8.8.18)."""
    return _signed(imm11, 11) << 1


def t32_branch20(sign: int, imm6: int, j1: int, j2: int, imm11: int) -> int:
    """B, encoding T3 (A8.8.18)."""
    return -sign << 20 | j2 << 19 | j1 << 18 | imm6 << 12 | imm11 << 1


def t32_branch24(sign: int, imm10: int, j1: int, j2: int, imm11: int) -> int:
    """B, encoding T4, and BL, encoding T1 (A8.8.18, A8.8.25)."""
    i1 = j1 ^ sign ^ 1
    i2 = j2 ^ sign ^ 1
    return -sign << 24 | i1 << 23 | i2 << 22 | imm10 << 12 | imm11 << 1


def t32_branch_exchange(sign: int, imm10h: int, j1: int, j2: int, imm10l: int) -> int:
    """BLX (immediate) to A32 code, from Align(pc, 4) (A8.8.25)."""
    return t32_branch24(sign, imm10h, j1, j2, imm10l << 1)


# Bit fields


def field_width(lsb: int, msb: int) -> int:
    """The width of the field of BFC and BFI."""
    return msb - lsb + 1


def not_below(msb: int, lsb: int) -> int:
    return int(msb >= lsb)


def field_fits(lsb: int, width_minus_1: int) -> int:
    return int(lsb + width_minus_1 <= 31)


# Registers and register lists


def even(register: int) -> int:
    return int(not register & 1)


def exclusive_pair(register: int) -> int:
    """LDREXD and STREXD in A32: an even register that is not the link register."""
    return int(not register & 1 and register != 14)


def different(one: int, other: int) -> int:
    return int(one != other)


def differs(status: int, base: int, data: int) -> int:
    """The status register of a store-exclusive is neither its base nor its data."""
    return int(status not in (base, data))


def differs_pair(status: int, base: int, data: int) -> int:
    """The same with two data registers."""
    return int(status not in (base, data, data + 1))


def base(write_back: int, register: int) -> int:
    """A base that is written back is not the pc."""
    return int(not (write_back and register == 15))


def base_kept(write_back: int, register: int, registers: int) -> int:
    """A load-multiple does not write back a base that it loads."""
    return int(not (write_back and registers >> register & 1))


def banked_mode(mode: int) -> int:
    """A mode whose stack pointer SRS may use: User, FIQ, IRQ, Supervisor, Abort, Undefined, System."""
    return int(mode in (0x10, 0x11, 0x12, 0x13, 0x17, 0x1B, 0x1F))


def push_list(link: int, low: int) -> int:
    return link << 14 | low


def pop_list(pc: int, low: int) -> int:
    return pc << 15 | low


def some_list(one: int, low: int) -> int:
    """A register list is not empty."""
    return int(one << 8 | low != 0)


def not_listed(register: int, registers: int) -> int:
    """Write-back of the 16-bit LDM (A8.8.57)."""
    return ~registers >> register & 1


def t32_stm(write_back: int, register: int, registers: int) -> int:
    """A 32-bit Thumb store stores two registers or more, not the sp, not the pc, and not a base that it writes back."""
    return int(registers.bit_count() >= 2 and not registers & 0xA000 and not (write_back and registers >> register & 1))


def t32_ldm(write_back: int, register: int, registers: int) -> int:
    """A 32-bit Thumb load loads two registers or more, not the sp, not both lr and pc, and not a written-back base."""
    return int(
        registers.bit_count() >= 2
        and not registers & 0x2000
        and registers & 0xC000 != 0xC000
        and not (write_back and registers >> register & 1)
    )


# Extension registers


def single(four: int, one: int) -> int:
    """The number of a single-precision register (A7.3): Vx:x."""
    return four << 1 | one


def double(four: int, one: int) -> int:
    """The number of a double-precision register (A7.3): x:Vx."""
    return one << 4 | four


def single_list(four: int, one: int, count: int) -> int:
    return int(0 < count <= 32 - single(four, one))


def double_list(four: int, one: int, words: int) -> int:
    return int(0 < words >> 1 <= min(16, 32 - double(four, one)))


def pair_fits(four: int, one: int) -> int:
    """VMOV with two single-precision registers: the second one exists."""
    return int(single(four, one) != 31)


def load_pair(to_core: int, first: int, second: int) -> int:
    """VMOV to two core registers: they differ."""
    return int(not (to_core and first == second))


def vmsr_register(register: int) -> int:
    """FPSID, FPSCR or FPEXC (B1.11.3)."""
    return int(register in (0, 1, 8))


def vmrs_register(register: int, target: int) -> int:
    """FPSID, FPSCR, MVFR1, MVFR0 or FPEXC; only the FPSCR can go to the flags (target 15)."""
    return int(register == 1 or (register in (0, 6, 7, 8) and target != 15))


def fraction16(four: int, one: int) -> int:
    """Fraction bits of a 16-bit fixed-point number (A8.8.308)."""
    return 16 - (four << 1 | one)


def fraction32(four: int, one: int) -> int:
    """Fraction bits of a 32-bit fixed-point number (A8.8.308)."""
    return 32 - (four << 1 | one)


def fraction_fits(four: int, one: int) -> int:
    return int(fraction16(four, one) >= 0)


_LINEAR_THROUGHOUT: tuple[Function, ...] = (
    value, successor, negative, half, times2, times4, times8, t32_imm16, a32_branch, a32_branch_exchange,
    branch8, branch11, t32_branch20, push_list, pop_list,
)  # fmt: skip
_LINEAR: tuple[Linear, ...] = (
    *[Linear(function) for function in _LINEAR_THROUGHOUT],
    Linear(offset, add=1),
    Linear(offset4, add=1),
    Linear(a32_imm, rotation=0xF),
    Linear(t32_imm, imm12=0xF80),
    Linear(t32_branch24, sign=1),
    Linear(t32_branch_exchange, sign=1),
)
_OTHERS: tuple[Function, ...] = (
    a32_imm_carry, t32_imm_carry, vfp_imm32, vfp_imm64, field_width, not_below, field_fits,
    even, exclusive_pair, different, differs, differs_pair, base, base_kept, banked_mode,
    some_list, not_listed, t32_stm, t32_ldm,
    single, double, single_list, double_list, pair_fits, load_pair,
    vmsr_register, vmrs_register, fraction16, fraction32, fraction_fits,
)  # fmt: skip

FUNCTIONS: dict[str, Function | Linear] = {
    **{linear.function.__name__: linear for linear in _LINEAR},
    **{function.__name__: function for function in _OTHERS},
}
"""What the tables may call, by name."""
