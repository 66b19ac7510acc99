# SPDX-License-Identifier: Apache-2.0
"""Loads and stores of one register, or of two (LDRD, STRD).

One function does the offset, pre-indexed and post-indexed forms: P = 1 adds the offset before the access, W = 1 writes
the sum back. No register is written before the access, because it may fault.
"""

from __future__ import annotations

from raddle.ir.builder import Builder, Value
from raddle.ir.types import Align, MemOp, Type
from raddle.translate.decode import Fields
from raddle_target_arm.insns.common import (
    PC,
    aligned_pc,
    is_thumb,
    joined,
    load_write,
    mem,
    pair,
    read,
    shift,
    write,
    write_two,
)
from raddle_target_arm.state import user_mmu_index

# -- addresses ---------------------------------------------------------------------------------------------------------


def _immediate(b: Builder, f: Fields) -> tuple[Value, Value | None]:
    """The address, and what to write back to the base (None: nothing)."""
    if f.n == PC:
        return aligned_pc(b, f, f.offset), None
    base = read(b, f, f.n)
    total = b.add(base, f.offset)
    return total if f.P else base, total if f.W else None


def _register(b: Builder, f: Fields) -> tuple[Value, Value | None]:
    base = read(b, f, f.n)
    offset = shift(b, read(b, f, f.m), f.h, f.i)
    total = b.add(base, offset) if f.U else b.sub(base, offset)
    return total if f.P else base, total if f.W else None


def _literal(b: Builder, f: Fields) -> Value:
    """Align(PC, 4) + offset."""
    if is_thumb(f) and f.length == 2:
        # the offset is a multiple of 4, so aligning the sum aligns the pc
        return b.and_(b.pc(4, f.offset), ~3)
    return aligned_pc(b, f, f.offset)


Place = tuple[Value, Value | None]


def _write_back(b: Builder, f: Fields, total: Value | None) -> None:
    if total is not None:
        write(b, f, f.n, total)


# -- one register ------------------------------------------------------------------------------------------------------


def _load(b: Builder, f: Fields, place: Place, memop: MemOp, mmu_index: int) -> None:
    address, total = place
    value = b.load(address, memop, mmu_index)
    _write_back(b, f, total)
    load_write(b, f, f.t, value)


def _store(b: Builder, f: Fields, place: Place, memop: MemOp, mmu_index: int) -> None:
    address, total = place
    b.store(address, read(b, f, f.t), memop, mmu_index)
    _write_back(b, f, total)


def _user(f: Fields) -> int:
    """MMU index of the unprivileged accesses."""
    return user_mmu_index(f.mode)


def LDR_imm(b: Builder, f: Fields) -> None:
    """LDR<c> <Rt>, [<Rn>{, #±<imm>}]{!}; LDR<c> <Rt>, [<Rn>], #±<imm>   (A8.8.62, A8.8.63)"""
    _load(b, f, _immediate(b, f), mem(f, 4), f.mmu)


def LDR_reg(b: Builder, f: Fields) -> None:
    """LDR<c> <Rt>, [<Rn>, ±<Rm>{, <shift>}]{!}; LDR<c> <Rt>, [<Rn>], ±<Rm>{, <shift>}   (A8.8.65, A8.8.66)"""
    _load(b, f, _register(b, f), mem(f, 4), f.mmu)


def LDR_lit(b: Builder, f: Fields) -> None:
    """LDR<c> <Rt>, <label>   (A8.8.64)"""
    _load(b, f, (_literal(b, f), None), mem(f, 4), f.mmu)


def LDRB_imm(b: Builder, f: Fields) -> None:
    """LDRB<c> <Rt>, [<Rn>{, #±<imm>}]{!}; LDRB<c> <Rt>, [<Rn>], #±<imm>   (A8.8.67, A8.8.68)"""
    _load(b, f, _immediate(b, f), mem(f, 1), f.mmu)


def LDRB_reg(b: Builder, f: Fields) -> None:
    """LDRB<c> <Rt>, [<Rn>, ±<Rm>{, <shift>}]{!}; LDRB<c> <Rt>, [<Rn>], ±<Rm>{, <shift>}   (A8.8.70)"""
    _load(b, f, _register(b, f), mem(f, 1), f.mmu)


def LDRB_lit(b: Builder, f: Fields) -> None:
    """LDRB<c> <Rt>, <label>   (A8.8.69)"""
    _load(b, f, (_literal(b, f), None), mem(f, 1), f.mmu)


def LDRH_imm(b: Builder, f: Fields) -> None:
    """LDRH<c> <Rt>, [<Rn>{, #±<imm>}]{!}; LDRH<c> <Rt>, [<Rn>], #±<imm>   (A8.8.78, A8.8.79)"""
    _load(b, f, _immediate(b, f), mem(f, 2), f.mmu)


def LDRH_reg(b: Builder, f: Fields) -> None:
    """LDRH<c> <Rt>, [<Rn>, ±<Rm>{, <shift>}]{!}; LDRH<c> <Rt>, [<Rn>], ±<Rm>{, <shift>}   (A8.8.81)"""
    _load(b, f, _register(b, f), mem(f, 2), f.mmu)


def LDRH_lit(b: Builder, f: Fields) -> None:
    """LDRH<c> <Rt>, <label>   (A8.8.80)"""
    _load(b, f, (_literal(b, f), None), mem(f, 2), f.mmu)


def LDRSB_imm(b: Builder, f: Fields) -> None:
    """LDRSB<c> <Rt>, [<Rn>{, #±<imm>}]{!}; LDRSB<c> <Rt>, [<Rn>], #±<imm>   (A8.8.83)"""
    _load(b, f, _immediate(b, f), mem(f, 1, signed=True), f.mmu)


def LDRSB_reg(b: Builder, f: Fields) -> None:
    """LDRSB<c> <Rt>, [<Rn>, ±<Rm>{, <shift>}]{!}; LDRSB<c> <Rt>, [<Rn>], ±<Rm>{, <shift>}   (A8.8.85)"""
    _load(b, f, _register(b, f), mem(f, 1, signed=True), f.mmu)


def LDRSB_lit(b: Builder, f: Fields) -> None:
    """LDRSB<c> <Rt>, <label>   (A8.8.84)"""
    _load(b, f, (_literal(b, f), None), mem(f, 1, signed=True), f.mmu)


def LDRSH_imm(b: Builder, f: Fields) -> None:
    """LDRSH<c> <Rt>, [<Rn>{, #±<imm>}]{!}; LDRSH<c> <Rt>, [<Rn>], #±<imm>   (A8.8.87)"""
    _load(b, f, _immediate(b, f), mem(f, 2, signed=True), f.mmu)


def LDRSH_reg(b: Builder, f: Fields) -> None:
    """LDRSH<c> <Rt>, [<Rn>, ±<Rm>{, <shift>}]{!}; LDRSH<c> <Rt>, [<Rn>], ±<Rm>{, <shift>}   (A8.8.89)"""
    _load(b, f, _register(b, f), mem(f, 2, signed=True), f.mmu)


def LDRSH_lit(b: Builder, f: Fields) -> None:
    """LDRSH<c> <Rt>, <label>   (A8.8.88)"""
    _load(b, f, (_literal(b, f), None), mem(f, 2, signed=True), f.mmu)


def STR_imm(b: Builder, f: Fields) -> None:
    """STR<c> <Rt>, [<Rn>{, #±<imm>}]{!}; STR<c> <Rt>, [<Rn>], #±<imm>   (A8.8.203, A8.8.204)"""
    _store(b, f, _immediate(b, f), mem(f, 4), f.mmu)


def STR_reg(b: Builder, f: Fields) -> None:
    """STR<c> <Rt>, [<Rn>, ±<Rm>{, <shift>}]{!}; STR<c> <Rt>, [<Rn>], ±<Rm>{, <shift>}   (A8.8.205)"""
    _store(b, f, _register(b, f), mem(f, 4), f.mmu)


def STRB_imm(b: Builder, f: Fields) -> None:
    """STRB<c> <Rt>, [<Rn>{, #±<imm>}]{!}; STRB<c> <Rt>, [<Rn>], #±<imm>   (A8.8.206, A8.8.207)"""
    _store(b, f, _immediate(b, f), mem(f, 1), f.mmu)


def STRB_reg(b: Builder, f: Fields) -> None:
    """STRB<c> <Rt>, [<Rn>, ±<Rm>{, <shift>}]{!}; STRB<c> <Rt>, [<Rn>], ±<Rm>{, <shift>}   (A8.8.208)"""
    _store(b, f, _register(b, f), mem(f, 1), f.mmu)


def STRH_imm(b: Builder, f: Fields) -> None:
    """STRH<c> <Rt>, [<Rn>{, #±<imm>}]{!}; STRH<c> <Rt>, [<Rn>], #±<imm>   (A8.8.216, A8.8.217)"""
    _store(b, f, _immediate(b, f), mem(f, 2), f.mmu)


def STRH_reg(b: Builder, f: Fields) -> None:
    """STRH<c> <Rt>, [<Rn>, ±<Rm>{, <shift>}]{!}; STRH<c> <Rt>, [<Rn>], ±<Rm>{, <shift>}   (A8.8.218)"""
    _store(b, f, _register(b, f), mem(f, 2), f.mmu)


# -- as if unprivileged ------------------------------------------------------------------------------------------------


def LDRT_imm(b: Builder, f: Fields) -> None:
    """LDRT<c> <Rt>, [<Rn>{, #±<imm>}]; LDRT<c> <Rt>, [<Rn>], #±<imm>   (A8.8.92)"""
    _load(b, f, _immediate(b, f), mem(f, 4), _user(f))


def LDRT_reg(b: Builder, f: Fields) -> None:
    """LDRT<c> <Rt>, [<Rn>], ±<Rm>{, <shift>}   (A8.8.92)"""
    _load(b, f, _register(b, f), mem(f, 4), _user(f))


def LDRBT_imm(b: Builder, f: Fields) -> None:
    """LDRBT<c> <Rt>, [<Rn>{, #±<imm>}]; LDRBT<c> <Rt>, [<Rn>], #±<imm>   (A8.8.71)"""
    _load(b, f, _immediate(b, f), mem(f, 1), _user(f))


def LDRBT_reg(b: Builder, f: Fields) -> None:
    """LDRBT<c> <Rt>, [<Rn>], ±<Rm>{, <shift>}   (A8.8.71)"""
    _load(b, f, _register(b, f), mem(f, 1), _user(f))


def LDRHT_imm(b: Builder, f: Fields) -> None:
    """LDRHT<c> <Rt>, [<Rn>{, #±<imm>}]; LDRHT<c> <Rt>, [<Rn>], #±<imm>   (A8.8.82)"""
    _load(b, f, _immediate(b, f), mem(f, 2), _user(f))


def LDRHT_reg(b: Builder, f: Fields) -> None:
    """LDRHT<c> <Rt>, [<Rn>], ±<Rm>{, <shift>}   (A8.8.82)"""
    _load(b, f, _register(b, f), mem(f, 2), _user(f))


def LDRSBT_imm(b: Builder, f: Fields) -> None:
    """LDRSBT<c> <Rt>, [<Rn>{, #±<imm>}]; LDRSBT<c> <Rt>, [<Rn>], #±<imm>   (A8.8.86)"""
    _load(b, f, _immediate(b, f), mem(f, 1, signed=True), _user(f))


def LDRSBT_reg(b: Builder, f: Fields) -> None:
    """LDRSBT<c> <Rt>, [<Rn>], ±<Rm>{, <shift>}   (A8.8.86)"""
    _load(b, f, _register(b, f), mem(f, 1, signed=True), _user(f))


def LDRSHT_imm(b: Builder, f: Fields) -> None:
    """LDRSHT<c> <Rt>, [<Rn>{, #±<imm>}]; LDRSHT<c> <Rt>, [<Rn>], #±<imm>   (A8.8.90)"""
    _load(b, f, _immediate(b, f), mem(f, 2, signed=True), _user(f))


def LDRSHT_reg(b: Builder, f: Fields) -> None:
    """LDRSHT<c> <Rt>, [<Rn>], ±<Rm>{, <shift>}   (A8.8.90)"""
    _load(b, f, _register(b, f), mem(f, 2, signed=True), _user(f))


def STRT_imm(b: Builder, f: Fields) -> None:
    """STRT<c> <Rt>, [<Rn>{, #±<imm>}]; STRT<c> <Rt>, [<Rn>], #±<imm>   (A8.8.220)"""
    _store(b, f, _immediate(b, f), mem(f, 4), _user(f))


def STRT_reg(b: Builder, f: Fields) -> None:
    """STRT<c> <Rt>, [<Rn>], ±<Rm>{, <shift>}   (A8.8.220)"""
    _store(b, f, _register(b, f), mem(f, 4), _user(f))


def STRBT_imm(b: Builder, f: Fields) -> None:
    """STRBT<c> <Rt>, [<Rn>{, #±<imm>}]; STRBT<c> <Rt>, [<Rn>], #±<imm>   (A8.8.209)"""
    _store(b, f, _immediate(b, f), mem(f, 1), _user(f))


def STRBT_reg(b: Builder, f: Fields) -> None:
    """STRBT<c> <Rt>, [<Rn>], ±<Rm>{, <shift>}   (A8.8.209)"""
    _store(b, f, _register(b, f), mem(f, 1), _user(f))


def STRHT_imm(b: Builder, f: Fields) -> None:
    """STRHT<c> <Rt>, [<Rn>{, #±<imm>}]; STRHT<c> <Rt>, [<Rn>], #±<imm>   (A8.8.219)"""
    _store(b, f, _immediate(b, f), mem(f, 2), _user(f))


def STRHT_reg(b: Builder, f: Fields) -> None:
    """STRHT<c> <Rt>, [<Rn>], ±<Rm>{, <shift>}   (A8.8.219)"""
    _store(b, f, _register(b, f), mem(f, 2), _user(f))


# -- two registers -----------------------------------------------------------------------------------------------------

# One access of 64 bits: on this CPU, which has LPAE, it must be single-copy atomic where it is aligned (A3.5.3).


def _load_dual(b: Builder, f: Fields, place: Place) -> None:
    address, total = place
    first, second = pair(b, f, b.load(address, mem(f, 8, align=Align.WORD), f.mmu, Type.I64))
    _write_back(b, f, total)
    write_two(b, f, (f.t, first), (f.u, second))


def _store_dual(b: Builder, f: Fields, place: Place) -> None:
    address, total = place
    value = joined(b, f, read(b, f, f.t), read(b, f, f.u))
    b.store(address, value, mem(f, 8, align=Align.WORD), f.mmu)
    _write_back(b, f, total)


def LDRD_imm(b: Builder, f: Fields) -> None:
    """LDRD<c> <Rt>, <Rt2>, [<Rn>{, #±<imm>}]{!}; LDRD<c> <Rt>, <Rt2>, [<Rn>], #±<imm>   (A8.8.72)"""
    _load_dual(b, f, _immediate(b, f))


def LDRD_reg(b: Builder, f: Fields) -> None:
    """LDRD<c> <Rt>, <Rt2>, [<Rn>, ±<Rm>]{!}; LDRD<c> <Rt>, <Rt2>, [<Rn>], ±<Rm>   (A8.8.74)"""
    _load_dual(b, f, _register(b, f))


def LDRD_lit(b: Builder, f: Fields) -> None:
    """LDRD<c> <Rt>, <Rt2>, <label>   (A8.8.73)"""
    _load_dual(b, f, (_literal(b, f), None))


def STRD_imm(b: Builder, f: Fields) -> None:
    """STRD<c> <Rt>, <Rt2>, [<Rn>{, #±<imm>}]{!}; STRD<c> <Rt>, <Rt2>, [<Rn>], #±<imm>   (A8.8.210)"""
    _store_dual(b, f, _immediate(b, f))


def STRD_reg(b: Builder, f: Fields) -> None:
    """STRD<c> <Rt>, <Rt2>, [<Rn>, ±<Rm>]{!}; STRD<c> <Rt>, <Rt2>, [<Rn>], ±<Rm>   (A8.8.211)"""
    _store_dual(b, f, _register(b, f))
