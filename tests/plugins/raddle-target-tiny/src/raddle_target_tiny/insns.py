# SPDX-License-Identifier: Apache-2.0
"""Semantics: one function an instruction, named as in `decode/tiny.dec`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raddle.ir.builder import Builder, Value
from raddle.ir.header import COMMON
from raddle.ir.opcodes import Op
from raddle.ir.types import Align, Condition, MemOp
from raddle.translate.decode import Fields
from raddle_target_tiny.state import REGISTERS

WORD: Final = MemOp(4, align=Align.NATURAL)
MMU_INDEX: Final = 0
INSTRUCTION_BYTES: Final = 4


def read(b: Builder, number: int) -> Value:
    return b.get(REGISTERS[number])


def write(b: Builder, number: int, value: Value) -> None:
    b.set(REGISTERS[number], value)


def MOVI(b: Builder, f: Fields) -> None:
    """MOVI rd, imm: rd = sign-extended imm"""
    write(b, f.d, b.const(f.imm))


def MOVHI(b: Builder, f: Fields) -> None:
    """MOVHI rd, imm: the upper half of rd = imm"""
    write(b, f.d, b.or_(b.and_(read(b, f.d), 0xFFFF), f.imm))


def ADDI(b: Builder, f: Fields) -> None:
    """ADDI rd, ra, imm: rd = ra + sign-extended imm"""
    write(b, f.d, b.add(read(b, f.a), f.imm))


def ADD(b: Builder, f: Fields) -> None:
    """ADD rd, ra, rb"""
    write(b, f.d, b.add(read(b, f.a), read(b, f.b)))


def SUB(b: Builder, f: Fields) -> None:
    """SUB rd, ra, rb"""
    write(b, f.d, b.sub(read(b, f.a), read(b, f.b)))


def XOR(b: Builder, f: Fields) -> None:
    """XOR rd, ra, rb"""
    write(b, f.d, b.xor(read(b, f.a), read(b, f.b)))


def LDW(b: Builder, f: Fields) -> None:
    """LDW rd, ra, imm: rd = memory[ra + imm]"""
    write(b, f.d, b.load(b.add(read(b, f.a), f.imm), WORD, MMU_INDEX))


def STW(b: Builder, f: Fields) -> None:
    """STW rd, ra, imm: memory[ra + imm] = rd"""
    b.store(b.add(read(b, f.a), f.imm), read(b, f.d), WORD, MMU_INDEX)


def FETCHADD(b: Builder, f: Fields) -> None:
    """FETCHADD rd, ra, rb: atomically rd = memory[ra]; memory[ra] += rb"""
    write(b, f.d, b.atomic(Op.ATOMIC_FETCH_ADD, read(b, f.a), read(b, f.b), WORD, MMU_INDEX))


def BEQ(b: Builder, f: Fields) -> None:
    """BEQ ra, rb, label: go there if ra == rb"""
    with b.if_(b.eq(read(b, f.a), read(b, f.b))):
        b.goto(0, f.offset)
    b.goto(INSTRUCTION_BYTES)


def BLT(b: Builder, f: Fields) -> None:
    """BLT ra, rb, label: go there if ra < rb, signed"""
    with b.if_(b.icmp(Condition.SLT, read(b, f.a), read(b, f.b))):
        b.goto(0, f.offset)
    b.goto(INSTRUCTION_BYTES)


def JAL(b: Builder, f: Fields) -> None:
    """JAL rd, label: rd = address of the next instruction; go to label"""
    write(b, f.d, b.pc(INSTRUCTION_BYTES))
    b.goto(0, f.offset)


def JR(b: Builder, f: Fields) -> None:
    """JR ra: go to the address in ra"""
    b.goto_indirect(read(b, f.a))


def CPUID(b: Builder, f: Fields) -> None:
    """CPUID rd: rd = number of this CPU"""
    write(b, f.d, b.get(COMMON["cpu_index"]))


SEMANTICS: Final[dict[str, Callable[[Builder, Fields], None]]] = {
    function.__name__: function
    for function in (MOVI, MOVHI, ADDI, ADD, SUB, XOR, LDW, STW, FETCHADD, BEQ, BLT, JAL, JR, CPUID)
}
