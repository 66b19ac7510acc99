# SPDX-License-Identifier: Apache-2.0
"""A dozen instructions of RV32IMAC, with the real encodings: against Unicorn, and on the host against the interpreter.

They have what ARM's do not: the low half first, fields that cross the halves, a register that is always zero, and
atomic minimum and maximum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any, Final

import pytest
from tests.core.mixed_guest import WIDE, stop, tlb_fill

from raddle.codegen.backend import BackEnd
from raddle.errors import PluginError, UsageError
from raddle.ir.builder import Builder, Value, python
from raddle.ir.header import COMMON
from raddle.ir.opcodes import Op
from raddle.ir.types import Align, Hole, MemOp, StateLayout, Type
from raddle.plugins import registry
from raddle.testing.differential import Case, Interpreted, check
from raddle.testing.guest_runs import HostRunner
from raddle.testing.target_contract import Encodings, TargetContract
from raddle.testing.unicorn_reference import UnicornReference
from raddle.translate.decode import Fields, Linear, Pattern, Table
from raddle.translate.frontend import FrontEnd, InstructionSet
from raddle.translate.sharing import Sharing

STATE: Final = StateLayout()
X: Final = STATE.array("x", Type.I32, 32, hot=(-1, *range(31)))
NAMES: Final = tuple(f"x{number}" for number in range(1, 32))

LONG: Final = """
LUI       iiiiiiiiiiiiiiiiiiii ddddd 0110111         imm~upper(i)
ADDI      iiiiiiiiiiii aaaaa 000 ddddd 0010011       imm~signed12(i)
ADD       0000000 bbbbb aaaaa 000 ddddd 0110011
SUB       0100000 bbbbb aaaaa 000 ddddd 0110011
LW        iiiiiiiiiiii aaaaa 010 ddddd 0000011       imm~signed12(i)
SW        iiiiiii bbbbb aaaaa 010 jjjjj 0100011      imm~joined(i,j)
AMOMIN    10000-- bbbbb aaaaa 010 ddddd 0101111
AMOMAX    10100-- bbbbb aaaaa 010 ddddd 0101111
AMOMINU   11000-- bbbbb aaaaa 010 ddddd 0101111
AMOMAXU   11100-- bbbbb aaaaa 010 ddddd 0101111
"""
SHORT: Final = """
C_ADDI    000 i ddddd jjjjj 01      imm~signed6(i,j)
C_MV      100 0 ddddd bbbbb 10      d!=0 b!=0
C_ADD     100 1 ddddd bbbbb 10      d!=0 b!=0
"""
FUNCTIONS: Final = {
    "upper": Linear(lambda i: i << 12),
    "signed12": Linear(lambda i: i - 4096 if i & 2048 else i),
    "joined": Linear(lambda i, j: (i - 128 if i & 64 else i) << 5 | j),
    "signed6": Linear(lambda i, j: j - 32 * i),
}
WORD: Final = MemOp(4)
ATOMIC: Final = MemOp(4, align=Align.NATURAL)
AMO: Final = {
    "AMOMIN": Op.ATOMIC_FETCH_SMIN,
    "AMOMAX": Op.ATOMIC_FETCH_SMAX,
    "AMOMINU": Op.ATOMIC_FETCH_UMIN,
    "AMOMAXU": Op.ATOMIC_FETCH_UMAX,
}


def read(b: Builder, number: int) -> Value:
    return b.get(X[number]) if number else b.const(0)


def write(b: Builder, number: int, value: Value) -> None:
    if number:
        b.set(X[number], value)


def atomic(op: Op) -> Callable[[Builder, Fields], None]:
    return lambda b, f: write(b, f.d, b.atomic(op, read(b, f.a), read(b, f.b), ATOMIC, 0))


SEMANTICS: Final[dict[str, Callable[[Builder, Fields], None]]] = {
    "LUI": lambda b, f: write(b, f.d, b.const(f.imm)),
    "ADDI": lambda b, f: write(b, f.d, b.add(read(b, f.a), f.imm)),
    "ADD": lambda b, f: write(b, f.d, b.add(read(b, f.a), read(b, f.b))),
    "SUB": lambda b, f: write(b, f.d, b.sub(read(b, f.a), read(b, f.b))),
    "LW": lambda b, f: write(b, f.d, b.load(b.add(read(b, f.a), f.imm), WORD, 0)),
    "SW": lambda b, f: b.store(b.add(read(b, f.a), f.imm), read(b, f.b), WORD, 0),
    "C_ADDI": lambda b, f: write(b, f.d, b.add(read(b, f.d), f.imm)),
    "C_MV": lambda b, f: write(b, f.d, read(b, f.b)),
    "C_ADD": lambda b, f: write(b, f.d, b.add(read(b, f.d), read(b, f.b))),
    **{name: atomic(op) for name, op in AMO.items()},
}


class Instructions(InstructionSet):
    unit = 2
    wide = WIDE

    def __init__(self) -> None:
        self.decoders = {
            size: Table.parse(text, f"rv{8 * size}", 8 * size, FUNCTIONS).compile()
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
            return 0
        fields = pattern.fields(word)
        fields.__dict__.update(operands or {})
        SEMANTICS[pattern.name](b, fields)
        return 0

    def sharing(self, pattern: Pattern) -> Sharing:
        return Sharing(pattern, sorted({"a", "b", "d"} & pattern.operands()), mode_class=0)


class RiscV(FrontEnd):
    name = "riscv"
    word = Type.I32
    page_bits = 12
    mmu_indices = 1
    state = STATE
    mode_masks = (0,)
    registers = (None, *X.elements[1:])
    routines = {"tlb_fill": tlb_fill}
    python_helpers = {"fault": stop, "undefined": stop, "interrupt": lambda cpu, pending: 0}

    def __init__(self) -> None:
        self.instructions = Instructions()

    def instruction_set(self, mode: int) -> Instructions:
        return self.instructions

    def reset(self, cpu: Any, entry: int, argument: int) -> None:
        for register in X:
            cpu[register.name] = 0
        cpu["x10"], cpu["pc"], cpu["mode"] = argument, entry, 0


FRONT_END: Final = RiscV()
ENCODINGS: Final = tuple(
    Encodings(f"rv{8 * size}", decoder, size, modes=(0,)) for size, decoder in FRONT_END.instructions.decoders.items()
)
LINES: Final = [
    pytest.param(table, pattern, id=pattern.name) for table in ENCODINGS for pattern in table.decoder.patterns
]


class Contract(TargetContract):
    target = "riscv"
    encodings = ENCODINGS
    fills = 40


@pytest.fixture(scope="module")
def host() -> Iterator[HostRunner]:
    try:
        back_end: type[BackEnd] = registry().load(registry().host_for())
    except (UsageError, PluginError) as error:
        pytest.skip(str(error))
    runner = HostRunner(FRONT_END, back_end)
    yield runner
    runner.close()


@pytest.mark.parametrize("table", ENCODINGS, ids=lambda table: table.name)
def test_the_first_unit_tells_the_length(table: Encodings) -> None:
    Contract().test_the_first_unit_tells_the_length(table, FRONT_END)


@pytest.mark.parametrize(("table", "pattern"), LINES)
def test_host_and_interpreter_do_the_same(table: Encodings, pattern: Pattern, host: HostRunner) -> None:
    Contract().test_translation(table, pattern, FRONT_END)
    Contract().test_execution(table, pattern, host)


CODE, DATA, SIZE = 0x1000, 0x10000, 64
EDGES: Final = (0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
"""Of the data memory, and of memory's and registers' values."""


def value(random: Random) -> int:
    return random.choice((random.choice(EDGES), random.getrandbits(32)))


def cases(table: Encodings, pattern: Pattern, random: Random) -> Iterator[Case]:
    """Words of a line, with registers that lead into the data memory, before an ADDI in the middle of a unit of 4."""
    for _ in range(60):
        word = pattern.value | random.getrandbits(pattern.width) & ~pattern.mask
        values = pattern.values(word)
        memory = pattern.name in ("LW", "SW", *AMO)
        if table.decoder.decode(word) is not pattern or (memory and not values["a"]):
            continue
        registers = {name: value(random) for name in NAMES}
        if memory:
            place = DATA + random.randrange(0, SIZE - 3, 4)
            registers[f"x{values['a']}"] = place - values.get("imm", 0) & 0xFFFF_FFFF
        code = FRONT_END.instructions.encoded(word, table.size) + (0x0013_0313).to_bytes(4, "little")
        data = b"".join(value(random).to_bytes(4, "little") for _ in range(SIZE // 4))
        yield Case(code, CODE, registers, {DATA: data}, steps=2)


@pytest.mark.peer("unicorn")
@pytest.mark.parametrize(("table", "pattern"), LINES)
def test_agrees_with_unicorn(table: Encodings, pattern: Pattern) -> None:
    reference = UnicornReference("riscv", "UC_MODE_RISCV32", NAMES)
    assert check(Interpreted(FRONT_END, NAMES), reference, cases(table, pattern, Random(pattern.name))) > 20
