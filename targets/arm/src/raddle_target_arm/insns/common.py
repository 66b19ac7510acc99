# SPDX-License-Identifier: Apache-2.0
"""What all semantics functions share: registers, the shifter, and writes to the pc.

A semantics function is called as ``NAME(b, f)``. Attributes of ``f`` are the operands that the decode tables list
(``decode/a32.dec``), and these:

    mode      the block mode (``state.MODE_…``)
    mmu       MMU index of ordinary accesses
    length    bytes of the instruction, 2 or 4
    it        ITSTATE of the instruction, 0 outside IT blocks
    next_it   ITSTATE of the instruction after it

These functions ignore the condition: ``InstructionSet.translate`` wraps the whole instruction in it. A write to the pc
ends the block, so it is the last thing that a function emits.
"""

from __future__ import annotations

from typing import Final

from raddle.ir.builder import Builder, Operand, Value
from raddle.ir.header import COMMON
from raddle.ir.types import Align, Condition, Hole, MemOp, Type
from raddle.translate.decode import Fields
from raddle_target_arm.exceptions import take_undefined
from raddle_target_arm.state import (
    CF,
    MODE_ALIGN,
    MODE_E,
    MODE_IT,
    MODE_IT_SHIFT,
    MODE_PRIVILEGED,
    MODE_T,
    QF,
    REGISTERS,
)

SP, LR, PC = 13, 14, 15

LSL, LSR, ASR, ROR = range(4)
"""Shift types, as field t encodes them."""

CARRY_UNCHANGED: Final = 2
"""The operand ``carry`` of an immediate that leaves the C flag as it is."""

# -- registers ---------------------------------------------------------------------------------------------------------


def is_thumb(f: Fields) -> bool:
    return bool(f.mode & MODE_T)


def is_privileged(f: Fields) -> bool:
    return bool(f.mode & MODE_PRIVILEGED)


def pc_ahead(f: Fields) -> int:
    """How far ahead of the instruction the pc reads: 8 in A32, 4 in T32 (A2.3.1)."""
    return 4 if f.mode & MODE_T else 8


def read(b: Builder, f: Fields, number: int) -> Value:
    """R[number]."""
    if number == PC:
        return b.pc(pc_ahead(f))
    return b.get(REGISTERS[number])


def write(b: Builder, f: Fields, number: int, value: Operand) -> None:
    """R[number] = value, by an ALU operation: ALUWritePC for the pc (A2.3.1), which ends the block."""
    if number != PC:
        b.set(REGISTERS[number], value)
    elif is_thumb(f):
        b.goto_indirect(b.and_(value, ~1))
    else:
        bx_write_pc(b, f, b.value(value, Type.I32))


def write_two(b: Builder, f: Fields, *results: tuple[int, Value]) -> None:
    """Write two registers. If one is the pc, that is UNPREDICTABLE, and undefined here."""
    if any(number == PC for number, _ in results):
        undefined(b, f)
        return
    for number, value in results:
        b.set(REGISTERS[number], value)


def load_write(b: Builder, f: Fields, number: int, value: Value) -> None:
    """R[number] = value, by a load: LoadWritePC for the pc (A2.3.1), which ends the block."""
    if number == PC:
        bx_write_pc(b, f, value)
    else:
        b.set(REGISTERS[number], value)


def bx_write_pc(b: Builder, f: Fields, address: Value) -> None:
    """BXWritePC (A2.3.1): bit 0 of the address selects T32. Ends the block.

    A32 addresses with bit 1 set are UNPREDICTABLE; the bit is ignored.
    """
    thumb = b.and_(address, 1)
    # All of the block mode but T is known here. MODE_T is bit 0.
    b.set(COMMON["mode"], b.or_(thumb, f.mode & ~(MODE_T | MODE_IT)))
    b.goto_indirect(b.and_(address, b.or_(b.add(thumb, thumb), ~3)))


def aligned_pc(b: Builder, f: Fields, offset: Hole | int) -> Value:
    """Align(PC, 4) + offset."""
    if not is_thumb(f):
        return b.pc(8 + offset) if isinstance(offset, int) else b.pc(8, offset)
    return b.add(b.and_(b.pc(4), ~3), offset)


def undefined(b: Builder, f: Fields) -> None:
    """Emit the Undefined Instruction exception; ends the block."""
    take_undefined(b, f.it, f.mode)


def set_next(b: Builder, f: Fields) -> None:
    """Set pc and block mode to those of the next instruction, before an exit or a call that may leave the block."""
    b.set(COMMON["pc"], b.zext(b.pc(f.length), Type.I64))
    if f.next_it:
        b.set(COMMON["mode"], f.mode & ~MODE_IT | f.next_it << MODE_IT_SHIFT)


# -- the shifter -------------------------------------------------------------------------------------------------------


def shift(b: Builder, value: Value, kind: int, amount: int) -> Value:
    """Shift by a constant as encoded: LSR and ASR by 0 mean 32, ROR by 0 is RRX (A8.4.3)."""
    if kind == LSL:
        return b.shl(value, amount) if amount else value
    if kind == LSR:
        return b.shr(value, amount) if amount else b.const(0, Type.I32)
    if kind == ASR:
        return b.sar(value, amount or 31)
    if amount:
        return b.ror(value, amount)
    return b.or_(b.shr(value, 1), b.shl(b.zext(b.get(CF), Type.I32), 31))


def shift_c(b: Builder, value: Value, kind: int, amount: int) -> tuple[Value, Value | None]:
    """The same with the carry out as I1; None when the C flag stays as it is."""
    if kind == LSL:
        return (b.shl(value, amount), b.bit(value, 32 - amount)) if amount else (value, None)
    # ROR by 0, that is RRX, shifts out bit 0; LSR and ASR by 0, that is 32, shift out bit 31.
    out = amount - 1 if amount else 0 if kind == ROR else 31
    return shift(b, value, kind, amount), b.bit(value, out)


def shift_by(b: Builder, value: Value, kind: int, amount: Value) -> Value:
    """Shift by the low byte of a register (A8.4.3)."""
    if kind == ROR:
        return b.ror(value, amount)
    n = b.and_(amount, 0xFF)
    return _shift_by_byte(b, value, kind, n, b.icmp(Condition.ULT, n, 32))


def _shift_by_byte(b: Builder, value: Value, kind: int, n: Value, small: Value) -> Value:
    if kind == ASR:
        return b.sar(value, b.select(small, n, 31))
    return b.select(small, b.shl(value, n) if kind == LSL else b.shr(value, n), 0)


def shift_by_c(b: Builder, value: Value, kind: int, amount: Value) -> tuple[Value, Value]:
    """The same with the carry out as I1: the C flag itself when the amount is 0."""
    n = b.and_(amount, 0xFF)
    if kind == ROR:
        result = b.ror(value, n)
        carry = b.bit(result, 31)
    else:
        small = b.icmp(Condition.ULT, n, 32)
        result = _shift_by_byte(b, value, kind, n, small)
        if kind == ASR:
            carry = b.bit(value, b.sub(b.select(small, n, 32), 1))
        else:
            last = b.bit(value, b.neg(n) if kind == LSL else b.sub(n, 1))
            carry = b.and_(last, b.icmp(Condition.ULE, n, 32))
    return result, b.select(b.eq(n, 0), b.get(CF), carry)


def operand(b: Builder, f: Fields) -> Value:
    """The shifted register operand of ``…_reg``."""
    return shift(b, read(b, f, f.m), f.t, f.i)


def operand_c(b: Builder, f: Fields) -> tuple[Value, Value | None]:
    """The same with the carry out."""
    return shift_c(b, read(b, f, f.m), f.t, f.i)


# -- flags -------------------------------------------------------------------------------------------------------------


def set_q(b: Builder, saturated: Value) -> None:
    """Set the sticky Q flag if ``saturated`` (I1)."""
    b.set(QF, b.or_(b.get(QF), saturated))


# -- memory ------------------------------------------------------------------------------------------------------------


def mem(f: Fields, size: int, signed: bool = False, align: Align = Align.NONE) -> MemOp:
    """The MemOp of a data access in this block mode.

    ``align`` is what the instruction needs whatever SCTLR.A says; if that is nothing, SCTLR.A decides (A3.2.1).
    """
    if align is Align.NONE and f.mode & MODE_ALIGN and size > 1:
        align = Align.NATURAL
    return MemOp(size, signed, bool(f.mode & MODE_E), align)


def pair(b: Builder, f: Fields, value: Value) -> tuple[Value, Value]:
    """The words at the lower and the higher address of an I64 that was loaded from memory."""
    low, high = b.trunc(value, Type.I32), b.trunc(b.shr(value, 32), Type.I32)
    return (high, low) if f.mode & MODE_E else (low, high)


def joined(b: Builder, f: Fields, first: Value, second: Value) -> Value:
    """The I64 to store for two words, the first one at the lower address."""
    low, high = (second, first) if f.mode & MODE_E else (first, second)
    return wide(b, high, low)


def wide(b: Builder, high: Value, low: Value) -> Value:
    """high:low as I64."""
    return b.or_(b.shl(b.zext(high, Type.I64), 32), b.zext(low, Type.I64))
