# SPDX-License-Identifier: Apache-2.0
"""Branches, and If-Then."""

from __future__ import annotations

from raddle.ir.builder import Builder, Value
from raddle.ir.header import COMMON
from raddle.ir.types import Type
from raddle.translate.decode import Fields
from raddle_target_arm.insns.common import LR, bx_write_pc, is_thumb, mem, pc_ahead, read
from raddle_target_arm.state import MODE_IT, MODE_T, REGISTERS


def _link(b: Builder, f: Fields) -> None:
    """LR = the return address, whose bit 0 says that it is T32 code."""
    b.set(REGISTERS[LR], b.pc(f.length + is_thumb(f)))


def B(b: Builder, f: Fields) -> None:
    """B<c> <label>   (A8.8.18)"""
    b.goto(pc_ahead(f), f.offset)


def BL(b: Builder, f: Fields) -> None:
    """BL<c> <label>   (A8.8.25)"""
    _link(b, f)
    b.goto(pc_ahead(f), f.offset)


def BLX_imm(b: Builder, f: Fields) -> None:
    """BLX<c> <label>, to the other instruction set   (A8.8.25)"""
    _link(b, f)
    b.set(COMMON["mode"], (f.mode ^ MODE_T) & ~MODE_IT)
    target = b.pc(pc_ahead(f), f.offset)
    # the offset to A32 code is a multiple of 4, so aligning the sum aligns the pc
    b.goto_indirect(b.and_(target, ~3) if is_thumb(f) else target)


def BLX_reg(b: Builder, f: Fields) -> None:
    """BLX<c> <Rm>   (A8.8.26)"""
    target = read(b, f, f.m)
    _link(b, f)
    bx_write_pc(b, f, target)


def BX(b: Builder, f: Fields) -> None:
    """BX<c> <Rm>   (A8.8.27)"""
    bx_write_pc(b, f, read(b, f, f.m))


def BXJ(b: Builder, f: Fields) -> None:
    """BXJ<c> <Rm>: as BX, with a trivial Jazelle   (A8.8.28)"""
    bx_write_pc(b, f, read(b, f, f.m))


def CBZ(b: Builder, f: Fields) -> None:
    """CBZ <Rn>, <label>   (A8.8.29)"""
    with b.if_(b.eq(read(b, f, f.n), 0)):
        b.goto(pc_ahead(f), f.offset)


def CBNZ(b: Builder, f: Fields) -> None:
    """CBNZ <Rn>, <label>   (A8.8.29)"""
    with b.if_(b.ne(read(b, f, f.n), 0)):
        b.goto(pc_ahead(f), f.offset)


def TBB(b: Builder, f: Fields) -> None:
    """TBB<c> [<Rn>, <Rm>]   (A8.8.236)"""
    address = b.add(read(b, f, f.n), read(b, f, f.m))
    _table_branch(b, b.load(address, mem(f, 1), f.mmu))


def TBH(b: Builder, f: Fields) -> None:
    """TBH<c> [<Rn>, <Rm>, LSL #1]   (A8.8.236)"""
    address = b.add(read(b, f, f.n), b.shl(read(b, f, f.m), 1))
    _table_branch(b, b.load(address, mem(f, 2), f.mmu))


def _table_branch(b: Builder, halfwords: Value) -> None:
    b.goto_indirect(b.add(b.pc(4), b.shl(halfwords, 1, Type.I32)))


def IT(b: Builder, f: Fields) -> None:
    """IT{x{y{z}}} <firstcond>: only the ITSTATE of what follows changes, in ``T32.translate``   (A8.8.54)"""
