# SPDX-License-Identifier: Apache-2.0
"""Block transfers, and the stores and loads of a return state.

Two neighbouring words are one access of 64 bits, which halves the TLB probes. A load writes each register at once, as
they are UNKNOWN after a data abort (B1.9.8), but the base last, so that an aborted instruction can start again.
"""

from __future__ import annotations

from collections.abc import Callable

from raddle.ir.builder import Builder, Value
from raddle.ir.types import Align, Type
from raddle.translate.decode import Fields
from raddle_target_arm.exceptions import (
    exception_return,
    read_banked_sp,
    read_spsr,
    read_user_register,
    write_banked_sp,
    write_user_register,
)
from raddle_target_arm.insns.common import (
    LR,
    PC,
    bx_write_pc,
    is_privileged,
    joined,
    mem,
    pair,
    read,
    undefined,
    write,
)
from raddle_target_arm.state import BANK_OF_MODE

Read = Callable[[int], Value]
Write = Callable[[int, Value], None]


def _listed(registers: int) -> list[int]:
    return [number for number in range(16) if registers >> number & 1]


def _start(b: Builder, f: Fields, base: Value, words: int) -> Value:
    """The lowest address: after (U) or before the base, and without (P) or with the word at the base."""
    return _plus(b, base, (4 if f.P else 0) if f.U else (0 if f.P else 4) - 4 * words)


def _after(b: Builder, f: Fields, base: Value, start: Value, words: int) -> Value:
    """The value to write back to the base: for decrement-before, as in PUSH, the lowest address."""
    if f.P and not f.U:
        return start
    return b.add(base, 4 * words if f.U else -4 * words)


def _plus(b: Builder, address: Value, offset: int) -> Value:
    return b.add(address, offset) if offset else address


def _load(b: Builder, f: Fields, start: Value, numbers: list[int], write_register: Write) -> None:
    """Load registers from ``start`` on, in the order of the list."""
    word, double = mem(f, 4, align=Align.WORD), mem(f, 8, align=Align.WORD)
    for at in range(0, len(numbers), 2):
        address = _plus(b, start, 4 * at)
        if at + 1 < len(numbers):
            first, second = pair(b, f, b.load(address, double, f.mmu, Type.I64))
            write_register(numbers[at], first)
            write_register(numbers[at + 1], second)
        else:
            write_register(numbers[at], b.load(address, word, f.mmu))


def _store(b: Builder, f: Fields, start: Value, numbers: list[int], read_register: Read) -> None:
    """Store registers from ``start`` on, in the order of the list."""
    word, double = mem(f, 4, align=Align.WORD), mem(f, 8, align=Align.WORD)
    for at in range(0, len(numbers), 2):
        address = _plus(b, start, 4 * at)
        if at + 1 < len(numbers):
            value = joined(b, f, read_register(numbers[at]), read_register(numbers[at + 1]))
            b.store(address, value, double, f.mmu)
        else:
            b.store(address, read_register(numbers[at]), word, f.mmu)


def _load_all(b: Builder, f: Fields, registers: int) -> dict[int, Value]:
    """Load a list with write-back; returns the values of the base and of the pc, which are not written."""
    numbers = _listed(registers)
    base = read(b, f, f.n)
    late: dict[int, Value] = {}

    def write_register(number: int, value: Value) -> None:
        if number in (f.n, PC):
            late[number] = value
        else:
            write(b, f, number, value)

    start = _start(b, f, base, len(numbers))
    _load(b, f, start, numbers, write_register)
    if f.W:
        write(b, f, f.n, _after(b, f, base, start, len(numbers)))
    return late


def LDM(b: Builder, f: Fields) -> None:
    """LDM{IA,IB,DA,DB}<c> <Rn>{!}, <registers>; POP<c> <registers>   (A8.8.57 … A8.8.61, A8.8.131)"""
    late = _load_all(b, f, f.l)
    if f.n in late:
        write(b, f, f.n, late[f.n])
    if PC in late:
        bx_write_pc(b, f, late[PC])


def STM(b: Builder, f: Fields) -> None:
    """STM{IA,IB,DA,DB}<c> <Rn>{!}, <registers>; PUSH<c> <registers>   (A8.8.199 … A8.8.202, A8.8.133)"""
    numbers = _listed(f.l)
    base = read(b, f, f.n)
    start = _start(b, f, base, len(numbers))
    _store(b, f, start, numbers, lambda number: read(b, f, number))
    if f.W:
        write(b, f, f.n, _after(b, f, base, start, len(numbers)))


def LDM_user(b: Builder, f: Fields) -> None:
    """LDM{amode}<c> <Rn>, <registers>^ without the pc: User mode registers   (B9.3.6)"""
    if not is_privileged(f):
        undefined(b, f)
        return
    numbers = _listed(f.l)
    start = _start(b, f, read(b, f, f.n), len(numbers))
    # The base may be one of the registers: load all of them first.
    values: list[tuple[int, Value]] = []
    _load(b, f, start, numbers, lambda number, value: values.append((number, value)))
    for number, value in values:
        write_user_register(b, number, value)


def STM_user(b: Builder, f: Fields) -> None:
    """STM{amode}<c> <Rn>, <registers>^: User mode registers   (B9.3.17)"""
    if not is_privileged(f):
        undefined(b, f)
        return
    numbers = _listed(f.l)
    start = _start(b, f, read(b, f, f.n), len(numbers))
    _store(b, f, start, numbers, lambda n: read(b, f, PC) if n == PC else read_user_register(b, n))


def LDM_eret(b: Builder, f: Fields) -> None:
    """LDM{amode}<c> <Rn>{!}, <registers with pc>^: exception return   (B9.3.5)"""
    if not is_privileged(f):
        undefined(b, f)
        return
    late = _load_all(b, f, f.l | 1 << PC)
    if f.n in late:
        write(b, f, f.n, late[f.n])
    exception_return(b, late[PC], read_spsr(b))


def RFE(b: Builder, f: Fields) -> None:
    """RFE{amode}<c> <Rn>{!}: return to the pc and CPSR in memory   (B9.3.13)"""
    if not is_privileged(f):
        undefined(b, f)
        return
    base = read(b, f, f.n)
    memop = mem(f, 8, align=Align.WORD)
    start = _start(b, f, base, 2)
    address, cpsr = pair(b, f, b.load(start, memop, f.mmu, Type.I64))
    if f.W:
        write(b, f, f.n, _after(b, f, base, start, 2))
    exception_return(b, address, cpsr)


def SRS(b: Builder, f: Fields) -> None:
    """SRS{amode}<c> SP{!}, #<mode>: LR and SPSR to a mode's stack   (B9.3.16)"""
    if not is_privileged(f) or f.o not in BANK_OF_MODE:
        undefined(b, f)
        return
    base = read_banked_sp(b, f.o)
    memop = mem(f, 8, align=Align.WORD)
    value = joined(b, f, read(b, f, LR), read_spsr(b))
    start = _start(b, f, base, 2)
    b.store(start, value, memop, f.mmu)
    if f.W:
        write_banked_sp(b, f.o, _after(b, f, base, start, 2))
