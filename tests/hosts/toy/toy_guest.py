# SPDX-License-Identifier: Apache-2.0
"""A guest for the toy host: eight registers, nine instructions, no memory but that of its code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from raddle.runtime._native import lib

from raddle.ir.builder import Builder
from raddle.ir.header import COMMON
from raddle.ir.types import Hole, StateLayout, Type
from raddle.runtime import helpers
from raddle.translate.decode import Decoder, Linear, Pattern, Table
from raddle.translate.frontend import FrontEnd, InstructionSet
from raddle.translate.sharing import Sharing

STATE: Final = StateLayout()
REGISTERS: Final = (*STATE.array("r", Type.I32, 8, hot=(0, 1, 2, 3)), *STATE.array("f", Type.I32, 40))
"""Two banks: the numbers of the second one's registers are behind those of the first."""
SIZE: Final = 4

TABLE: Final = """
MOVI  0000 0001 dddd 0000 iiiiiiiiiiiiiiii  imm~signed(i)
ADDI  0000 0010 dddd aaaa 0000iiiiiiiiiiii  imm~small(i)
ADD   0000 0011 dddd aaaa bbbb 000000000000
XOR   0000 0100 dddd aaaa bbbb 000000000000
BNE   0000 0101 bbbb aaaa iiiiiiiiiiiiiiii  offset~words(i)
JUMP  0000 0110 0000 0000 iiiiiiiiiiiiiiii  offset~words(i)
STOP  0000 0111 0000 0000 0000000000000000
ADDW  0000 1000 dddd aaaa iiiiiiiiiiiiiiii  imm~signed(i)
TNE   0000 1001 bbbb aaaa iiiiiiiiiiiiiiii  offset~words(i)
FXOR  0000 1010 xxxxxx yyyyyy zzzzzz 000000  d=second(x) a=second(y) b=second(z)
"""


def signed(i: int) -> int:
    return (i ^ 0x8000) - 0x8000


def small(i: int) -> int:
    return (i ^ 0x800) - 0x800


def words(i: int) -> int:
    return signed(i) * SIZE


def second(x: int) -> int:
    return 8 + x


FUNCTIONS: Final = {"signed": Linear(signed), "small": Linear(small), "words": Linear(words), "second": Linear(second)}


def MOVI(b: Builder, d: int, imm: Hole) -> None:
    b.set(REGISTERS[d], b.const(imm))


def ADDI(b: Builder, d: int, a: int, imm: Hole) -> None:
    """And ADDW, whose literal is larger."""
    b.set(REGISTERS[d], b.add(b.get(REGISTERS[a]), imm))


def ADD(b: Builder, d: int, a: int, other: int) -> None:
    b.set(REGISTERS[d], b.add(b.get(REGISTERS[a]), b.get(REGISTERS[other])))


def XOR(b: Builder, d: int, a: int, other: int) -> None:
    b.set(REGISTERS[d], b.xor(b.get(REGISTERS[a]), b.get(REGISTERS[other])))


def BNE(b: Builder, other: int, a: int, offset: Hole) -> None:
    with b.if_(b.ne(b.get(REGISTERS[a]), b.get(REGISTERS[other]))):
        b.goto(0, offset)
    b.goto(SIZE)


def TNE(b: Builder, other: int, a: int, offset: Hole) -> None:
    """Leaves for there if the registers differ; the block goes on behind it."""
    with b.if_(b.ne(b.get(REGISTERS[a]), b.get(REGISTERS[other]))):
        b.set(COMMON["pc"], b.zext(b.pc(0, offset), Type.I64))
        b.exit_main()


def STOP(b: Builder) -> None:
    b.set(COMMON["pc"], b.zext(b.pc(), Type.I64))
    b.exit_main()


class Instructions(InstructionSet):
    unit = SIZE

    def __init__(self) -> None:
        self.decoder: Decoder = Table.parse(TABLE, "toy.dec", 32, FUNCTIONS).compile()

    def decode(self, word: int, size: int) -> Pattern | None:
        return self.decoder.decode(word)

    def translate(
        self,
        b: Builder,
        pattern: Pattern | None,
        word: int,
        decode_state: int,
        mode: int,
        operands: Mapping[str, int | Hole] | None = None,
    ) -> int:
        assert pattern is not None
        f = pattern.fields(word)
        f.__dict__.update(operands or {})
        match pattern.name:
            case "MOVI":
                MOVI(b, f.d, f.imm)
            case "ADDI" | "ADDW":
                ADDI(b, f.d, f.a, f.imm)
            case "ADD":
                ADD(b, f.d, f.a, f.b)
            case "XOR" | "FXOR":
                XOR(b, f.d, f.a, f.b)
            case "BNE":
                BNE(b, f.b, f.a, f.offset)
            case "TNE":
                TNE(b, f.b, f.a, f.offset)
            case "JUMP":
                b.goto(0, f.offset)
            case _:
                STOP(b)
        return 0

    def sharing(self, pattern: Pattern) -> Sharing:
        return Sharing(pattern, [name for name in "dab" if name in pattern.operands()])


class ToyGuest(FrontEnd):
    name = "toy"
    word = Type.I32
    page_bits = 12
    mmu_indices = 1
    state = STATE
    registers = REGISTERS
    instructions = Instructions()
    routines = {}

    def __init__(self) -> None:
        self.python_helpers = {"tlb_fill": self.fill, "fault": self.fault, "interrupt": lambda cpu, pending: 0}

    @staticmethod
    def fill(cpu: Any, address: int, access: int, size: int) -> int:
        lib.raddle_helper(cpu.env, helpers.NUMBER["tlb_set"], address, address, 7 | 12 << 8, 0)
        return 0

    @staticmethod
    def fault(cpu: Any, address: int, access: int, code: int) -> None:
        raise AssertionError(f"a fault at {address:#x}")

    def instruction_set(self, mode: int) -> InstructionSet:
        return self.instructions

    def reset(self, cpu: Any, entry: int, argument: int) -> None:
        cpu["pc"] = entry


NAMES: Final = ("MOVI", "ADDI", "ADD", "XOR", "BNE", "JUMP", "STOP", "ADDW", "TNE")
OPERANDS: Final = ("di", "dai", "dab", "dab", "abi", "i", "", "dai", "abi")


def encode(name: str, d: int = 0, a: int = 0, b: int = 0, i: int = 0) -> int:
    """Of the operands those that the instruction has. ``i`` of a branch counts instructions."""
    number = NAMES.index(name)
    d, a, b, i = (value if key in OPERANDS[number] else 0 for key, value in zip("dabi", (d, a, b, i), strict=True))
    if name in ("BNE", "TNE"):
        d, b = b, 0
    return number + 1 << 24 | d << 20 | a << 16 | b << 12 | i & (0xFFF if name == "ADDI" else 0xFFFF)
