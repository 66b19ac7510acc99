# SPDX-License-Identifier: Apache-2.0
"""Loads and stores of VFP registers.

All of them need word alignment, whatever SCTLR.A says (A3.2.1). A double-precision register is one access of 64 bits,
and so are two neighbouring single-precision ones that share its bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

from raddle.ir.builder import Builder, Value
from raddle.ir.types import Align, Type
from raddle.translate.decode import Fields
from raddle_target_arm.insns import common
from raddle_target_arm.insns.common import PC, aligned_pc, mem
from raddle_target_arm.insns.vfp_common import bits, enabled
from raddle_target_arm.state import MODE_E, D, S

# -- one register ------------------------------------------------------------------------------------------------------


def _address(b: Builder, f: Fields) -> Value:
    if f.n == PC:
        return aligned_pc(b, f, f.offset)
    return b.add(common.read(b, f, f.n), f.offset)


@enabled
def VLDR(b: Builder, f: Fields) -> None:
    """VLDR<c> <d>, [<Rn>{, #±<imm>}]; VLDR<c> <d>, <label>   (A8.8.333)"""
    memop = mem(f, 8 if f.double else 4, align=Align.WORD)
    b.set(bits(f, f.d), b.load(_address(b, f), memop, f.mmu, Type.I64 if f.double else Type.I32))


@enabled
def VSTR(b: Builder, f: Fields) -> None:
    """VSTR<c> <d>, [<Rn>{, #±<imm>}]   (A8.8.413)"""
    memop = mem(f, 8 if f.double else 4, align=Align.WORD)
    b.store(_address(b, f), b.get(bits(f, f.d)), memop, f.mmu)


# -- several registers -------------------------------------------------------------------------------------------------


def _base(b: Builder, f: Fields) -> tuple[Value, Value]:
    """The lowest address, and the value to write back: the registers start at the base, or end below it."""
    if f.n == PC:
        base = aligned_pc(b, f, 0)
        return base, base
    base = common.read(b, f, f.n)
    if f.U:
        return base, b.add(base, f.bytes) if f.W else base
    start = b.sub(base, f.bytes)
    return start, start


def _accesses(f: Fields) -> Iterator[tuple[int, int, bool]]:
    """(offset, register, whether it is a double-precision one) of every access, in ascending order."""
    if f.double:
        yield from ((8 * n, f.d + n, True) for n in range(f.count))
        return
    number, end = f.d, f.d + f.count
    while number < end:
        two = number % 2 == 0 and number + 1 < end
        yield 4 * (number - f.d), number // 2 if two else number, two
        number += 2 if two else 1


def _order(b: Builder, f: Fields, value: Value) -> Value:
    """Convert a pair of single-precision registers to memory's order, or back: the first has the lower address."""
    return b.ror(value, 32) if f.mode & MODE_E and not f.double else value


@enabled
def VLDM(b: Builder, f: Fields) -> None:
    """VLDM{IA,DB}<c> <Rn>{!}, <list>; VPOP<c> <list>; FLDM{IA,DB}X   (A8.8.332, A8.8.367)"""
    start, after = _base(b, f)
    for offset, number, double in _accesses(f):
        address = b.add(start, offset) if offset else start
        if double:
            value = b.load(address, mem(f, 8, align=Align.WORD), f.mmu, Type.I64)
            b.set(D[number], _order(b, f, value))
        else:
            b.set(S[number], b.load(address, mem(f, 4, align=Align.WORD), f.mmu))
    if f.W:
        common.write(b, f, f.n, after)


@enabled
def VSTM(b: Builder, f: Fields) -> None:
    """VSTM{IA,DB}<c> <Rn>{!}, <list>; VPUSH<c> <list>; FSTM{IA,DB}X   (A8.8.412, A8.8.368)"""
    start, after = _base(b, f)
    for offset, number, double in _accesses(f):
        address = b.add(start, offset) if offset else start
        if double:
            b.store(address, _order(b, f, b.get(D[number])), mem(f, 8, align=Align.WORD), f.mmu)
        else:
            b.store(address, b.get(S[number]), mem(f, 4, align=Align.WORD), f.mmu)
    if f.W:
        common.write(b, f, f.n, after)
