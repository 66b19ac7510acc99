# SPDX-License-Identifier: Apache-2.0
"""Loads, stores and addresses of integer registers (4.2).

A load into R31 is a prefetch, and never faults. So is LDQ_U into R31, which is the no-operation of compilers (A.4.3).
"""

from __future__ import annotations

from typing import Final

from raddle.ir.builder import Builder, Value
from raddle.ir.types import Align, MemOp
from raddle.translate.decode import Fields
from raddle_target_alpha.insns.common import I32, I64, add
from raddle_target_alpha.state import ZERO, read, write

BYTE: Final = MemOp(1)
WORD: Final = MemOp(2, align=Align.NATURAL)
LONG: Final = MemOp(4, signed=True, align=Align.NATURAL)
LOCKED_LONG: Final = MemOp(4, align=Align.NATURAL)
QUAD: Final = MemOp(8, align=Align.NATURAL)


def address(b: Builder, f: Fields) -> Value:
    """Rbv + displacement."""
    return add(b, read(b, f.b), b.const(f.disp, I64))


def _load(b: Builder, f: Fields, memop: MemOp, unaligned: bool = False) -> None:
    if f.a != ZERO:
        place = address(b, f)
        write(b, f.a, b.load(b.and_(place, ~7) if unaligned else place, memop, f.mmu, I64))


def _store(b: Builder, f: Fields, memop: MemOp) -> None:
    b.store(address(b, f), read(b, f.a), memop, f.mmu)


def LDA(b: Builder, f: Fields) -> None:
    write(b, f.a, address(b, f))


LDAH = LDA


def LDBU(b: Builder, f: Fields) -> None:
    _load(b, f, BYTE)


def LDWU(b: Builder, f: Fields) -> None:
    _load(b, f, WORD)


def LDL(b: Builder, f: Fields) -> None:
    _load(b, f, LONG)


def LDQ(b: Builder, f: Fields) -> None:
    _load(b, f, QUAD)


def LDQ_U(b: Builder, f: Fields) -> None:
    """The aligned quadword that the address is in."""
    _load(b, f, QUAD, unaligned=True)


def STB(b: Builder, f: Fields) -> None:
    _store(b, f, BYTE)


def STW(b: Builder, f: Fields) -> None:
    _store(b, f, WORD)


def STL(b: Builder, f: Fields) -> None:
    _store(b, f, LONG)


def STQ(b: Builder, f: Fields) -> None:
    _store(b, f, QUAD)


def STQ_U(b: Builder, f: Fields) -> None:
    """To the aligned quadword that the address is in."""
    b.store(b.and_(address(b, f), ~7), read(b, f.a), QUAD, f.mmu)


def _store_conditional(b: Builder, f: Fields, value: Value, memop: MemOp) -> None:
    """Ra = whether the store took place; the lock flag is clear afterwards (4.2.5).

    Where address and size are not those of the load, the store may fail (4.2.4), and here it does.
    """
    failed = b.store_exclusive(address(b, f), value, memop, f.mmu)
    write(b, f.a, b.zext(b.xor(failed, 1), I64))


def LDL_L(b: Builder, f: Fields) -> None:
    """The sign is extended apart: hosts call the runtime for exclusive loads that do it."""
    write(b, f.a, b.sext(b.load_exclusive(address(b, f), LOCKED_LONG, f.mmu, I32)))


def LDQ_L(b: Builder, f: Fields) -> None:
    write(b, f.a, b.load_exclusive(address(b, f), QUAD, f.mmu, I64))


def STL_C(b: Builder, f: Fields) -> None:
    _store_conditional(b, f, b.trunc(read(b, f.a), I32), LONG)


def STQ_C(b: Builder, f: Fields) -> None:
    _store_conditional(b, f, read(b, f.a), QUAD)
