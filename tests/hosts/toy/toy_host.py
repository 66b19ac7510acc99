# SPDX-License-Identifier: Apache-2.0
"""A host that is no machine: instructions of four bytes for an interpreter in Python, a back end of a dozen operations.

It is as unlike x86-64 as a host can be with little code: distances are counted in instructions from the instruction
itself, immediates are short, only plain branches are chained, and conditional exits go by the cold part. An instruction
is ``op << 24 | a << 19 | b << 14 | i``, where i has 14 bits; B has 24 bits of distance instead of a, b and i.

There are two register classes. General registers 0 … 3 hold the guest's r0 … r3, its other registers stay in its state;
4 … 9 are for values. The guest's second bank, f0 … f39, stays in the state, and is computed with in bank registers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, Final

from raddle.runtime._native import ffi

from raddle.codegen.allocation import RegisterPool
from raddle.codegen.backend import CodegenConfig, JoinRules, Stub, Thunks
from raddle.codegen.compiling import CompilingBackEnd
from raddle.codegen.emitter import Emitter, Handlers
from raddle.codegen.fields import Chaining, Range, Shape, Source, field_kind
from raddle.codegen.locations import FRAME_SLOTS, InState, Register, RegisterClass, Slot, in_state
from raddle.codegen.renaming import Forms, Method, Operands
from raddle.ir.builder import Instruction, Local
from raddle.ir.header import COMMON, Reaches
from raddle.ir.opcodes import Op
from raddle.ir.types import Condition, Field, Hole, StateLayout, Type

M32: Final = (1 << 32) - 1
GENERAL: Final = RegisterClass("general", 32)
BANK: Final = RegisterClass("bank", 8)
PINNED: Final = 4
VALUES: Final = range(4, 10)
SPILLED, FIRST, SECOND = 10, 11, 12
"""What is computed for the frame; the literals that are an operation's operands."""
TARGET: Final = 13
"""The register in which stubs keep a guest address."""
ZERO: Final = 14
STATE, FRAME = 30, 31
"""Bases of loads and stores: the guest's state, and the frame."""
BANK_VALUES, BANK_SPILLED, BANK_OPERAND = range(2), 2, 3
SHORT: Final = (-(1 << 13), (1 << 13) - 1)
"""What the immediate of ADDI can hold."""


class HostOp(IntEnum):
    MOVE = 1
    """a = b"""
    ADDI = 2
    """a = b + i, which is signed"""
    HIGH = 3
    """a = i << 18; i is unsigned here and in LOW"""
    LOW = 4
    """a |= i << 4 | b"""
    ADD = 5
    SUB = 6
    XOR = 7
    """a = a op b: of these three each"""
    LOAD = 8
    """a = the four bytes at b + i, which is signed and counts four bytes; b is STATE or FRAME"""
    STORE = 9
    BNE = 10
    """to i instructions from here if a != b"""
    B = 11
    ADDRESS = 12
    """a = the address of the host instruction i instructions from here"""
    LEAVE = 13
    """for the execution loop"""
    CHAIN = 14
    """for the execution loop, which is to chain the jump whose address is in a"""
    BANK_MOVE = 15
    BANK_XOR = 16
    BANK_LOAD = 17
    BANK_STORE = 18
    """as those without BANK, where a, and b of the first two, are bank registers"""


def word(op: HostOp, a: int = 0, b: int = 0, i: int = 0) -> bytes:
    return (op << 24 | a << 19 | b << 14 | i & 0x3FFF).to_bytes(4, "little")


FAR, NEAR, PLACE, IMMEDIATE, HIGH, LOW, LOWEST = range(7)
"""Shapes: distances of B, of BNE to the cold part, of what is close by; an immediate, and the parts of a number."""


def shapes(near: int, far: int) -> tuple[Shape, ...]:
    """Distances have ``near`` and ``far`` bits."""
    distances = (Shape(4, ((0, width),), Range.SIGNED, scale=2, relative=True) for width in (far, near, 14))
    number = Shape(4, ((0, 14),), scale=18), Shape(4, ((0, 14),), scale=4), Shape(4, ((14, 4),))
    return (*distances, Shape(4, ((0, 14),), Range.SIGNED), *number)


# -- the assembler -----------------------------------------------------------------------------------------------------

OPERANDS: Final[dict[Method, Operands]] = {}


def instruction(op: HostOp, *registers: RegisterClass, base: bool = False) -> Method:
    """The method that appends the instruction. Its operands are registers of these classes; of loads and stores one of
    them, a base and a displacement in bytes.
    """

    def append(assembler: Assembler, *operands: int) -> None:
        code, start = assembler.code, len(assembler.code)
        a, b, i = (*operands, 0, 0, 0)[:3]
        code += word(op, a, b, i // 4)
        assembler.trace.append((code, start, len(code), append, operands))

    OPERANDS[append] = Operands(tuple(enumerate(registers)), base=1 if base else -1)
    return append


class Assembler:
    def __init__(self) -> None:
        self.code = bytearray()
        self.trace: list[Any] = []

    MOVE = instruction(HostOp.MOVE, GENERAL, GENERAL)
    ADDI = instruction(HostOp.ADDI, GENERAL, GENERAL)
    HIGH = instruction(HostOp.HIGH, GENERAL)
    LOW = instruction(HostOp.LOW, GENERAL)
    ADD = instruction(HostOp.ADD, GENERAL, GENERAL)
    SUB = instruction(HostOp.SUB, GENERAL, GENERAL)
    XOR = instruction(HostOp.XOR, GENERAL, GENERAL)
    LOAD = instruction(HostOp.LOAD, GENERAL, base=True)
    STORE = instruction(HostOp.STORE, GENERAL, base=True)
    BNE = instruction(HostOp.BNE, GENERAL, GENERAL)
    B = instruction(HostOp.B)
    LEAVE = instruction(HostOp.LEAVE)
    BANK_MOVE = instruction(HostOp.BANK_MOVE, BANK, BANK)
    BANK_XOR = instruction(HostOp.BANK_XOR, BANK, BANK)
    BANK_LOAD = instruction(HostOp.BANK_LOAD, BANK, base=True)
    BANK_STORE = instruction(HostOp.BANK_STORE, BANK, base=True)

    def finish(self) -> bytes:
        return bytes(self.code)


# -- the emitter -------------------------------------------------------------------------------------------------------

HANDLERS: Final[Handlers[ToyEmitter]] = Handlers()
emits: Final = HANDLERS.emits


def in_bank(value: Instruction) -> bool:
    """Whether the value is of the second bank: it is read from there, or computed of what was."""
    if value.op is Op.GET:
        assert isinstance(value.aux, Field)
        return value.aux.name.startswith("f")
    return value.op is Op.XOR and all(map(in_bank, value.args))


class ToyEmitter(Assembler, Emitter[Any]):
    """There are no condition flags, so nothing of `FlagCapture` is called. No instruction has a branch within it."""

    handlers = HANDLERS
    call_operations = ()

    def __init__(self, config: CodegenConfig) -> None:
        Assembler.__init__(self)
        Emitter.__init__(self, config, routine=False)
        self.pinned_fields = [(field, GENERAL[n]) for n, field in enumerate(config.state.hot_fields[:PINNED])]
        self.pinned = {field.offset: register for field, register in self.pinned_fields}
        self.general = RegisterPool(GENERAL, VALUES, SPILLED)
        self.bank = RegisterPool(BANK, BANK_VALUES, BANK_SPILLED)
        self.pools = {GENERAL: self.general, BANK: self.bank}

    def start_code(self) -> None:
        self.code = bytearray()

    def pool(self, ins: Instruction) -> RegisterPool:
        return self.bank if in_bank(ins) else self.general

    def store_slot(self, slot: Slot, register: Register) -> None:
        store = self.STORE if register.register_class is GENERAL else self.BANK_STORE
        store(register.number, FRAME, 8 * slot.number)

    def here(self, source: Source, shape: int, value: int, literal: Instruction | None = None) -> None:
        """The last instruction has this field."""
        self.field(field_kind(source, shape), len(self.code) - 4, value, literal)

    def number(self, register: int, source: Source, value: int, literal: Instruction | None = None) -> None:
        """Any number of 32 bits, by three fields in two instructions."""
        self.HIGH(register)
        self.here(source, HIGH, value, literal)
        self.LOW(register)
        self.here(source, LOW, value, literal)
        self.here(source, LOWEST, value, literal)

    def use(self, value: Instruction, scratch: int) -> int:
        """The register of the value's class that holds it; `scratch` if it was not in one."""
        location = value.location
        if isinstance(location, Register):
            return location.number
        if value.op is Op.CONST:
            assert isinstance(value.aux, int)
            self.number(scratch, Source.LITERAL, value.aux)
        elif value.op is Op.HOLE:
            self.number(scratch, Source.LITERAL, 0, value)
        else:
            load = self.BANK_LOAD if in_bank(value) else self.LOAD
            load(scratch, *place(location))
        return scratch


def place(location: object) -> tuple[int, int]:
    """Base and displacement."""
    if isinstance(location, Slot):
        return FRAME, 8 * location.number
    assert isinstance(location, InState)
    return STATE, location.offset


@emits(Op.GET)
def get(e: ToyEmitter, ins: Instruction) -> None:
    assert isinstance(ins.aux, Field)
    if e.written(ins.aux, ins.position, ins.last_use):
        raise NotImplementedError("a field that is read, and written before the value is used")
    ins.location = e.pinned.get(ins.aux.offset) or in_state(ins.aux.offset)


@emits(Op.SET)
def set_(e: ToyEmitter, ins: Instruction) -> None:
    value, field = ins.args[0], ins.aux
    assert isinstance(field, Field)
    register = e.pinned.get(field.offset)
    if in_bank(value):
        e.BANK_STORE(e.use(value, BANK_OPERAND), STATE, field.offset)
    elif register is None:
        e.STORE(e.use(value, FIRST), STATE, field.offset)
    elif value.location is not register:
        e.MOVE(register.number, e.use(value, FIRST))


@emits(Op.ADD, Op.SUB, Op.XOR)
def arithmetic(e: ToyEmitter, ins: Instruction) -> None:
    a, b = ins.args
    if ins.op is Op.ADD and is_short(b):
        source = e.use(a, FIRST)
        # It reads its operand before it writes the result.
        e.ADDI(e.define(ins, consumed=(a,)), source)
        e.here(Source.LITERAL, IMMEDIATE, 0, b)
        return
    bank = in_bank(ins)
    second = e.use(b, BANK_OPERAND if bank else SECOND)
    # The result is written when b has still to be read.
    target = e.define(ins, consumed=(a,))
    first = e.use(a, target)
    if first != target:
        (e.BANK_MOVE if bank else e.MOVE)(target, first)
    (e.BANK_XOR if bank else ARITHMETIC[ins.op].__get__(e))(target, second)


@emits(Op.PC)
def pc(e: ToyEmitter, ins: Instruction) -> None:
    assert isinstance(ins.aux, int)
    e.number(e.define(ins), Source.PC, ins.aux, *ins.args)


@emits(Op.ZEXT)
def zext(e: ToyEmitter, ins: Instruction) -> None:
    """The upper half of pc stays 0."""
    source = e.use(ins.args[0], FIRST)
    e.MOVE(e.define(ins, consumed=ins.args), source)


@emits(Op.ICMP)
def icmp(e: ToyEmitter, ins: Instruction) -> None:
    """It is one instruction with the branch, which comes next: its operands are still where they were."""
    assert ins.aux is Condition.NE
    assert e.fuses(ins)


@emits(Op.BRCOND)
def brcond(e: ToyEmitter, ins: Instruction) -> None:
    assert isinstance(ins.aux, tuple)
    a, b = ins.args[0].args
    e.BNE(e.use(a, FIRST), e.use(b, SECOND))
    e.here(Source.COLD, NEAR, len(e.cold))
    leave, span = e.exits_if(*ins.aux), e.leaves_if(*ins.aux)
    if span is not None:
        e.emit_in_cold(span)
        return
    assert leave is not None
    hot, e.code = e.code, e.cold
    goto(e, leave)
    e.code = hot
    e.done.add(leave.position)


@emits(Op.LABEL)
def label(e: ToyEmitter, ins: Instruction) -> None:
    """Of a branch that has been emitted as one jump."""


@emits(Op.GOTO)
def goto(e: ToyEmitter, ins: Instruction) -> None:
    assert isinstance(ins.aux, int)
    e.B()
    e.here(Source.EXIT, FAR, ins.aux, *ins.args)


@emits(Op.EXIT_MAIN)
def exit_main(e: ToyEmitter, ins: Instruction) -> None:
    e.LEAVE()


ARITHMETIC: Final = {Op.ADD: Assembler.ADD, Op.SUB: Assembler.SUB, Op.XOR: Assembler.XOR}


def is_short(value: Instruction) -> bool:
    """Whether the value is a literal that fits ADDI in every word that shares the template."""
    if value.op is not Op.HOLE:
        return False
    assert isinstance(value.aux, Hole)
    low, high = value.aux.range
    return SHORT[0] <= low and high <= SHORT[1]


# -- the back end ------------------------------------------------------------------------------------------------------


def assemble(method: Method, operands: Sequence[int]) -> bytes:
    assembler = Assembler()
    method(assembler, *operands)
    return assembler.finish()


class ToyBackEnd(CompilingBackEnd):
    """``near`` and ``far`` are the bits of the distances of BNE and of B, which tests make small."""

    reaches = Reaches(*[(-(1 << 15), (1 << 15) - 4)] * 3)
    near = 14
    far = 24
    chained = FAR
    """The shape of what is chained."""

    def __init__(self, config: CodegenConfig) -> None:
        super().__init__(config, ToyEmitter(config), lambda: Forms(OPERANDS, STATE, assemble))

    def place(self, field: Field) -> int:
        """The second bank is computed with by other instructions than what else is in the state."""
        return SECOND_BANK if field.name.startswith("f") else super().place(field)

    def routine(self, code: list[Instruction], locals: list[Local]) -> bytes:
        raise NotImplementedError

    @staticmethod
    def constant(value: int) -> bytes | None:
        return None

    def rules(self) -> JoinRules:
        exit_request, pc = (COMMON[name].offset // 4 for name in ("exit_request", "pc"))
        entry = word(HostOp.LOAD, FIRST, STATE, exit_request) + word(HostOp.BNE, FIRST, ZERO)
        # The upper half of pc stays 0.
        store = word(HostOp.HIGH, TARGET) + word(HostOp.LOW, TARGET) + word(HostOp.STORE, TARGET, STATE, pc)
        target = tuple((field_kind(Source.PC, shape), at, 0) for shape, at in ((HIGH, 0), (LOW, 4), (LOWEST, 4)))
        chain = word(HostOp.ADDRESS, TARGET) + word(HostOp.CHAIN, TARGET)
        leave = Stub(store + word(HostOp.LEAVE), target)
        return JoinRules(
            entry=Stub(entry, ((field_kind(Source.LEAVE, PLACE), 4, 0),)),
            leave=leave,
            chainable=Stub(store + chain, (*target, (field_kind(Source.JUMP, PLACE), len(store), 0))),
            indirect=leave,
            falls_through=self.template([Instruction(Op.GOTO, Type.VOID, (), 0)], [], 0, 0, 0),
            shapes=shapes(self.near, self.far),
            chaining=Chaining(self.chained, span=4, flush=True),
        )

    def thunks(self, functions: dict[str, int]) -> Thunks:
        """None: nothing of a block calls, and `Interpreter.enter` takes the place of `enter`."""
        return Thunks(b"", {})


SECOND_BANK: Final = 7
"""No type's number."""


class Interpreter:
    """Runs the host's instructions. The runtime calls ``enter``, and that calls ``at_leave`` when a block was left."""

    def __init__(self, state: StateLayout, at_leave: Callable[[], object]) -> None:
        self.at_leave = at_leave
        self.pinned = [state.fields[f"r{number}"].offset for number in range(PINNED)]
        self.instructions = 0
        self.enter: Any = ffi.callback("uint64_t(void *, void *)", self._enter)

    def _enter(self, env: Any, code: Any) -> int:
        at, registers, bank = int(ffi.cast("uintptr_t", code)), [0] * 32, [0] * len(BANK)
        state, frame = ffi.cast("uint32_t *", env), [0] * (2 * FRAME_SLOTS)
        for register, offset in enumerate(self.pinned):
            registers[register] = state[offset // 4]
        while True:
            self.instructions += 1
            bits = ffi.cast("uint32_t *", at)[0]
            op, a, b, i = HostOp(bits >> 24), bits >> 19 & 31, bits >> 14 & 31, bits & 0x3FFF
            signed = i - (i >> 13 << 14)
            following, memory = at + 4, frame if b == FRAME else state
            match op:
                case HostOp.MOVE:
                    registers[a] = registers[b]
                case HostOp.ADDI:
                    registers[a] = registers[b] + signed & M32
                case HostOp.HIGH:
                    registers[a] = i << 18
                case HostOp.LOW:
                    registers[a] |= i << 4 | b
                case HostOp.ADD:
                    registers[a] = registers[a] + registers[b] & M32
                case HostOp.SUB:
                    registers[a] = registers[a] - registers[b] & M32
                case HostOp.XOR:
                    registers[a] ^= registers[b]
                case HostOp.LOAD:
                    registers[a] = memory[signed]
                case HostOp.STORE:
                    memory[signed] = registers[a]
                case HostOp.BANK_MOVE:
                    bank[a] = bank[b]
                case HostOp.BANK_XOR:
                    bank[a] ^= bank[b]
                case HostOp.BANK_LOAD:
                    bank[a] = memory[signed]
                case HostOp.BANK_STORE:
                    memory[signed] = bank[a]
                case HostOp.BNE:
                    following = at + 4 * signed if registers[a] != registers[b] else following
                case HostOp.B:
                    distance = bits & 0xFFFFFF
                    following = at + 4 * (distance - (distance >> 23 << 24))
                case HostOp.ADDRESS:
                    registers[a] = at + 4 * signed
                case HostOp.LEAVE | HostOp.CHAIN:
                    for register, offset in enumerate(self.pinned):
                        state[offset // 4] = registers[register]
                    self.at_leave()
                    return registers[a] if op is HostOp.CHAIN else 0
            at = following
