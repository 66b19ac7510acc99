# SPDX-License-Identifier: Apache-2.0
"""A host that is no machine: instructions of four bytes for an interpreter in Python, a back end of a dozen operations.

It is as unlike x86-64 as a host can be with little code: distances are counted in instructions from the instruction
itself, immediates are short, only plain branches are chained, and conditional exits go by the cold part. An instruction
is ``op << 24 | a << 19 | b << 14 | i``, where i has 14 bits; B has 24 bits of distance instead of a, b and i.

Host registers 0 … 3 hold the guest's r0 … r3; the guest's other registers stay in its state. 4 … 12 are for values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any, Final

from raddle.runtime._native import ffi

from raddle.codegen.backend import BackEnd, CodegenConfig, JoinRules, Stub, Thunks
from raddle.codegen.fields import Chaining, OpenHole, Range, Reloc, Shape, Source, field_kind, pack_fixups
from raddle.codegen.template import Template, Variant, pack_cut, pack_traits
from raddle.ir.builder import Instruction, Local
from raddle.ir.header import COMMON, Reaches
from raddle.ir.opcodes import Op
from raddle.ir.types import Condition, Field, Hole, StateLayout, Type

M32: Final = (1 << 32) - 1
PINNED: Final = 4
FIRST_VALUE: Final = 4
TARGET: Final = 13
"""The host register in which stubs and branches keep a guest address."""
ZERO: Final = 14
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
    """a = the four bytes of the state at i, which is signed and counts four bytes"""
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


def word(op: HostOp, a: int = 0, b: int = 0, i: int = 0) -> bytes:
    return (op << 24 | a << 19 | b << 14 | i & 0x3FFF).to_bytes(4, "little")


FAR, NEAR, PLACE, IMMEDIATE, HIGH, LOW, LOWEST = range(7)
"""Shapes: distances of B, of BNE to the cold part, of what is close by; an immediate, and the parts of a number."""


def shapes(near: int, far: int) -> tuple[Shape, ...]:
    """Distances have ``near`` and ``far`` bits."""
    distances = (Shape(4, ((0, width),), Range.SIGNED, scale=2, relative=True) for width in (far, near, 14))
    number = Shape(4, ((0, 14),), scale=18), Shape(4, ((0, 14),), scale=4), Shape(4, ((14, 4),))
    return (*distances, Shape(4, ((0, 14),), Range.SIGNED), *number)


class ToyTemplate(Template):
    """Compiled at once; there are no condition flags, so it has one variant."""

    def __init__(self, size: int, ends: bool, code: Variant) -> None:
        super().__init__(size, 0, 0, ends)
        self.code = code

    def variant(self, host_flags: int, dead: bool) -> Variant:
        return self.code


Form = tuple[HostOp, tuple[int, int, int], tuple[int, ...]]
"""(operation, a, b and i, which of them are registers that are put in)"""


class Compiler:
    """Compiles one instruction, which writes state once, at its end: so a value can stay in the guest's own register.

    A host instruction that names a guest register that others may replace becomes a cut.
    """

    def __init__(self, forms: list[Form], open_places: Mapping[int, int]) -> None:
        self.parts = [bytearray(), bytearray()]
        self.relocs: tuple[list[Reloc], list[Reloc]] = ([], [])
        self.holes: tuple[list[OpenHole], list[OpenHole]] = ([], [])
        self.cuts: list[bytes] = []
        self.forms = forms
        self.open_places = open_places
        self.values: dict[Instruction, int] = {}
        self.next = FIRST_VALUE

    def emit(self, op: HostOp, a: int = 0, b: int = 0, i: int = 0, guest: tuple[int, ...] = (), part: int = 0) -> int:
        """Append an instruction, of whose operands those numbered in ``guest`` are places of guest registers; where."""
        at = len(self.parts[part])
        operands = a, b, i
        slots = tuple(slot for slot in guest if operands[slot] in self.open_places)
        if slots:
            blank = tuple(0 if slot in slots else operand for slot, operand in enumerate(operands))
            form = op, (blank[0], blank[1], blank[2]), slots
            if form not in self.forms:
                self.forms.append(form)
            numbers = [self.open_places[operands[slot]] for slot in slots]
            self.cuts.append(pack_cut(part, self.forms.index(form), at, 4, numbers))
        a, b, i = (place_operand(operand) for operand in operands)
        self.parts[part] += word(op, a, b, i)
        return at

    def value(self) -> int:
        self.next += 1
        assert self.next <= TARGET, "too many values"
        return self.next - 1

    def field(self, source: Source, shape: int, at: int, number: int, hole: object = None, part: int = 0) -> None:
        """Let the instruction at ``at`` hold ``number``, plus the literal of the hole if there is one."""
        if hole is None:
            self.relocs[part].append((field_kind(source, shape), at, number))
        else:
            assert isinstance(hole, Hole)
            self.holes[part].append((at, hole.index, number, field_kind(source, shape)))

    def number(self, source: Source, number: int, hole: object = None) -> int:
        """A register that holds any number of 32 bits, by three fields in two instructions."""
        register = self.value()
        self.field(source, HIGH, self.emit(HostOp.HIGH, register), number, hole)
        at = self.emit(HostOp.LOW, register)
        self.field(source, LOW, at, number, hole)
        self.field(source, LOWEST, at, number, hole)
        return register

    def operand(self, value: Instruction) -> int:
        """The register that holds the value."""
        if value.op is Op.CONST:
            assert isinstance(value.aux, int)
            return self.number(Source.LITERAL, value.aux)
        if value.op is Op.HOLE:
            return self.number(Source.LITERAL, 0, value.aux)
        return self.values[value]

    def exit(self, goto: Instruction, part: int) -> None:
        assert isinstance(goto.aux, int)
        hole = goto.args[0].aux if goto.args else None
        self.field(Source.EXIT, FAR, self.emit(HostOp.B, part=part), goto.aux, hole, part)

    def compile(self, code: Sequence[Instruction]) -> None:
        position = 0
        while position < len(code):
            position = self._one(code, position)

    def _one(self, code: Sequence[Instruction], position: int) -> int:
        """Compile what is there; returns where to go on."""
        ins = code[position]
        if ins.op is Op.GET:
            assert isinstance(ins.aux, Field)
            self.values[ins] = where = place_of(ins.aux)
            if where >= PINNED:
                self.values[ins] = register = self.value()
                self.emit(HostOp.LOAD, register, 0, where, guest=(2,))
        elif ins.op is Op.SET:
            assert isinstance(ins.aux, Field)
            where, value = place_of(ins.aux), self.operand(ins.args[0])
            if where < PINNED:
                self.emit(HostOp.MOVE, where, value, guest=(0, 1))
            else:
                self.emit(HostOp.STORE, value, 0, where, guest=(0, 2))
        elif ins.op is Op.ADD and is_short(ins.args[1]):
            self.values[ins] = register = self.value()
            at = self.emit(HostOp.ADDI, register, self.operand(ins.args[0]), guest=(1,))
            self.field(Source.LITERAL, IMMEDIATE, at, 0, ins.args[1].aux)
        elif ins.op in ARITHMETIC:
            a, b = map(self.operand, ins.args)
            self.values[ins] = register = self.value()
            self.emit(HostOp.MOVE, register, a, guest=(1,))
            self.emit(ARITHMETIC[ins.op], register, b, guest=(1,))
        elif ins.op is Op.PC:
            assert isinstance(ins.aux, int)
            self.values[ins] = self.number(Source.PC, ins.aux)
        elif ins.op is Op.BRCOND:
            # if_ that leaves by a goto: the condition is the comparison just before
            condition, leave = ins.args[0], code[position + 2]
            assert condition.op is Op.ICMP
            assert condition.aux is Condition.NE
            assert leave.op is Op.GOTO
            a, b = map(self.operand, condition.args)
            self.field(Source.COLD, NEAR, self.emit(HostOp.BNE, a, b, guest=(0, 1)), len(self.parts[1]))
            self.exit(leave, 1)
            return position + 4
        elif ins.op is Op.GOTO:
            self.exit(ins, 0)
        elif ins.op is Op.ZEXT:
            self.values[ins] = self.operand(ins.args[0])
        elif ins.op is Op.EXIT_MAIN:
            self.emit(HostOp.LEAVE)
        elif ins.op is not Op.ICMP:
            raise NotImplementedError(ins.op.name)
        return position + 1

    def variant(self, ends: bool) -> Variant:
        fixups = b"".join(pack_fixups(part, self.relocs[part], self.holes[part]) for part in range(2))
        traits = pack_traits(0, 0, 0, ends, False)
        return Variant(bytes(self.parts[0]), bytes(self.parts[1]), fixups, traits, b"".join(self.cuts))


ARITHMETIC: Final = {Op.ADD: HostOp.ADD, Op.SUB: HostOp.SUB, Op.XOR: HostOp.XOR}
IN_STATE: Final = 1 << 20


def is_short(value: Instruction) -> bool:
    """Whether the value is a literal that fits ADDI in every word that shares the template."""
    if value.op is not Op.HOLE:
        return False
    assert isinstance(value.aux, Hole)
    low, high = value.aux.range
    return SHORT[0] <= low and high <= SHORT[1]


def place_of(field: Field) -> int:
    """A host register; or, from IN_STATE on, a place in the state, which counts four bytes."""
    if field.name.startswith("r") and int(field.name[1:]) < PINNED:
        return int(field.name[1:])
    return IN_STATE + field.offset // 4


def place_operand(place: int) -> int:
    return place - IN_STATE if place > IN_STATE // 2 else place


class ToyBackEnd(BackEnd):
    """``near`` and ``far`` are the bits of the distances of BNE and of B, which tests make small."""

    renames = True
    reaches = Reaches(*[(-(1 << 15), (1 << 15) - 4)] * 3)
    near = 14
    far = 24
    chained = FAR
    """The shape of what is chained."""

    def __init__(self, config: CodegenConfig) -> None:
        self.config = config
        self._forms: list[Form] = []

    def template(
        self,
        code: list[Instruction],
        locals: list[Local],
        size: int,
        context: int,
        next_context: int,
        open_registers: Mapping[int, Field] | None = None,
    ) -> Template:
        compiler = Compiler(self._forms, {place_of(field): n for n, field in (open_registers or {}).items()})
        ends = bool(code) and code[-1].op in (Op.GOTO, Op.EXIT_MAIN)
        compiler.compile(code)
        return ToyTemplate(size, ends, compiler.variant(ends))

    def place(self, field: Field) -> int:
        return 2 if field.name.startswith("f") else int(place_of(field) < PINNED)

    def encode(self, form: int, fields: Sequence[Field]) -> bytes:
        op, operands, slots = self._forms[form]
        given = list(operands)
        for slot, field in zip(slots, fields, strict=False):
            given[slot] = place_of(field)
        return word(op, *map(place_operand, given))

    def routine(self, code: list[Instruction], locals: list[Local]) -> bytes:
        raise NotImplementedError

    @staticmethod
    def constant(value: int) -> bytes | None:
        return None

    def rules(self) -> JoinRules:
        exit_request, pc = (COMMON[name].offset // 4 for name in ("exit_request", "pc"))
        entry = word(HostOp.LOAD, FIRST_VALUE, 0, exit_request) + word(HostOp.BNE, FIRST_VALUE, ZERO)
        # The upper half of pc stays 0.
        store = word(HostOp.HIGH, TARGET) + word(HostOp.LOW, TARGET) + word(HostOp.STORE, TARGET, 0, pc)
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


class Interpreter:
    """Runs the host's instructions. The runtime calls ``enter``, and that calls ``at_leave`` when a block was left."""

    def __init__(self, state: StateLayout, at_leave: Callable[[], object]) -> None:
        self.at_leave = at_leave
        self.pinned = [state.fields[f"r{number}"].offset for number in range(PINNED)]
        self.instructions = 0
        self.enter: Any = ffi.callback("uint64_t(void *, void *)", self._enter)

    def _enter(self, env: Any, code: Any) -> int:
        at, registers = int(ffi.cast("uintptr_t", code)), [0] * 32
        state = ffi.cast("uint32_t *", env)
        for register, offset in enumerate(self.pinned):
            registers[register] = state[offset // 4]
        while True:
            self.instructions += 1
            bits = ffi.cast("uint32_t *", at)[0]
            op, a, b, i = HostOp(bits >> 24), bits >> 19 & 31, bits >> 14 & 31, bits & 0x3FFF
            signed = i - (i >> 13 << 14)
            following = at + 4
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
                    registers[a] = state[signed]
                case HostOp.STORE:
                    state[signed] = registers[a]
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
