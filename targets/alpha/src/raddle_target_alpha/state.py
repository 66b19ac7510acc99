# SPDX-License-Identifier: Apache-2.0
"""The Alpha CPU state that programs see, and the block mode.

What only PALcode and the operating system reach is in ``system_state``. The pc is no field: inside a block it is
symbolic (``b.pc()``), outside it is ``COMMON["pc"]``. The lock flag and the locked address (Architecture Reference
Manual, 4.2.4) are the common fields ``exclusive_…``: the IR's exclusive operations use them, and
``b.clear_exclusive()`` clears the flag.
"""

from __future__ import annotations

from typing import Final

from raddle.ir.builder import Builder, Value
from raddle.ir.header import COMMON
from raddle.ir.types import Field, StateLayout, Type

STATE: Final = StateLayout()

# -- registers ---------------------------------------------------------------------------------------------------------

_HOTTEST: Final = (1, 2, 3, 0, 4, 5, 16, 30, 17, 6, 18, 7, 8, 9, 29, 26, 22, 10, 11, 27)
"""In the order in which compiled code uses them, loops above all: t0 … t2, v0, t3, t4, a0, sp, a1, t5, a2, …"""
_RANKS: Final = {number: rank for rank, number in enumerate(_HOTTEST)}

ZERO: Final = 31
"""The register, integer or floating-point, that reads as 0 and that writes leave so."""

R: Final[tuple[Field, ...]] = tuple(
    STATE.field(f"r{number}", Type.I64, hot=_RANKS.get(number, -1)) for number in range(ZERO)
)
"""r0 … r30. There is no field for R31."""

_HOTTEST_FLOATS: Final = (10, 11, 12, 13, 22, 23, 14, 15, 24, 25, 16, 0, 1, 17, 26, 27, 18, 28, 29, 30)
"""Temporaries first, and arguments and results."""

_FLOAT_RANKS: Final = {number: rank for rank, number in enumerate(_HOTTEST_FLOATS, len(_HOTTEST))}

F: Final[tuple[Field, ...]] = tuple(
    STATE.field(f"f{number}", Type.F64, hot=_FLOAT_RANKS.get(number, -1)) for number in range(ZERO)
)
"""f0 … f30 in register format (4.7.1), which is that of T numbers. There is no field for F31."""

FIRST_FLOAT: Final = 32
"""What is added to the number of a floating-point register, in `REGISTERS` and in operands."""
REGISTERS: Final[tuple[Field | None, ...]] = (*R, None, *F, None)
"""By number: R0 … R31, and from `FIRST_FLOAT` on F0 … F31."""

FPCR_REST: Final = STATE.field("fpcr_rest", Type.I64)
"""The floating-point control register (4.7.8), but for what is in the common field ``fp_flags``: see ``fpcr``."""
DYNAMIC: Final = STATE.field("dynamic_rounding", Type.I32)
"""The rounding mode of /D that FPCR asks for, as the common field ``fp_rounding`` has it. That field itself is 0 but
within an instruction."""

INTR_FLAG: Final = STATE.field("intr_flag", Type.I64)
"""What RC and RS read and write (4.11.7): 0 or 1. A return from an exception clears it."""

UNIQUE: Final = STATE.field("unique", Type.I64)
"""The process's unique value, the thread pointer: CALL_PAL RDUNIQUE and WRUNIQUE."""

PCC_OFFSET: Final = STATE.field("pcc_offset", Type.I64)
"""The process's offset of the cycle counter, in bits 63:32; the rest is 0 (4.11.8)."""

PS: Final = STATE.field("ps", Type.I32)
"""The processor status of OSF/1: bits 2:0 the interrupt priority level, bit 3 user mode. Call ``update_mode`` after a
write of the mode."""
PS_IPL: Final = 7
PS_USER: Final = 1 << 3

FEN: Final = STATE.field("fen", Type.I32)
"""1 when floating-point instructions are enabled. Call ``update_mode`` after a write."""

# -- block mode --------------------------------------------------------------------------------------------------------

USER_INDEX: Final = STATE.field("user_index", Type.I32)
"""The MMU index of user mode, one of `USER_INDICES`: that of the current address space (``mmu``). Call ``update_mode``
after a write."""

MODE_INDEX: Final = 3
"""Bits 1:0: the MMU index of all accesses of this mode."""
INDEX_KERNEL: Final = 0
USER_INDICES: Final = (1, 2, 3)
MODE_FEN: Final = 1 << 2
"""Floating-point instructions are enabled."""

MODE_CARE: Final = 1 << 3
"""FPCR has it that instructions with /S do more than IEEE arithmetic without traps: see ``fpcr``."""

MODE_MASKS: Final = (MODE_INDEX, 0)
"""What integer instructions depend on: those that access memory, and all others."""


def mmu_index(mode: int) -> int:
    """MMU index of accesses in this block mode."""
    return mode & MODE_INDEX


def is_user(mode: int) -> bool:
    """Whether this block mode is user mode."""
    return mode & MODE_INDEX != INDEX_KERNEL


def update_mode(b: Builder) -> None:
    """Emit IR that brings the block mode up to date with its parts in the state; the block must end after it."""
    user = b.bit(b.get(PS), PS_USER.bit_length() - 1)
    index = b.select(user, b.get(USER_INDEX), INDEX_KERNEL)
    enabled = b.shl(b.get(FEN), MODE_FEN.bit_length() - 1)
    care = b.and_(b.get(COMMON["mode"]), MODE_CARE)
    b.set(COMMON["mode"], b.or_(b.or_(index, enabled), care))


def read(b: Builder, number: int) -> Value:
    """Emit IR that reads ``REGISTERS[number]``, I64."""
    field = REGISTERS[number]
    if field is None:
        return b.const(0, Type.I64)
    return b.get(field) if field.type is Type.I64 else b.bitcast(b.get(field), Type.I64)


def read_float(b: Builder, number: int) -> Value:
    """Emit IR that reads a floating-point register, F64."""
    field = REGISTERS[number]
    return b.const(0, Type.F64) if field is None else b.get(field)


def write(b: Builder, number: int, value: Value) -> None:
    """Emit IR that writes ``REGISTERS[number]``; a floating-point register with an I64 or an F64."""
    field = REGISTERS[number]
    if field is not None:
        b.set(field, value if value.type is field.type else b.bitcast(value, field.type))
