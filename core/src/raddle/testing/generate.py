# SPDX-License-Identifier: Apache-2.0
"""Random valid programs, for comparing a host's code with the interpreter; and the reduction of programs that fail.

A program computes on fields of a guest state, on literals (holes), on locals and in a small arena of memory. Loops are
bounded, so that every program ends. A few accesses fault. The same seed gives the same program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from raddle.ir.builder import (
    Builder,
    FloatCompare,
    FloatToInt,
    Instruction,
    IntToFloat,
    Local,
    MemAccess,
    Rounding,
)
from raddle.ir.header import COMMON
from raddle.ir.invalid import VerifyError
from raddle.ir.opcodes import TABLE, Effect, Op, Result, operations_with
from raddle.ir.printer import print_function
from raddle.ir.types import (
    ANY_LITERAL,
    Align,
    Condition,
    Field,
    FlagCondition,
    Hole,
    LiteralKind,
    MemOp,
    StateLayout,
    Type,
)
from raddle.ir.verifier import ACCESS_ORDERS, verify
from raddle.ordering import MemoryOrder

ARENA_BASE = 0x4000_0000
ARENA_SIZE = 3 * 4096
"""The guest's memory is at addresses ARENA_BASE … ARENA_BASE + ARENA_SIZE - 1; all others fault."""

_PAGE = 4096
_HOLES = 3
_LITERAL_KINDS = (
    *[LiteralKind(0, (1 << bits) - 1) for bits in (8, 12, 16)],
    *[LiteralKind(-(1 << bits), (1 << bits) - 1) for bits in (8, 11, 15, 20)],
    LiteralKind(-0xFFF, 0xFFF),
    LiteralKind(0, 0xFF << 2, 4),
    LiteralKind(-(1 << 22), (1 << 22) - 4, 4),
    *[LiteralKind(0, 0xFFF000, step) for step in (0x1000, 0x10000)],
    LiteralKind(0, 0xFFFF00, 0x100),
    LiteralKind(-(1 << 31), (1 << 31) - 0x10000, 0x10000),
)
"""What decode tables say of their literals: immediates, scaled or not, distances of branches, upper halves."""
_INTEGERS = (Type.I1, Type.I32, Type.I64)
_WORDS = (Type.I32, Type.I64)
_FLOATS = (Type.F32, Type.F64)

_EDGES = {
    Type.I1: (0, 1),
    Type.I32: (
        0,
        1,
        2,
        31,
        32,
        33,
        0x7F,
        0x80,
        0xFF,
        0x7FFF,
        0x8000,
        0xFFFF,
        0x7FFFFFFF,
        0x80000000,
        0xFFFFFFFE,
        0xFFFFFFFF,
    ),
    Type.I64: (0, 1, 63, 64, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1),
    Type.F32: (
        *(
            0,
            1,
            0x007FFFFF,
            0x00800000,
            0x33800000,
            0x3F000000,
            0x3F800000,
            0x3F800001,
            0x40490FDB,
            0x4B000000,
            0x4F000000,
        ),
        *(0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FA12345, 0x7FC00000, 0x7FC12345),
    ),
    Type.F64: (
        *(0, 1, (1 << 52) - 1, 1 << 52, 0x3810000000000000, 0x36A0000000000000, 0x3FE0000000000000, 0x3FF0000000000000),
        *(0x3FF0000000000001, 0x3FF0000010000000, 0x41E0000000000000, 0x43E0000000000000, 0x47EFFFFFE0000000),
        *(0x7FEFFFFFFFFFFFFF, 0x7FF0000000000000, 0x7FF0000000000001, 0x7FF8000000000000, 0x7FF8000012345678),
    ),
}


@dataclass(frozen=True, slots=True)
class Program:
    """A function and the state that it starts from.

    ``state`` is the guest state; ``header`` has fields of the common header (absent ones are 0, but
    ``exclusive_address`` is all ones); ``memory`` is the arena; ``holes`` are 32-bit numbers; ``routines`` are the IR
    routines that it calls. ``strict`` is the `CodegenConfig`'s.
    """

    function: Builder
    state: bytes
    header: Mapping[str, int] = field(default_factory=dict)
    memory: bytes = bytes(ARENA_SIZE)
    holes: tuple[int, ...] = ()
    pc: int = 0
    routines: Mapping[str, Builder] = field(default_factory=dict)
    strict: bool = False

    def describe(self, layout: StateLayout) -> str:
        """The text of the function, and all values that are not zero at its start; for messages."""
        values = [
            f"{f.name}={int.from_bytes(self.state[f.offset : f.offset + f.type.size], 'little'):#x}"
            for f in layout.fields.values()
            if any(self.state[f.offset : f.offset + f.type.size])
        ]
        values += [f"cpu.{name}={value:#x}" for name, value in self.header.items() if value]
        values += [f"%{index}={value:#x}" for index, value in enumerate(self.holes)]
        text = print_function(self.function) + f"run pc={self.pc:#x} {' '.join(values)}\n"
        return text + "".join(f"routine {name}\n{print_function(f)}" for name, f in self.routines.items())


def random_value(random: Random, type: Type) -> int:
    """A random number of ``type``'s width. About half of the results are edge values."""
    if type in _EDGES and random.random() < 0.6:
        value = random.choice(_EDGES[type])
        return value | 1 << (type.bits - 1) if type in _FLOATS and random.random() < 0.5 else value
    if type is Type.F32 and random.random() < 0.7:
        return random.getrandbits(1) << 31 | random.randrange(110, 145) << 23 | random.getrandbits(23)
    if type is Type.F64 and random.random() < 0.7:
        return random.getrandbits(1) << 63 | random.randrange(1000, 1050) << 52 | random.getrandbits(52)
    return random.getrandbits(type.bits)


def random_start(random: Random, function: Builder, layout: StateLayout) -> Program:
    """``function`` with random state, header, memory and literals."""
    state = bytearray(layout.size)
    for f in layout.fields.values():
        state[f.offset : f.offset + f.type.size] = random_value(random, f.type).to_bytes(f.type.size, "little")
    header = {
        "fp_rounding": random.randrange(4),
        "fp_flush": random.randrange(2),
        "fp_default_nan": random.randrange(2),
        "fp_rules": random.randrange(2) | random.randrange(3) << 1 | random.randrange(2) << 3,
        "fp_flags": random.choice((0, 0, 1, 16, 0x9F)),
    }
    return Program(
        function,
        bytes(state),
        header,
        random.randbytes(ARENA_SIZE),
        _random_literals(random, function),
        random.choice((0, 0x8000, 0x7FFF_FFFC, 0xFFFF_FFF8)),
    )


def _random_literals(random: Random, function: Builder) -> tuple[int, ...]:
    """A number for each literal, of the kind that the function's holes say."""
    holes = {arg.aux.index: arg.aux for ins in function.code for arg in ins.args if isinstance(arg.aux, Hole)}
    return tuple(
        random_literal(random, holes[index]) if index in holes else random_value(random, Type.I32)
        for index in range(_HOLES)
    )


def random_literal(random: Random, hole: Hole) -> int:
    """A random value of the literal, as an unsigned number of 32 bits. About half of the results are edge values."""
    if hole.range == ANY_LITERAL and hole.step == 1:
        return random_value(random, Type.I32)
    low, high = hole.range
    least, most = -(-low // hole.step), high // hole.step
    edges = {edge for edge in (least, least + 1, -1, 0, most // 2 + 1, most - 1, most) if least <= edge <= most}
    number = random.choice(sorted(edges)) if random.random() < 0.6 else random.randint(least, most)
    return number * hole.step & 0xFFFF_FFFF


def random_program(
    random: Random, layout: StateLayout, *, word: Type = Type.I32, size: int = 25, without: frozenset[Op] = frozenset()
) -> Program:
    """A program of about ``size`` random operations, none of them in ``without``."""
    generator = Generator(random, layout, word, without)
    generator.body(random.randrange(1, size + 1))
    generator.keep_results()
    generator.leave(0.5)
    return random_start(random, generator.b, layout)


def rare_program(
    random: Random, layout: StateLayout, *, word: Type = Type.I32, size: int = 10, without: frozenset[Op] = frozenset()
) -> Program:
    """A program with rare code, and random operations before, in and after it."""
    generator = Generator(random, layout, word, without)
    generator.body(size)
    generator.rarely(random.randrange(1, size))
    generator.body(size)
    generator.keep_results()
    generator.leave(0.5)
    return random_start(random, generator.b, layout)


def focused_program(
    random: Random, layout: StateLayout, op: Op, *, word: Type = Type.I32, literals: bool = False
) -> Program:
    """A small program around one ``op`` with random operands; ``literals``: many of them are literals of one kind.
    ``op`` must be in GENERATED.
    """
    generator = Generator(random, layout, word)
    if literals:
        kind = random.choice(_LITERAL_KINDS)
        generator.holes = [_hole(index, kind) for index in range(_HOLES)]
        generator.literal_share = 0.5
    for type in (*_INTEGERS, *_FLOATS):
        for _ in range(random.randrange(3)):
            generator.from_state(type)
    _EMIT[op](generator, op)
    generator.keep_results()
    return random_start(random, generator.b, layout)


_OF_ANOTHER_OPERATION: Final = frozenset({Op.CARRY_OF, Op.OVERFLOW_OF, Op.SET_NZCV})
"""Operations that use the flags of the operation that defines their operand: the operand cannot be replaced."""
_BITS_OF: Final = {Type.F32: Type.I32, Type.F64: Type.I64}


def let_operands_die(function: Builder, op: Op) -> None:
    """Give each ``op`` of the function operands, except literals, that are computed just for it. So the host may put
    the result into an operand's register.
    """
    if op in _OF_ANOTHER_OPERATION:
        return
    code: list[Instruction] = []
    for ins in function.code:
        if ins.op is op:
            ins.args = tuple([arg if arg.op <= Op.HOLE else _copied(code, arg) for arg in ins.args])
        code.append(ins)
    function.code[:] = code


def _copied(code: list[Instruction], value: Instruction) -> Instruction:
    """Append instructions that compute the value again."""
    bits = _BITS_OF.get(value.type)
    if bits is not None:
        copy = Instruction(Op.BITCAST, value.type, (_copied(code, _bitcast(code, value, bits)),))
    else:
        copy = Instruction(Op.XOR, value.type, (value, Instruction(Op.CONST, value.type, (), 0)))
    code.append(copy)
    return copy


def _bitcast(code: list[Instruction], value: Instruction, type: Type) -> Instruction:
    code.append(Instruction(Op.BITCAST, type, (value,)))
    return code[-1]


def _hole(index: int, kind: LiteralKind) -> Hole:
    return Hole(index, f"literal{index}", lambda: kind[:2], step=kind.step)


_NOT_RARE: Final = operations_with(Effect.FAULT) - {Op.CALL} | {Op.GOTO}
"""Operations that rare code cannot have."""


class Generator:
    """Emits random operations into ``b``. ``values`` has the values that may be used, by type."""

    def __init__(
        self, random: Random, layout: StateLayout, word: Type = Type.I32, without: frozenset[Op] = frozenset()
    ) -> None:
        self.random = random
        self.layout = layout
        self.b = Builder(word, layout.nzcv)
        self.word = word
        self.without = without
        self.values: list[Instruction] = []
        self.literal_share = 0.0
        """The share of integer operands that are literals, besides those that are literals by chance."""
        self.locals: list[Local] = []
        self.depth = 0
        kinds = [random.choice((LiteralKind(*ANY_LITERAL), *random.sample(_LITERAL_KINDS, 3))) for _ in range(_HOLES)]
        self.holes = [_hole(index, kind) for index, kind in enumerate(kinds)]
        self.fields: dict[Type, list[Field]] = {}
        for f in layout.fields.values():
            self.fields.setdefault(f.type, []).append(f)

    # -- operands ------------------------------------------------------------------------------------------------------

    def emit(self, op: Op, type: Type, *args: Instruction, aux: object = None) -> Instruction:
        instruction = Instruction(op, type, args, aux)
        self.b.code.append(instruction)
        if TABLE[op].result is not Result.NONE and type is not Type.VOID:
            self.values.append(instruction)
        return instruction

    def literal(self, type: Type) -> Instruction:
        if type in _WORDS and self.random.random() < 0.3:
            return self.hole(type)
        return Instruction(Op.CONST, type, (), random_value(self.random, type))

    def hole(self, type: Type) -> Instruction:
        return Instruction(Op.HOLE, type, (), self.random.choice(self.holes))

    def from_state(self, type: Type) -> Instruction:
        if type not in self.fields:
            return self.literal(type)
        return self.emit(Op.GET, type, aux=self.random.choice(self.fields[type]))

    def operand(self, type: Type) -> Instruction:
        """A value of ``type``: an earlier one, a field's, or a literal."""
        if type in _WORDS and self.random.random() < self.literal_share:
            return self.hole(type)
        chance = self.random.random()
        if chance < 0.6:
            at_hand = [value for value in self.values if value.type is type]
            if at_hand:
                # Choose late values more often, so that chains of operations get long.
                return at_hand[max(self.random.randrange(len(at_hand)), self.random.randrange(len(at_hand)))]
        return self.from_state(type) if chance < 0.8 else self.literal(type)

    def value(self, type: Type) -> Instruction:
        """As ``operand``, but never a literal."""
        operand = self.operand(type)
        return operand if operand.op not in (Op.CONST, Op.HOLE) else self.emit(Op.GET, type, aux=self.fields[type][0])

    def flag_value(self) -> Instruction:
        """The result of an add, sub, adc or sbc."""
        at_hand = [value for value in self.values if value.op in (Op.ADD, Op.SUB, Op.ADC, Op.SBC)]
        if at_hand and self.random.random() < 0.7:
            return self.random.choice(at_hand)
        op = self.random.choice((Op.ADD, Op.SUB, Op.ADC, Op.SBC))
        return self.by_table(op)

    def by_table(self, op: Op) -> Instruction:
        """``op`` in one of its types, with operands of the kinds in the table. Only for ops that need nothing else."""
        info = TABLE[op]
        type = self.random.choice(sorted(info.types))
        kinds = {"v": type, "i": Type.I32, "l": Type.I64, "b": Type.I1, "a": self.word}
        return self.emit(op, type, *[self.operand(kinds[kind]) for kind in info.operands])

    def access(self, op: Op, type: Type) -> MemAccess:
        aligned = op not in (Op.LOAD, Op.STORE)
        size = self.random.choice([size for size in (1, 2, 4, 8) if size <= type.size])
        align = Align.NATURAL if aligned else self.random.choice((Align.NONE, Align.NONE, Align.NATURAL, Align.WORD))
        order = self.random.choice((MemoryOrder.NONE, MemoryOrder.NONE, ACCESS_ORDERS[op]))
        memop = MemOp(size, self.random.random() < 0.4, self.random.random() < 0.2, align, int(order))
        return MemAccess(memop, self.random.randrange(2))

    def address(self, access: MemAccess) -> Instruction:
        """An address in the arena, suitably aligned; rarely one that faults."""
        if self.random.random() < 0.03:
            return self.operand(self.word)
        start, span = self.random.choice(((0, 32), (0, 32), (_PAGE - 16, 32), (0, 2 * _PAGE)))
        mask = span - 1
        if self.random.random() < 0.95:
            mask &= -access.memop.align_bytes
        if self.random.random() < 0.3:
            offset = self.random.randrange(span) & mask
            return Instruction(Op.CONST, self.word, (), ARENA_BASE + start + offset)
        const = Instruction(Op.CONST, self.word, (), mask)
        masked = self.emit(Op.AND, self.word, self.operand(self.word), const)
        base = Instruction(Op.CONST, self.word, (), ARENA_BASE + start)
        return self.emit(Op.ADD, self.word, masked, base)

    # -- control -------------------------------------------------------------------------------------------------------

    def body(self, size: int) -> None:
        """About ``size`` random operations."""
        left = size
        while left > 0:
            chance = self.random.random()
            if chance < 0.06 and self.depth < 3 and Op.BRCOND not in self.without:
                inner = self.random.randrange(1, left + 1)
                self.random.choice((self.branch, self.branch_both, self.loop))(inner)
                left -= inner
            else:
                ops = [op for op in _EMIT if op not in self.without]
                op = self.random.choice(ops)
                _EMIT[op](self, op)
                left -= 1

    def scoped(self, size: int, leave: float = 0) -> bool:
        """Emit a body whose values and locals cannot be used after it. Returns whether it ends with an exit."""
        values, known = len(self.values), len(self.locals)
        self.depth += 1
        self.body(size)
        self.depth -= 1
        left = self.leave(leave)
        del self.values[values:]
        del self.locals[known:]
        return left

    def branch(self, size: int) -> None:
        with self.b.if_(self.value(Type.I1)):
            self.scoped(size, leave=0.2)

    def branch_both(self, size: int) -> None:
        then, other, end = self.b.label("then"), self.b.label("else"), self.b.label("end")
        self.b.brcond(self.value(Type.I1), then, other)
        self.b.bind(then)
        if not self.scoped(size // 2, leave=0.15):
            self.b.br(end)
        self.b.bind(other)
        self.scoped(size - size // 2)
        self.b.bind(end)

    def loop(self, size: int) -> None:
        counter = self.b.local(Type.I32, self.random.randrange(1, 5), "counter")
        top, end = self.b.label("top"), self.b.label()
        self.b.bind(top)
        self.depth += 1
        self.body(size)
        self.depth -= 1
        left = self.b.sub(self.b.read(counter), 1)
        self.b.assign(counter, left)
        self.b.brcond(self.b.ne(left, 0), top, end)
        self.b.bind(end)

    def rarely(self, size: int) -> None:
        """Rare code, to which one to three branches lead."""
        label = self.b.label("rare", rare=True)
        values, known = len(self.values), len(self.locals)
        for _ in range(self.random.randrange(1, 4)):
            after = self.b.label()
            self.b.brcond(self.value(Type.I1), *self.random.choice(((label, after), (after, label))))
            self.b.bind(after)
            self.body(2)
        del self.values[values:]
        del self.locals[known:]
        without = self.without
        self.without |= _NOT_RARE
        with self.b.rarely(label):
            self.scoped(size, leave=0.2)
        self.without = without

    def leave(self, chance: float) -> bool:
        """Emit an exit from the function, or not. Returns whether it did."""
        if self.random.random() >= chance:
            return False
        exits: list[Callable[[], None]] = []
        if Op.GOTO not in self.without:
            hole = self.random.choice((None, self.holes[0]))
            exits.append(lambda: self.b.goto(self.random.choice((-8, 0, 4, 0x1000)), hole))
        if Op.GOTO_INDIRECT not in self.without:
            exits.append(lambda: self.b.goto_indirect(self.operand(self.word)))
        if Op.EXIT_MAIN not in self.without:
            exits.append(self.exit_main)
        if exits:
            self.random.choice(exits)()
        return bool(exits)

    def exit_main(self) -> None:
        self.b.set(COMMON["pc"], self.operand(Type.I64))
        self.b.exit_main()

    def keep_results(self) -> None:
        """Store some of the values, so that a wrong one is noticed."""
        for value in self.values[-8:]:
            if value.type in self.fields:
                self.b.set(self.random.choice(self.fields[value.type]), value)


# -- how each operation is emitted -------------------------------------------------------------------------------------


def _by_table(g: Generator, op: Op) -> None:
    g.by_table(op)


def _pc(g: Generator, op: Op) -> None:
    hole = g.random.choice((None, g.holes[1]))
    g.values.append(g.b.pc(g.random.choice((-4, 0, 8, 0x7FFF_FFFF)), hole))


def _get(g: Generator, op: Op) -> None:
    g.from_state(g.random.choice(sorted(g.fields)))


def _set(g: Generator, op: Op) -> None:
    type = g.random.choice([type for type in sorted(g.fields) if type in _EDGES])
    g.emit(op, type, g.operand(type), aux=g.random.choice(g.fields[type]))


def _element(g: Generator, op: Op) -> None:
    array = g.random.choice([array for array in g.layout.arrays.values() if array.type in _INTEGERS])
    if g.random.random() < 0.3:
        index = Instruction(Op.CONST, Type.I32, (), g.random.randrange(len(array)))
    else:
        largest = Instruction(Op.CONST, Type.I32, (), (1 << (len(array).bit_length() - 1)) - 1)
        index = g.emit(Op.AND, Type.I32, g.operand(Type.I32), largest)
    values = (g.operand(array.type),) if op is Op.SET_AT else ()
    g.emit(op, array.type, index, *values, aux=array)


def _local(g: Generator, op: Op) -> None:
    if not g.locals or g.random.random() < 0.3:
        type = g.random.choice(_INTEGERS)
        g.locals.append(g.b.local(type, g.operand(type), "x"))
    local = g.random.choice(g.locals)
    values = (g.operand(local.type),) if op is Op.LOCAL_SET else ()
    g.emit(op, local.type, *values, aux=local)


def _set_nzcv(g: Generator, op: Op) -> None:
    value = g.flag_value()
    g.emit(op, value.type, value)


def _flag_of(g: Generator, op: Op) -> None:
    g.emit(op, Type.I1, g.flag_value())


def _cond(g: Generator, op: Op) -> None:
    g.emit(op, Type.I1, aux=g.random.choice(list(FlagCondition)))


def _bits(g: Generator, op: Op) -> None:
    type = g.random.choice(_WORDS)
    lsb = g.random.randrange(type.bits)
    width = g.random.randrange(1, type.bits - lsb + 1)
    g.emit(op, type, *[g.operand(type) for _ in TABLE[op].operands], aux=(lsb, width))


def _bit(g: Generator, op: Op) -> None:
    g.emit(op, Type.I1, g.value(g.random.choice(_WORDS)), g.operand(Type.I32))


def _icmp(g: Generator, op: Op) -> None:
    type = g.random.choice(_INTEGERS)
    conditions = (Condition.EQ, Condition.NE) if type is Type.I1 else tuple(Condition)
    g.emit(op, Type.I1, g.value(type), g.operand(type), aux=g.random.choice(conditions))


def _width(g: Generator, op: Op) -> None:
    pairs = {
        Op.SEXT: ((Type.I32, Type.I64),),
        Op.ZEXT: ((Type.I1, Type.I32), (Type.I1, Type.I64), (Type.I32, Type.I64)),
        Op.TRUNC: ((Type.I64, Type.I32), (Type.I64, Type.I1), (Type.I32, Type.I1)),
        Op.BITCAST: ((Type.I32, Type.F32), (Type.F32, Type.I32), (Type.I64, Type.F64), (Type.F64, Type.I64)),
        Op.FCVT: ((Type.F32, Type.F64), (Type.F64, Type.F32)),
    }
    source, target = g.random.choice(pairs[op])
    g.emit(op, target, g.value(source))


def _memory(g: Generator, op: Op) -> None:
    type = g.random.choice(_WORDS)
    access = g.access(op, type)
    address = g.address(access)
    values = [g.operand(type) for kind in TABLE[op].operands[1:]]
    if op is Op.STORE_EXCLUSIVE:
        g.emit(op, Type.I32, address, g.value(type), aux=access)
    else:
        g.emit(op, type, address, *values, aux=access)
    if op is Op.LOAD_EXCLUSIVE and g.random.random() < 0.6:
        unordered = MemAccess(replace(access.memop, order=0), access.mmu_index)
        g.emit(Op.STORE_EXCLUSIVE, Type.I32, address, g.value(type), aux=unordered)


def _plain(g: Generator, op: Op) -> None:
    g.emit(op, Type.VOID)


def _barrier(g: Generator, op: Op) -> None:
    g.emit(op, Type.VOID, aux=MemoryOrder(g.random.randrange(16)))


def _fcmp(g: Generator, op: Op) -> None:
    type = g.random.choice(_FLOATS)
    g.emit(op, Type.I32, g.value(type), g.value(type), aux=g.random.choice(list(FloatCompare)))


def _ftoi(g: Generator, op: Op) -> None:
    source, target = g.random.choice(_FLOATS), g.random.choice(_WORDS)
    width = g.random.choice([width for width in (0, 0, 16, 32) if width <= target.bits])
    fraction = g.random.choice((0, 0, 0, 1, 16, 31))
    how = FloatToInt(g.random.random() < 0.5, g.random.choice(list(Rounding)), fraction, width)
    g.emit(op, target, g.value(source), aux=how)


def _itof(g: Generator, op: Op) -> None:
    source, target = g.random.choice(_WORDS), g.random.choice(_FLOATS)
    fraction = g.random.choice((0, 0, 0, 1, 16, 32))
    how = IntToFloat(g.random.random() < 0.5, fraction, g.random.choice((Rounding.CURRENT, Rounding.NEAREST)))
    g.emit(op, target, g.value(source), aux=how)


_EMIT: dict[Op, Callable[[Generator, Op], None]] = {
    Op.PC: _pc,
    Op.GET: _get,
    Op.SET: _set,
    Op.GET_AT: _element,
    Op.SET_AT: _element,
    Op.LOCAL_GET: _local,
    Op.LOCAL_SET: _local,
    Op.SET_NZCV: _set_nzcv,
    Op.COND: _cond,
    Op.CARRY_OF: _flag_of,
    Op.OVERFLOW_OF: _flag_of,
    **dict.fromkeys((Op.EXTRACT, Op.SEXTRACT, Op.DEPOSIT), _bits),
    Op.BIT: _bit,
    Op.ICMP: _icmp,
    **dict.fromkeys((Op.SEXT, Op.ZEXT, Op.TRUNC, Op.BITCAST, Op.FCVT), _width),
    **dict.fromkeys((Op.LOAD, Op.STORE, Op.LOAD_EXCLUSIVE, Op.STORE_EXCLUSIVE), _memory),
    **dict.fromkeys((Op.ATOMIC_CMPXCHG, Op.ATOMIC_XCHG, Op.ATOMIC_FETCH_ADD), _memory),
    **dict.fromkeys((Op.ATOMIC_FETCH_AND, Op.ATOMIC_FETCH_OR, Op.ATOMIC_FETCH_XOR), _memory),
    **dict.fromkeys((Op.ATOMIC_FETCH_SMIN, Op.ATOMIC_FETCH_SMAX, Op.ATOMIC_FETCH_UMIN, Op.ATOMIC_FETCH_UMAX), _memory),
    Op.CLEAR_EXCLUSIVE: _plain,
    Op.MB: _barrier,
    Op.FCMP: _fcmp,
    Op.FTOI: _ftoi,
    Op.ITOF: _itof,
}
_EMIT |= {
    op: _by_table
    for op, info in TABLE.items()
    if info.aux == "None" and info.operands and set(info.operands) <= set("vilba") and op not in _EMIT
    if not info.effects & Effect.EXIT
}

GENERATED = tuple(sorted(_EMIT))
"""Operations that ``focused_program`` takes. Only ``random_program`` has control flow."""


# -- reduction ---------------------------------------------------------------------------------------------------------


def reduced(
    function: Builder,
    still_fails: Callable[[Builder], bool],
    values_of: Callable[[Builder], Mapping[Instruction, int]] = lambda function: {},
) -> Builder:
    """The smallest function found, by leaving out instructions of ``function``, for which ``still_fails`` is true.

    ``still_fails`` gets only verified functions, but some may not end. ``values_of`` returns constants that may replace
    the results of a function's instructions; results without one are replaced by 0.
    """
    values = values_of(function)
    length = len(function.code)
    while length:
        at = len(function.code) - length
        progress = False
        while at >= 0:
            candidate = _without(function, range(at, at + length), values)
            if _valid(candidate) and still_fails(candidate):
                function, progress = candidate, True
                values = values_of(function)
            at -= length
        if not progress or length > len(function.code):
            length //= 2
    return function


def _valid(function: Builder) -> bool:
    try:
        verify(function)
    except VerifyError:
        return False
    return True


def _without(function: Builder, dropped: range, values: Mapping[Instruction, int]) -> Builder:
    """A copy of ``function`` in which the results of the dropped instructions are constants."""
    copy = Builder(function.word, function.nzcv)
    copy.locals = list(function.locals)
    new: dict[Instruction, Instruction] = {}
    for at, old in enumerate(function.code):
        if at in dropped:
            new[old] = Instruction(Op.CONST, old.type, (), values.get(old, 0))
            continue
        new[old] = Instruction(old.op, old.type, tuple(new.get(arg, arg) for arg in old.args), old.aux)
        copy.code.append(new[old])
    return copy
