# SPDX-License-Identifier: Apache-2.0
"""A guest for tests whose instructions have 16 or 32 bits, the low half first, and whose register x0 is always zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from raddle.ir.builder import Builder, Value, native, python
from raddle.ir.header import COMMON
from raddle.ir.types import Align, Field, Hole, MemOp, StateLayout, Type
from raddle.testing.target_contract import Encodings
from raddle.translate.decode import Decoder, Fields, Linear, Pattern, Table
from raddle.translate.frontend import FrontEnd, Halves, InstructionSet, Wide
from raddle.translate.sharing import Sharing

STATE: Final = StateLayout()
X: Final = STATE.array("x", Type.I32, 16, hot=tuple(range(16)))
"""x1 … x15 by their numbers; x0 is a place that nothing reads or writes."""

SHORT: Final = """
MV        aaaa dddd 0000 0001
ADDI      iiii dddd 0000 0101     imm~signed4(i)
HALT      0000 0000 0000 0010
"""

LONG: Final = """
LUI       iiiiiiiiiiiiiiiiiiii dddd 0000 0011         imm~upper(i)
ADD       0000 0000 aaaa bbbb 0000 dddd 0000 1011
SUB       0000 0001 aaaa bbbb 0000 dddd 0000 1011
LW        iiiiiiiiiiii aaaa 0000 dddd 0000 1111       imm~signed12(i)
"""
"""LUI's field i lies in both halves."""

WIDE: Final = Wide(0, sum(1 << unit for unit in range(32) if unit & 3 == 3), Halves.LOW_FIRST)
"""As in RISC-V: both lowest bits are set."""

FUNCTIONS: Final = {
    "signed4": Linear(lambda i: i - 16 if i & 8 else i, i=8),
    "signed12": Linear(lambda i: i - 4096 if i & 2048 else i, i=2048),
    "upper": Linear(lambda i: i << 12),
}
WORD: Final = MemOp(4, align=Align.NONE)


def read(b: Builder, number: int) -> Value:
    return b.get(X[number]) if number else b.const(0)


def write(b: Builder, number: int, value: Value) -> None:
    if number:
        b.set(X[number], value)


def MV(b: Builder, f: Fields) -> None:
    write(b, f.d, read(b, f.a))


def ADDI(b: Builder, f: Fields) -> None:
    write(b, f.d, b.add(read(b, f.d), f.imm))


def HALT(b: Builder, f: Fields) -> None:
    b.set(COMMON["pc"], b.zext(b.pc(), Type.I64))
    b.call(python("halt"))
    b.exit_main()


def LUI(b: Builder, f: Fields) -> None:
    write(b, f.d, b.const(f.imm))


def ADD(b: Builder, f: Fields) -> None:
    write(b, f.d, b.add(read(b, f.a), read(b, f.b)))


def SUB(b: Builder, f: Fields) -> None:
    write(b, f.d, b.sub(read(b, f.a), read(b, f.b)))


def LW(b: Builder, f: Fields) -> None:
    write(b, f.d, b.load(b.add(read(b, f.a), f.imm), WORD, 0))


SEMANTICS: Final[dict[str, Callable[[Builder, Fields], None]]] = {
    function.__name__: function for function in (MV, ADDI, HALT, LUI, ADD, SUB, LW)
}
SHARED: Final = {"MV": "da", "ADDI": "d", "LUI": "d", "ADD": "dab", "SUB": "dab", "LW": "da"}


class Instructions(InstructionSet):
    unit = 2
    wide = WIDE

    def __init__(self) -> None:
        self.decoders: dict[int, Decoder] = {
            size: Table.parse(text, f"{8 * size} bits", 8 * size, FUNCTIONS).compile()
            for size, text in ((2, SHORT), (4, LONG))
        }

    def decode(self, word: int, size: int) -> Pattern | None:
        return self.decoders[size].decode(word)

    def translate(
        self,
        b: Builder,
        pattern: Pattern | None,
        word: int,
        decode_state: int,
        mode: int,
        operands: Mapping[str, int | Hole] | None = None,
    ) -> int:
        if pattern is None:
            b.set(COMMON["pc"], b.zext(b.pc(), Type.I64))
            b.call(python("undefined"))
            b.exit_main()
        else:
            f = pattern.fields(word)
            f.__dict__.update(operands or {})
            SEMANTICS[pattern.name](b, f)
        return 0

    def sharing(self, pattern: Pattern) -> Sharing | None:
        names = SHARED.get(pattern.name)
        return None if names is None else Sharing(pattern, tuple(names), mode_class=0)


def tlb_fill(b: Builder) -> None:
    address = b.get(COMMON["arg0"])
    mmu_index = b.extract(b.get(COMMON["arg1"]), 8, 8)
    b.call(native("tlb_set"), address, address, b.or_(b.shl(mmu_index, 16), 7 | 12 << 8))
    b.ret(b.const(0, Type.I64))


def stop(cpu: Any, *arguments: int) -> NoReturn:
    raise AssertionError(f"fault or undefined instruction at {cpu['pc']:#x}: {arguments}")


class MixedFrontEnd(FrontEnd):
    name = "mixed"
    word = Type.I32
    page_bits = 12
    mmu_indices = 1
    state = STATE
    mode_masks = (0,)
    registers: tuple[Field | None, ...] = (None, *X.elements[1:])
    routines = {"tlb_fill": tlb_fill}
    python_helpers = {
        "fault": lambda cpu, address, access, code: stop(cpu, address, access, code),
        "undefined": stop,
        "interrupt": lambda cpu, pending: 0,
        "halt": lambda cpu: cpu.engine.stop(),
    }

    def __init__(self) -> None:
        self.instructions = Instructions()

    def instruction_set(self, mode: int) -> Instructions:
        return self.instructions

    def reset(self, cpu: Any, entry: int, argument: int) -> None:
        for register in X:
            cpu[register.name] = 0
        cpu["x1"] = argument
        cpu["pc"], cpu["mode"] = entry, 0

    def encodings(self) -> tuple[Encodings, ...]:
        """As the target contract wants them."""
        return tuple(
            Encodings(f"{8 * size} bits", decoder, size, modes=(0,))
            for size, decoder in self.instructions.decoders.items()
        )
