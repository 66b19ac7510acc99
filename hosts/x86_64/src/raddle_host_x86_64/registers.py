# SPDX-License-Identifier: Apache-2.0
"""Register numbers and names of x86-64, as the encodings count them (Intel SDM volume 2, table 3-1)."""

from typing import Final

from raddle.codegen.locations import RegisterClass

GENERAL: Final = RegisterClass("general", 16)
"""All values are kept in these, floats as bit patterns, but for fields of floats that are pinned."""
FLOATING: Final = RegisterClass("floating-point", 16)
"""The low 64 bits of xmm registers."""

RAX: Final = 0
RCX: Final = 1
RDX: Final = 2
RBX: Final = 3
RSP: Final = 4
RBP: Final = 5
RSI: Final = 6
RDI: Final = 7
R8: Final = 8
R9: Final = 9
R10: Final = 10
R11: Final = 11
R12: Final = 12
R13: Final = 13
R14: Final = 14
R15: Final = 15

XMM0: Final = 0
XMM1: Final = 1
XMM2: Final = 2
XMM3: Final = 3
XMM4: Final = 4
XMM5: Final = 5
XMM6: Final = 6
XMM7: Final = 7
XMM8: Final = 8
XMM9: Final = 9
XMM10: Final = 10
XMM11: Final = 11
XMM12: Final = 12
XMM13: Final = 13
XMM14: Final = 14
XMM15: Final = 15

# Byte registers 4 to 7 are the low bytes of rsp, rbp, rsi and rdi. Only `SETcc_h` can name ah, ch, dh and bh.
NAMES_8: Final = ("al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil", *(f"r{number}b" for number in range(8, 16)))
NAMES_16: Final = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di", *(f"r{number}w" for number in range(8, 16)))
NAMES_32: Final = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", *(f"r{number}d" for number in range(8, 16)))
NAMES_64: Final = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{number}" for number in range(8, 16)))
NAMES_XMM: Final = tuple(f"xmm{number}" for number in range(16))
