# SPDX-License-Identifier: Apache-2.0
"""Processes: their control blocks, and the switch from one to another (Alpha Architecture Reference Manual, II-B 4)."""

from __future__ import annotations

from functools import partial
from typing import Final

from raddle.ir.builder import Builder, Value, native, routine
from raddle.ir.header import COMMON
from raddle.ir.types import Type
from raddle.translate.frontend import RoutineBuilder
from raddle_target_alpha.state import FEN, PCC_OFFSET, UNIQUE, R, update_mode
from raddle_target_alpha.system_state import ASN, KSP, PCBB, PTBR, USP

V0, SP = R[0], R[30]

# Offsets in a process control block
PCB_KSP, PCB_USP, PCB_PTBR, PCB_PCC, PCB_ASN, PCB_UNIQUE, PCB_FLAGS = 0, 8, 16, 24, 28, 32, 40
PCB_BYTES: Final = 128
FLAG_FEN: Final = 1


def _cycles(b: Builder, frequency: int) -> Value:
    return b.call(native("clock_ticks"), b.const(frequency, Type.I64), type=Type.I64)


def _swap_context(b: Builder, frequency: int) -> None:
    """Routine(new): SWPCTX, from kernel mode."""
    new, old = b.get(COMMON["arg0"]), b.get(PCBB)
    cycles = b.add(b.shr(b.get(PCC_OFFSET), 32), _cycles(b, frequency))
    b.call(native("phys_store64"), b.add(old, PCB_KSP), b.get(SP))
    b.call(native("phys_store64"), b.add(old, PCB_USP), b.get(USP))
    b.call(native("phys_store32"), b.add(old, PCB_PCC), b.and_(cycles, 0xFFFF_FFFF))
    b.call(native("phys_store64"), b.add(old, PCB_UNIQUE), b.get(UNIQUE))
    b.call(routine("load_context"), new)
    b.set(V0, old)
    b.ret()


def _load_context(b: Builder, frequency: int) -> None:
    """Routine(block): load what a process control block has; brings the block mode up to date."""
    block = b.get(COMMON["arg0"])

    def load(offset: int, bits: int = 64) -> Value:
        return b.call(native(f"phys_load{bits}"), b.add(block, offset), type=Type.I64)

    b.set(PCBB, block)
    b.set(SP, load(PCB_KSP))
    b.set(KSP, b.get(SP))
    b.set(USP, load(PCB_USP))
    b.set(UNIQUE, load(PCB_UNIQUE))
    b.set(FEN, b.and_(b.trunc(load(PCB_FLAGS), Type.I32), FLAG_FEN))
    b.set(PCC_OFFSET, b.shl(b.sub(load(PCB_PCC, 32), _cycles(b, frequency)), 32))
    table, number = load(PCB_PTBR), load(PCB_ASN, 32)
    b.set(PTBR, table)
    b.set(ASN, number)
    b.call(routine("switch_address_space"))
    update_mode(b)
    b.ret()


def _write_fen(b: Builder) -> None:
    """Routine(value): enable (1) or disable (0) floating-point instructions, now and for the process."""
    value = b.get(COMMON["arg0"])
    b.set(FEN, b.trunc(value, Type.I32))
    flags = b.add(b.get(PCBB), PCB_FLAGS)
    old = b.call(native("phys_load64"), flags, type=Type.I64)
    b.call(native("phys_store64"), flags, b.deposit(old, value, 0, 1))
    update_mode(b)
    b.ret()


def routines(frequency: int) -> dict[str, RoutineBuilder]:
    """The routines by name, for CPUs with a cycle counter of so many Hz."""
    return {
        "swap_context": partial(_swap_context, frequency=frequency),
        "load_context": partial(_load_context, frequency=frequency),
        "write_fen": _write_fen,
    }
