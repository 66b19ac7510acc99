# SPDX-License-Identifier: Apache-2.0
"""Load-exclusive, store-exclusive and swap. All of them need natural alignment (A3.2.1)."""

from __future__ import annotations

from raddle.ir.builder import Builder, Value
from raddle.ir.opcodes import Op
from raddle.ir.types import Align, MemOp, Type
from raddle.translate.decode import Fields
from raddle_target_arm.insns.common import joined, mem, pair, read, undefined, write, write_two
from raddle_target_arm.state import MODE_SWP


def _natural(f: Fields, size: int) -> MemOp:
    return mem(f, size, align=Align.NATURAL)


def _address(b: Builder, f: Fields) -> Value:
    """The base plus the offset, which only T32's LDREX and STREX have."""
    base = read(b, f, f.n)
    return base if isinstance(f.offset, int) else b.add(base, f.offset)


def LDREX(b: Builder, f: Fields) -> None:
    """LDREX<c> <Rt>, [<Rn>{, #<imm>}]   (A8.8.75)"""
    write(b, f, f.t, b.load_exclusive(_address(b, f), _natural(f, 4), f.mmu))


def LDREXB(b: Builder, f: Fields) -> None:
    """LDREXB<c> <Rt>, [<Rn>]   (A8.8.76)"""
    write(b, f, f.t, b.load_exclusive(read(b, f, f.n), _natural(f, 1), f.mmu))


def LDREXH(b: Builder, f: Fields) -> None:
    """LDREXH<c> <Rt>, [<Rn>]   (A8.8.78)"""
    write(b, f, f.t, b.load_exclusive(read(b, f, f.n), _natural(f, 2), f.mmu))


def LDREXD(b: Builder, f: Fields) -> None:
    """LDREXD<c> <Rt>, <Rt2>, [<Rn>]   (A8.8.77)"""
    first, second = pair(b, f, b.load_exclusive(read(b, f, f.n), _natural(f, 8), f.mmu, Type.I64))
    write_two(b, f, (f.t, first), (f.u, second))


def STREX(b: Builder, f: Fields) -> None:
    """STREX<c> <Rd>, <Rt>, [<Rn>{, #<imm>}]   (A8.8.212)"""
    write(b, f, f.d, b.store_exclusive(_address(b, f), read(b, f, f.t), _natural(f, 4), f.mmu))


def STREXB(b: Builder, f: Fields) -> None:
    """STREXB<c> <Rd>, <Rt>, [<Rn>]   (A8.8.213)"""
    write(b, f, f.d, b.store_exclusive(read(b, f, f.n), read(b, f, f.t), _natural(f, 1), f.mmu))


def STREXH(b: Builder, f: Fields) -> None:
    """STREXH<c> <Rd>, <Rt>, [<Rn>]   (A8.8.215)"""
    write(b, f, f.d, b.store_exclusive(read(b, f, f.n), read(b, f, f.t), _natural(f, 2), f.mmu))


def STREXD(b: Builder, f: Fields) -> None:
    """STREXD<c> <Rd>, <Rt>, <Rt2>, [<Rn>]   (A8.8.214)"""
    value = joined(b, f, read(b, f, f.t), read(b, f, f.u))
    write(b, f, f.d, b.store_exclusive(read(b, f, f.n), value, _natural(f, 8), f.mmu))


def CLREX(b: Builder, f: Fields) -> None:
    """CLREX<c>   (A8.8.32)"""
    b.clear_exclusive()


def _swap(b: Builder, f: Fields, size: int) -> None:
    """Undefined unless SCTLR.SW enables it. A fault of the read comes before one of the write, which DFSR.WnR shows."""
    if not f.mode & MODE_SWP:
        undefined(b, f)
        return
    b.load(read(b, f, f.n), _natural(f, size), f.mmu)
    write(b, f, f.t, b.atomic(Op.ATOMIC_XCHG, read(b, f, f.n), read(b, f, f.u), _natural(f, size), f.mmu))


def SWP(b: Builder, f: Fields) -> None:
    """SWP<c> <Rt>, <Rt2>, [<Rn>]   (A8.8.229)"""
    _swap(b, f, 4)


def SWPB(b: Builder, f: Fields) -> None:
    """SWPB<c> <Rt>, <Rt2>, [<Rn>]   (A8.8.229)"""
    _swap(b, f, 1)
