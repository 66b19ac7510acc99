# SPDX-License-Identifier: Apache-2.0
"""The host that `raddle new-host` writes, with a second bank of registers.

It is as unlike x86-64 as a host can be with little code: distances are counted in instructions from the instruction
itself, immediates are short, only plain branches are chained, and conditional exits go by the cold part.

General registers hold the guest's r0 … r3, its other registers stay in its state. The second bank, f0 … f39, stays
there, too, and is computed with in bank registers.
"""

from __future__ import annotations

import atexit
import sys
import tempfile
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

from raddle.runtime._native import ffi

from raddle.cli.new_host import package
from raddle.codegen.allocation import RegisterPool
from raddle.codegen.backend import CodegenConfig
from raddle.codegen.emitter import Handlers
from raddle.codegen.locations import InState, Register, RegisterClass, Slot
from raddle.ir.builder import Instruction
from raddle.ir.opcodes import Op
from raddle.ir.types import Field, StateLayout

WRITTEN: Final = tempfile.TemporaryDirectory()
"""The package, until the process ends."""
atexit.register(WRITTEN.cleanup)
for place, text in package("toy").items():
    path = Path(WRITTEN.name, place)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
sys.path.insert(0, str(Path(WRITTEN.name, "src")))

from raddle_host_toy import emit, encoding  # noqa: E402
from raddle_host_toy.assembler import GENERAL, instruction  # noqa: E402
from raddle_host_toy.backend import HostBackEnd  # noqa: E402
from raddle_host_toy.emitter import HANDLERS, PINNED, Emitter  # noqa: E402
from raddle_host_toy.encoding import FRAME, STATE  # noqa: E402
from raddle_host_toy.fields import IMMEDIATE, NEAR  # noqa: E402
from raddle_host_toy.machine import Machine, load, signed, store  # noqa: E402

__all__ = ["FRAME", "IMMEDIATE", "NEAR", "BankOp", "Interpreter", "ToyBackEnd"]

BANK: Final = RegisterClass("bank", 8)
BANK_VALUES, BANK_SPILLED, BANK_FIRST, BANK_SECOND = range(2), 2, 3, 4


class BankOp(IntEnum):
    """Of bank registers: a = b xor c; a = the four bytes at b + the number, and the reverse."""

    XOR = 100
    LOAD = 101
    STORE = 102


class ToyEmitter(Emitter):
    handlers = Handlers(HANDLERS)
    BANK_XOR = instruction(BankOp.XOR, encoding.r, BANK, BANK, BANK)
    BANK_LOAD = instruction(BankOp.LOAD, encoding.i, BANK, base=1)
    BANK_STORE = instruction(BankOp.STORE, encoding.i, BANK, base=1)

    def __init__(self, config: CodegenConfig) -> None:
        super().__init__(config)
        self.bank = RegisterPool(BANK, BANK_VALUES, BANK_SPILLED)
        self.pools = {**self.pools, BANK: self.bank}

    def pool(self, ins: Instruction) -> RegisterPool:
        return self.bank if in_bank(ins) else super().pool(ins)

    def store_slot(self, slot: Slot, register: Register) -> None:
        if register.register_class is BANK:
            self.BANK_STORE(register.number, FRAME, 8 * slot.number)
        else:
            super().store_slot(slot, register)

    def use_bank(self, value: Instruction, scratch: int) -> int:
        """The bank's register that has the value: its own, or `scratch` after a move."""
        location = value.location
        if isinstance(location, Register):
            return location.number
        self.move(scratch, value)
        return scratch

    def move(self, register: int, value: Instruction) -> None:
        location = value.location
        if not in_bank(value):
            super().move(register, value)
        elif isinstance(location, Slot):
            self.BANK_LOAD(register, FRAME, 8 * location.number)
        else:
            assert isinstance(location, InState)
            self.BANK_LOAD(register, STATE, location.offset)


def in_bank(value: Instruction) -> bool:
    """Whether the value is of the second bank: it is read from there, or computed of what was."""
    if value.op is Op.GET:
        assert isinstance(value.aux, Field)
        return value.aux.name.startswith("f")
    return value.op is Op.XOR and all(map(in_bank, value.args))


@ToyEmitter.handlers.emits(Op.SET)
def set_(e: ToyEmitter, ins: Instruction) -> None:
    if in_bank(ins.args[0]):
        assert isinstance(ins.aux, Field)
        e.BANK_STORE(e.use_bank(ins.args[0], BANK_FIRST), STATE, ins.aux.offset)
    else:
        emit.set_(e, ins)


@ToyEmitter.handlers.emits(Op.XOR)
def xor(e: ToyEmitter, ins: Instruction) -> None:
    if in_bank(ins):
        first, second = e.use_bank(ins.args[0], BANK_FIRST), e.use_bank(ins.args[1], BANK_SECOND)
        e.BANK_XOR(e.define(ins, ins.args), first, second)
    else:
        emit.arithmetic(e, ins)


SECOND_BANK: Final = 7
"""No type's number."""


class ToyBackEnd(HostBackEnd):
    make_emitter = ToyEmitter

    def place(self, field: Field) -> int:
        """The second bank is computed with by other instructions than what else is in the state."""
        return SECOND_BANK if field.name.startswith("f") else super().place(field)


class Interpreter(Machine):
    """Runs the host's instructions. The runtime calls `entered`, and that calls `at_leave` when a block was left."""

    def __init__(self, state: StateLayout, at_leave: Callable[[], object]) -> None:
        super().__init__([(field, GENERAL[n]) for n, field in zip(PINNED, state.hot_fields, strict=False)])
        self.bank = [0] * len(BANK)
        self.at_leave = at_leave
        self.entered: Any = ffi.callback("uint64_t(void *, void *)", self._enter)

    def _enter(self, env: Any, code: Any) -> int:
        jump = self.enter(int(ffi.cast("uintptr_t", env)), int(ffi.cast("uintptr_t", code)))
        self.at_leave()
        return int(jump)

    def execute(self, op: int, at: int, bits: int) -> None:
        a, b, c, number = bits >> 19 & 31, bits >> 14 & 31, bits & 31, signed(bits, encoding.IMMEDIATE_BITS)
        match op:
            case BankOp.XOR:
                self.bank[a] = self.bank[b] ^ self.bank[c]
            case BankOp.LOAD:
                self.bank[a] = load(self.registers[b] + number, 4)
            case BankOp.STORE:
                store(self.registers[b] + number, 4, self.bank[a])
            case _:
                super().execute(op, at, bits)
