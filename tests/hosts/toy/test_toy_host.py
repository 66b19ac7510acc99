# SPDX-License-Identifier: Apache-2.0
"""A host that has nothing in common with x86-64 joins, renames, chains and runs blocks on the runtime as it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from struct import iter_unpack
from typing import Any

import pytest
from raddle.runtime._native import ffi, lib

from raddle.accel import Decision, Mode
from raddle.codegen.allocation import Allocation, CodegenError
from raddle.codegen.backend import CodegenConfig, JoinRules
from raddle.codegen.fields import Chaining, Shape
from raddle.debug.instruments import Instruments
from raddle.errors import MachineError
from raddle.ir.builder import Instruction
from raddle.ir.opcodes import Op
from raddle.ir.types import Type
from raddle.memory import AddressSpace
from raddle.ordering import MemoryOrder
from raddle.threads.engine import Engine

sys.path.insert(0, str(Path(__file__).parent))
import toy_guest
import toy_host
from toy_guest import encode

CODE = 0x12345000
CODE_SIZE = 0x3000
M32 = (1 << 32) - 1
LOOP = [
    encode("MOVI", d=1, i=100),
    encode("ADDI", d=0, a=0, i=5),
    encode("ADDW", d=6, a=6, i=-9000),
    encode("ADDI", d=1, a=1, i=-1),
    encode("BNE", a=1, b=7, i=-3),
    encode("STOP"),
]
"""Adds 500 to r0 and subtracts 900 000 from r6."""


class Machine:
    """One vCPU, which runs until STOP."""

    def __init__(self, host: type[toy_host.ToyBackEnd] = toy_host.ToyBackEnd) -> None:
        self.memory = AddressSpace()
        self.memory.add_ram("code", CODE, CODE_SIZE)
        self.engine = Engine(toy_guest.ToyGuest(), host, Decision(Mode.MULTI, ("a test",)), self.memory, 1)
        self.interpreter = toy_host.Interpreter(toy_guest.STATE, self._at_leave)
        self.cpu = self.engine.cpus[0]
        lib.raddle_set_enter(self.engine.context, ffi.cast("void *", self.interpreter.entered))

    def close(self) -> None:
        self.engine.close()
        self.memory.close()

    def write(self, program: list[int], at: int = CODE) -> None:
        self.memory.write(at, b"".join(word.to_bytes(4, "little") for word in program))

    def _at_leave(self) -> None:
        pc = int(self.cpu.header.pc)
        if CODE <= pc < CODE + CODE_SIZE and self.memory.read(pc, 4) == encode("STOP").to_bytes(4, "little"):
            lib.raddle_stop(self.engine.context)

    def run(self, pc: int = CODE) -> list[int]:
        """Run until the next instruction is STOP; the registers then."""
        self.cpu.header.powered_off = 0
        self.cpu["pc"] = pc
        while (reason := lib.raddle_run(self.cpu.env)) != lib.RADDLE_STOP:
            if reason == lib.RADDLE_MISS:
                self.engine.translator.miss(self.cpu.env)
            elif reason == lib.RADDLE_WORK:
                self.cpu.drain()
            else:
                raise AssertionError(reason)
        lib.raddle_go(self.engine.context)
        return [self.cpu[f"r{number}"] for number in range(8)]

    @property
    def lookups(self) -> int:
        return int(self.cpu.header.count_lookup)

    @property
    def chains(self) -> int:
        return int(self.cpu.header.count_chain)


@pytest.fixture
def make() -> Iterator[Callable[..., Machine]]:
    machines: list[Machine] = []

    def made(host: type[toy_host.ToyBackEnd] = toy_host.ToyBackEnd) -> Machine:
        machines.append(Machine(host))
        return machines[-1]

    yield made
    for machine in machines:
        machine.close()


def interpreted(program: list[int], registers: list[int]) -> list[int]:
    """What the guest's manual would say of a program with no jumps but forward."""
    r, at = list(registers), 0
    while program[at] != encode("STOP"):
        w = program[at]
        name, d, a, b = toy_guest.NAMES[(w >> 24) - 1], w >> 20 & 15, w >> 16 & 15, w >> 12 & 15
        wide, short = toy_guest.signed(w & 0xFFFF), toy_guest.small(w & 0xFFF)
        at += wide if name == "JUMP" or (name in ("BNE", "TNE") and r[a] != r[d]) else 1
        match name:
            case "MOVI":
                r[d] = wide & M32
            case "ADDI":
                r[d] = r[a] + short & M32
            case "ADDW":
                r[d] = r[a] + wide & M32
            case "ADD":
                r[d] = r[a] + r[b] & M32
            case "XOR":
                r[d] = r[a] ^ r[b]
    return r


def random_program(random: Random, length: int) -> list[int]:
    program = []
    for left in range(length, 0, -1):
        name = random.choice(("MOVI", "ADDI", "ADDW", "ADD", "XOR", "BNE", "TNE", "JUMP"))
        d, a, b = (random.randrange(8) for _ in range(3))
        forward = name in ("BNE", "TNE", "JUMP")
        program.append(encode(name, d, a, b, random.randint(1, min(left, 5)) if forward else random.getrandbits(16)))
    return [*program, *[encode("STOP")] * 6]


def test_blocks_are_joined_and_run(make: Callable[..., Machine]) -> None:
    """Literals, branches taken or not, ends of blocks: what programs compute is what they should."""
    machine = make()
    for seed in range(20):
        random = Random(seed)
        program = random_program(random, 60)
        registers = [random.getrandbits(32) for _ in range(8)]
        machine.write(program)
        for number, value in enumerate(registers):
            machine.cpu[f"r{number}"] = value
        assert machine.run() == interpreted(program, registers), f"seed {seed}"


def choosing(choice: Allocation) -> type[toy_host.ToyBackEnd]:
    """The host, which chooses registers in this way."""

    class Choosing(toy_host.ToyBackEnd):
        def __init__(self, config: CodegenConfig) -> None:
            super().__init__(config._replace(allocation=choice))

    return Choosing


@pytest.mark.parametrize("choice", Allocation, ids=lambda choice: choice.name.lower())
def test_whatever_registers_values_get(make: Callable[..., Machine], choice: Allocation) -> None:
    """Of both classes; where all are spilled, by way of the frame."""
    machine = make(choosing(choice))
    random = Random(1)
    program = random_program(random, 60)
    of_bank = [10 << 24 | x << 18 | y << 12 | z << 6 for x, y, z in ((1, 2, 3), (1, 1, 2), (2, 3, 2), (4, 4, 4))]
    registers = [random.getrandbits(32) for _ in range(8)]
    bank = [random.getrandbits(32) for _ in range(5)]
    machine.write([*of_bank, *program])
    for name, values in (("r", registers), ("f", bank)):
        for number, value in enumerate(values):
            machine.cpu[f"{name}{number}"] = value
    assert machine.run() == interpreted(program, registers)
    one = bank[2] ^ bank[3]
    one ^= bank[2]
    assert [machine.cpu[f"f{number}"] for number in range(5)] == [bank[0], one, bank[3] ^ bank[2], bank[3], 0]


@pytest.mark.parametrize(("choice", "spills"), [(Allocation.USUAL, 0), (Allocation.SPILLING, 1)])
def test_a_value_of_the_second_bank_is_in_a_register_of_its_class(
    make: Callable[..., Machine], choice: Allocation, spills: int
) -> None:
    """The control of the test above: what is computed, and stored to the frame when it is spilled."""
    translator = make(choosing(choice)).engine.translator
    block = translator.instruction(0, 10 << 24 | 1 << 18 | 2 << 12 | 3 << 6, 4, 0, CODE)
    words = [bits for (bits,) in iter_unpack("<I", block.code[block.hot_start :])]
    assert [bits >> 24 for bits in words].count(toy_host.BankOp.XOR) == 1
    in_frame = [bits for bits in words if bits >> 24 == toy_host.BankOp.STORE and bits >> 14 & 31 == toy_host.FRAME]
    assert len(in_frame) == spills


def test_a_literal_that_is_always_small_takes_one_instruction(make: Callable[..., Machine]) -> None:
    translator = make().engine.translator
    sizes = {}
    for name in ("ADDI", "ADDW"):
        block = translator.instruction(0, encode(name, 1, 2, i=7), 4, 0, CODE)
        sizes[name] = int.from_bytes(block.table[:2], "little") // 4
    assert sizes == {"ADDI": 1, "ADDW": 3}


def test_jumps_are_chained(make: Callable[..., Machine]) -> None:
    """A loop of a hundred rounds leaves its blocks a few times."""
    machine = make()
    machine.write(LOOP)
    assert machine.run()[0] == 500
    assert machine.cpu["r6"] == -900_000 & M32
    assert machine.chains >= 1
    assert machine.lookups < 20


class WithoutChains(toy_host.ToyBackEnd):
    """Exits have not the shape that is chained."""

    chaining = Chaining(toy_host.NEAR, span=4)


class WithShortBranches(toy_host.ToyBackEnd):
    """A branch reaches 64 bytes."""

    far = 5


def test_without_chains_each_round_leaves_its_block(make: Callable[..., Machine]) -> None:
    """The control, by a declaration."""
    machine = make(WithoutChains)
    machine.write(LOOP)
    assert machine.run()[0] == 500
    assert machine.chains == 0
    assert machine.lookups > 100


@pytest.mark.parametrize(("host", "chains"), [(toy_host.ToyBackEnd, 3), (WithShortBranches, 2)])
def test_a_jump_that_does_not_reach_is_not_chained(
    make: Callable[..., Machine], host: type[toy_host.ToyBackEnd], chains: int
) -> None:
    """Three blocks in a circle: from the last one to the first there is a long one in between."""
    machine = make(host)
    middle, last = CODE + 0x400, CODE + 0x800
    machine.write([encode("ADDI", d=0, a=0, i=1), encode("JUMP", i=0x400 // 4 - 1)])
    machine.write([*[encode("ADDI", d=2, a=2, i=1)] * 20, encode("JUMP", i=0x400 // 4 - 20)], at=middle)
    machine.write(
        [encode("ADDI", d=1, a=1, i=-1), encode("BNE", a=1, b=7, i=-(0x800 // 4 + 1)), encode("STOP")], at=last
    )
    machine.cpu["r1"] = 50
    assert machine.run()[:3] == [50, 0, 1000]
    assert machine.chains == chains


def test_a_chained_jump_is_aimed_at_its_stub_when_its_target_dies(make: Callable[..., Machine]) -> None:
    machine = make()
    machine.write(LOOP)
    machine.run()
    chains = machine.chains
    machine.write([encode("ADDI", d=0, a=0, i=7)], at=CODE + 4)  # in the loop's body
    machine.cpu["r0"] = 0
    assert machine.run()[0] == 700
    assert machine.chains > chains


def test_words_that_differ_in_registers_are_renamed(make: Callable[..., Machine]) -> None:
    """The runtime's code for other registers is what compiling them gives; most of it has not been compiled."""

    class Compiles(toy_host.ToyBackEnd):
        renames = False

    renamed, compiled = (make(host).engine.translator for host in (toy_host.ToyBackEnd, Compiles))
    random = Random(0)
    for _ in range(400):
        name = random.choice(("MOVI", "ADDI", "ADDW", "ADD", "XOR", "BNE", "TNE"))
        d, a, b = (random.randrange(8) for _ in range(3))
        word = encode(name, d, a, b, random.getrandbits(16))
        one, other = (translator.instruction(0, word, 4, 0, CODE) for translator in (renamed, compiled))
        assert (one.code, one.table) == (other.code, other.table), f"{name} {d} {a} {b}"
    assert renamed.statistics()["compiled"] < 80
    assert compiled.statistics()["compiled"] > 200


def test_a_second_bank_is_renamed_within_itself(make: Callable[..., Machine]) -> None:
    """Its registers have numbers beyond 32, and a place of their own kind."""
    machine = make()
    translator, random = machine.engine.translator, Random(0)
    names = [random.sample(range(40), 3) for _ in range(100)]
    program = [10 << 24 | x << 18 | y << 12 | z << 6 for x, y, z in names]
    machine.write([*program, encode("STOP")])
    values = [random.getrandbits(32) for _ in range(40)]
    for number, value in enumerate(values):
        machine.cpu[f"f{number}"] = value
    machine.run()
    for x, y, z in names:
        values[x] = values[y] ^ values[z]
    assert [machine.cpu[f"f{number}"] for number in range(40)] == values
    assert translator.statistics()["words"] >= 100
    assert translator.statistics()["compiled"] < 5


class WithNearBranches(toy_host.ToyBackEnd):
    """A conditional branch reaches the cold part of a short block only."""

    near = 7


@pytest.mark.parametrize(("host", "blocks"), [(toy_host.ToyBackEnd, 1), (WithNearBranches, 2)])
def test_a_block_is_as_long_as_its_fields_reach(
    make: Callable[..., Machine], host: type[toy_host.ToyBackEnd], blocks: int
) -> None:
    """Thirty branches that are not taken: their cold parts lie behind all of the hot ones."""
    machine = make(host)
    program = [encode("TNE", a=n % 8, b=n % 8, i=40) for n in range(30)]
    machine.write([*program, encode("ADDI", d=0, a=0, i=3), encode("STOP"), *[encode("STOP")] * 40])
    lengths: list[int] = []
    Instruments(machine.engine).hooks.add_translation(lambda trace: lengths.append(len(trace.words)))
    assert machine.run()[0] == 3
    assert (len(lengths) > 1) == (blocks > 1)
    assert sum(lengths) >= 31


class WithNoBranches(toy_host.ToyBackEnd):
    near = 1


def test_one_instruction_whose_fields_do_not_reach(make: Callable[..., Machine]) -> None:
    machine = make(WithNoBranches)
    machine.write([encode("BNE", a=0, b=1, i=40)])
    with pytest.raises(MachineError, match=r"a field does not hold its value: source COLD, shape 1 \(1 bit from"):
        machine.run()


def with_shape(number: int, shape: Shape) -> type[toy_host.ToyBackEnd]:
    """The host, which has this shape by mistake."""

    class Mistaken(toy_host.ToyBackEnd):
        def rules(self) -> JoinRules:
            rules = super().rules()
            return rules._replace(shapes=tuple(shape if n == number else one for n, one in enumerate(rules.shapes)))

    return Mistaken


def test_a_shape_too_narrow_for_a_literal_is_refused(make: Callable[..., Machine]) -> None:
    """The literal at hand would fit, and those of other words that share the template would be cut."""
    machine = make(with_shape(toy_host.IMMEDIATE, Shape(4, ((0, 6),))))
    machine.write([encode("ADDI", d=0, a=0, i=5)])
    with pytest.raises(MachineError, match=f"makes code that is refused: shape {toy_host.IMMEDIATE} leaves out bits"):
        machine.run()


def test_a_shape_too_narrow_for_an_address_is_refused(make: Callable[..., Machine]) -> None:
    piece = toy_host.IMMEDIATE + 2
    message = f"its rules are refused: in stub leave shapes {piece - 1}, {piece}"
    message = f"^the host's package tests does not set its back end up: {message} leave out bits 28 to 31 of a guest"
    with pytest.raises(MachineError, match=message):
        make(with_shape(piece, Shape(4, ((0, 12),), scale=16)))


@pytest.mark.parametrize("flushes", [0, 3])
def test_each_flush_is_told_once_to_what_runs_on(make: Callable[..., Machine], flushes: int) -> None:
    machine = make()
    told: list[int] = []
    synchronise: Any = ffi.callback("void(void)", lambda: told.append(machine.interpreter.instructions))
    lib.raddle_set_synchronise(machine.engine.context, ffi.cast("void *", synchronise))
    machine.write(LOOP)
    for number in range(3):
        machine.cpu["r0"] = 0
        assert machine.run()[0] == 500
        if number < flushes:
            ran = machine.interpreter.instructions
            lib.raddle_code_flush(machine.engine.context, lib.raddle_code_generation(machine.engine.context))
            assert machine.run()[0] == 1000
            assert told[number:] == [ran]
    assert len(told) == flushes


def test_an_operation_that_the_host_has_not_is_named(make: Callable[..., Machine]) -> None:
    """By the error that its compilation ends with."""
    backend = make().engine.translator.backend
    template = backend.template([Instruction(Op.MB, Type.VOID, (), MemoryOrder.ALL)], [], 4, 0, 0)
    with pytest.raises(CodegenError, match="the host emits no mb"):
        template.variant(0, False)
