# SPDX-License-Identifier: Apache-2.0
"""The front end: what the core needs to translate and run the tiny guest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NoReturn

from raddle.errors import MachineError
from raddle.ir.builder import Builder, native, python
from raddle.ir.header import COMMON
from raddle.ir.types import Hole, Type
from raddle.translate.decode import Linear, Pattern, Table, table_text
from raddle.translate.frontend import FAULT_ALIGNMENT, FrontEnd, InstructionSet
from raddle_target_tiny.insns import INSTRUCTION_BYTES, SEMANTICS
from raddle_target_tiny.state import REGISTERS, STATE

READ_WRITE_EXECUTE: Final = 7
PAGE_BITS: Final = 12


def signed(i: int) -> int:
    """A 16-bit immediate as a signed number."""
    return i - 0x10000 if i & 0x8000 else i


def words(i: int) -> int:
    """A branch's signed distance in instructions, as bytes."""
    return signed(i) * INSTRUCTION_BYTES


def upper(i: int) -> int:
    """An immediate in the upper half of a word."""
    return i << 16


def load_table() -> Table:
    """The decode table; every name in it has a function, and the other way round."""
    functions = {"signed": Linear(signed), "words": Linear(words), "upper": Linear(upper)}
    table = Table.parse(table_text("raddle_target_tiny", "decode/tiny.dec"), "decode/tiny.dec", 32, functions)
    table.check_names(SEMANTICS)
    return table


UNDEFINED: Final = python("undefined")


class TinyInstructions(InstructionSet):
    """The only instruction set: words of 32 bits."""

    unit = INSTRUCTION_BYTES

    def __init__(self, lacks: frozenset[str] = frozenset()) -> None:
        self._decoder = load_table().compile()
        self._lacks = lacks

    def decode(self, word: int, size: int) -> Pattern | None:
        pattern = self._decoder.decode(word)
        return None if pattern is None or pattern.name in self._lacks else pattern

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
            b.call(UNDEFINED)
            b.exit_main()
        else:
            SEMANTICS[pattern.name](b, pattern.fields(word))
        return 0

    def disassemble(self, word: int, size: int, pc: int) -> str:
        pattern = self.decode(word, size)
        if pattern is None:
            return super().disassemble(word, size, pc)
        return f"{pattern.name} {', '.join(f'{name}={value}' for name, value in pattern.values(word).items())}"


def tlb_fill(b: Builder) -> None:
    """There is no MMU: an address is its own translation, and everything is allowed."""
    address = b.get(COMMON["arg0"])
    mmu_index = b.extract(b.get(COMMON["arg1"]), 8, 8)
    b.call(native("tlb_set"), address, address, b.or_(b.shl(mmu_index, 16), READ_WRITE_EXECUTE | PAGE_BITS << 8))
    b.ret(b.const(0, Type.I64))


def fault(cpu: Any, address: int, access: int, code: int) -> NoReturn:
    """There are no exceptions: an access that fails stops the machine."""
    what = "misaligned access to" if code == FAULT_ALIGNMENT else "no memory at"
    raise MachineError(f"{what} {address:#x} (pc {cpu['pc']:#x})")


def undefined(cpu: Any) -> NoReturn:
    raise MachineError(f"undefined instruction at {cpu['pc']:#x}")


def interrupt(cpu: Any, pending: int) -> int:
    """There are no interrupts."""
    return 0


class TinyFrontEnd(FrontEnd):
    """The tiny guest, as the core uses it."""

    name = "tiny"
    word = Type.I32
    page_bits = PAGE_BITS
    mmu_indices = 1
    state = STATE
    routines = {"tlb_fill": tlb_fill}
    python_helpers = {"fault": fault, "undefined": undefined, "interrupt": interrupt}

    def __init__(self, lacks: frozenset[str] = frozenset()) -> None:
        """`lacks` names the instructions that the CPU model does not have."""
        self._instructions = TinyInstructions(lacks)

    def instruction_set(self, mode: int) -> InstructionSet:
        return self._instructions

    def reset(self, cpu: Any, entry: int, argument: int) -> None:
        self.clear(cpu)
        cpu["r1"] = argument
        cpu["pc"] = entry
        cpu["mode"] = 0

    def describe(self, cpu: Any) -> str:
        return " ".join(f"{register.name}={cpu[register.name]:08x}" for register in REGISTERS)


FRONT_END: Final = TinyFrontEnd()
FRONT_ENDS: Final = {"tiny": FRONT_END, "tiny-uni": TinyFrontEnd(lacks=frozenset({"FETCHADD"}))}
"""By CPU model. The second one is for machines of one CPU: it has no atomic instruction."""
