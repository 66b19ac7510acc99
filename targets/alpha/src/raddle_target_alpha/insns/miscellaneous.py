# SPDX-License-Identifier: Apache-2.0
"""Barriers, hints, the cycle counter, and what tells CPUs apart (4.11)."""

from __future__ import annotations

from raddle.ir.builder import Builder, native
from raddle.ordering import MemoryOrder
from raddle.translate.decode import Fields
from raddle_target_alpha.exceptions import INSTRUCTION_BYTES
from raddle_target_alpha.insns.common import I64, operand
from raddle_target_alpha.state import INTR_FLAG, PCC_OFFSET, write


def MB(b: Builder, f: Fields) -> None:
    """All accesses before it come before all after it (4.11.4)."""
    b.mb(MemoryOrder.ALL)


def WMB(b: Builder, f: Fields) -> None:
    """Stores before it come before stores after it (4.11.12)."""
    b.mb(MemoryOrder.ST_ST)


def TRAPB(b: Builder, f: Fields) -> None:
    """Nothing: traps are precise, prefetches are hints. So are all of these."""


EXCB = FETCH = FETCH_M = ECB = WH64 = WH64EN = TRAPB


def RPCC(b: Builder, f: Fields) -> None:
    """Bits 31:0 count cycles, bits 63:32 are the process's offset of them (4.11.8).

    The block ends here: what follows is translated afterwards, so that who times something does not time that, too.
    """
    cycles = b.call(native("clock_ticks"), f.model.frequency, type=I64)
    write(b, f.a, b.or_(b.and_(cycles, 0xFFFF_FFFF), b.get(PCC_OFFSET)))
    b.goto(INSTRUCTION_BYTES)


def RC(b: Builder, f: Fields) -> None:
    """Ra = the interrupt flag, which is cleared (4.12.1)."""
    write(b, f.a, b.get(INTR_FLAG))
    b.set(INTR_FLAG, 0)


def RS(b: Builder, f: Fields) -> None:
    """Ra = the interrupt flag, which is set (4.12.2)."""
    write(b, f.a, b.get(INTR_FLAG))
    b.set(INTR_FLAG, 1)


def AMASK(b: Builder, f: Fields) -> None:
    """Clear the bits of the extensions that the CPU has (4.11.1)."""
    write(b, f.c, b.and_(operand(b, f), ~int(f.model.features)))


def IMPLVER(b: Builder, f: Fields) -> None:
    """The generation of the implementation (4.11.5)."""
    write(b, f.c, b.const(f.model.implementation, I64))
