# SPDX-License-Identifier: Apache-2.0
"""Host code of litmus tests: from machine code by a guest's front end, or from IR for guests without a front end."""

from __future__ import annotations

import functools
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from readback import GUEST_PAGE, Host, Program, Reader

from raddle.codegen.backend import BackEnd, CodegenConfig
from raddle.codegen.joiner import Joiner
from raddle.codegen.template import Block
from raddle.ir.builder import Builder, Value
from raddle.ir.opcodes import Op
from raddle.ir.types import Align, Field, MemOp, StateLayout, Type
from raddle.ir.verifier import verify
from raddle.litmus.assembly import ThreadCode, ThreadLayout, lacking
from raddle.litmus.executions import Outcome, outcomes
from raddle.litmus.guest import LitmusGuest
from raddle.litmus.models import Model
from raddle.litmus.parser import assigned
from raddle.litmus.program import (
    Atomic,
    Branch,
    Compute,
    Fence,
    Instruction,
    LitmusTest,
    Load,
    LoadLinked,
    Store,
    StoreConditional,
)
from raddle.ordering import MemoryOrder, missing
from raddle.translate.translator import Translator
from raddle_host_aarch64.memory_model import ARMV8 as ARMV8_MODEL
from raddle_host_x86_64.memory_model import X86_TSO

PC: Final = 0x8000
LINE: Final = 64
FIRST_PYTHON: Final = 4096
LD_LD, LD_ST, ST_LD, ST_ST = MemoryOrder.LD_LD, MemoryOrder.LD_ST, MemoryOrder.ST_LD, MemoryOrder.ST_ST
ACQUIRE, RELEASE = LD_LD | LD_ST, LD_ST | ST_ST


class HostLevel(NamedTuple):
    """A host with some features."""

    name: str
    reader: Host
    default_mo: MemoryOrder
    make: Callable[[CodegenConfig], BackEnd]
    model: Model
    strict: bool = False
    """With exact reservations."""

    @property
    def architecture(self) -> str:
        return self.name.partition(" ")[0]


def spelled(instruction: Instruction) -> str:
    """The kind of an instruction, as litmus tests spell it; the reader recognises exclusives by it."""
    match instruction:
        case Load(_, _, order, _):
            return f"r[{order}]"
        case Store(_, _, order, _):
            return f"w[{order}]"
        case Fence(kind):
            return f"f[{kind}]"
        case LoadLinked(_, _, order):
            return f"ll[{order}]"
        case StoreConditional(_, _, _, order):
            return f"sc[{order}]"
        case Atomic(_, _, operation, _, order):
            return f"rmw[{order}] {operation}"
    return "other"


def observing_everything(test: LitmusTest) -> LitmusTest:
    """The test, changed to observe all locations, and all registers that memory is read into."""
    names = [
        f"{number}:{register}"
        for number, code in enumerate(test.threads)
        for register in assigned(tuple(one for one in code if not isinstance(one, Compute)))
    ]
    return test._replace(observed=tuple(sorted((*names, *test.initial))))


class Compiler(NamedTuple):
    """A back end, and what makes its blocks: a Translator for a front end, a Joiner for IR."""

    backend: BackEnd
    maker: Any


class Guest(ABC):
    """A guest whose translations are checked."""

    name: str
    models: tuple[Model, ...]
    """Models of its memory; its translations must keep each of them."""
    default_mo: MemoryOrder
    """The order of plain accesses that its programs count on."""
    state: StateLayout
    word: Type = Type.I32
    page_bits: int = 12

    def backend(self, host: HostLevel, fenced: bool) -> BackEnd:
        fences = missing(self.default_mo, host.default_mo) if fenced else MemoryOrder.NONE
        return host.make(
            CodegenConfig(
                self.state,
                self.word,
                self.page_bits,
                lambda callee: 7,
                first_python=FIRST_PYTHON,
                fences=int(fences),
                strict=host.strict,
            )
        )

    @abstractmethod
    def runs(self, test: LitmusTest) -> bool:
        """Whether it has the instructions that the test needs."""

    @abstractmethod
    def compiler(self, host: HostLevel, fenced: bool) -> Compiler: ...

    @abstractmethod
    def program(self, test: LitmusTest, thread: int, compiler: Compiler, locations: Mapping[str, int]) -> Program: ...

    def readers(self, test: LitmusTest, host: HostLevel, fenced: bool) -> list[Reader]:
        """The test's threads as host code."""
        locations = {name: GUEST_PAGE + LINE * number for number, name in enumerate(test.initial)}
        compiler = self.compiler(host, fenced)
        return [
            Reader(host.reader, compiler.backend, self.program(test, thread, compiler, locations), locations)
            for thread in range(len(test.threads))
        ]


def spans(block: Block, labels: list[str]) -> list[tuple[int, int, str]]:
    """The hot part of each guest instruction of a block, with its label."""
    found, at = [], block.hot_start
    for label, (hot, *_) in zip(labels, struct.iter_unpack("<HHBBH", block.table), strict=False):
        found.append((at, at + hot, label))
        at += hot
    return found


class FrontEndGuest(Guest):
    """A guest that is installed: its front end translates its machine code."""

    def __init__(
        self,
        name: str,
        models: tuple[Model, ...],
        default_mo: MemoryOrder,
        litmus: LitmusGuest,
        front_end: Any,
        mode: int,
    ) -> None:
        self.name, self.models, self.default_mo = name, models, default_mo
        self.litmus, self.front_end, self.mode = litmus, front_end, mode
        self.state, self.word, self.page_bits = front_end.state, front_end.word, front_end.page_bits

    def runs(self, test: LitmusTest) -> bool:
        return not lacking(test, self.litmus)

    @functools.cache  # noqa: B019 - guests are constants
    def compiler(self, host: HostLevel, fenced: bool) -> Compiler:
        backend = self.backend(host, fenced)
        return Compiler(backend, Translator(self.front_end, backend, None))

    def program(self, test: LitmusTest, thread: int, compiler: Compiler, locations: Mapping[str, int]) -> Program:
        code, labels, where = self._machine_code(test, thread, dict(locations))
        blocks, pending = {}, [PC]
        end = PC + len(code)
        while pending:
            pc = pending.pop()
            if pc in blocks or not PC <= pc < end:
                continue
            block = compiler.maker.block(self.mode, code[pc - PC :], pc)
            size = sum(row[2] for row in struct.iter_unpack("<HHBBH", block.table))
            blocks[pc] = block.code, spans(block, [labels[(at - PC)] for at in self._starts(block, pc)])
            pending += [pc + size, *(at + PC for at in where)]
        registers = {
            name: self.state.fields[f"r{number}"]
            for name, number in self._thread(test, thread, dict(locations)).where.items()
            if f"{thread}:{name}" in test.observed
        }
        return Program(blocks, PC, end, registers)

    @staticmethod
    def _starts(block: Block, pc: int) -> list[int]:
        found = []
        for row in struct.iter_unpack("<HHBBH", block.table):
            found.append(pc)
            pc += row[2]
        return found

    def _thread(self, test: LitmusTest, thread: int, locations: dict[str, int]) -> ThreadCode:
        layout = ThreadLayout(thread, (), 0, 0, 0, locations, 0, 0)
        return ThreadCode(test, self.litmus, layout)

    def _machine_code(
        self, test: LitmusTest, thread: int, locations: dict[str, int]
    ) -> tuple[bytes, dict[int, str], set[int]]:
        """The thread's part of the test, what each byte of it belongs to, and the offsets that branches go to."""
        made = self._thread(test, thread, locations)
        labels: dict[int, str] = {}
        for name in made.locations:
            made.a.emit("constant", made.where[f"@{name}"], locations[name])
        starts = made.body(made.where["first"], made.where["second"])
        code = made.a.finish()
        for (start, instruction), end in zip(starts, [at for at, _ in starts[1:]] + [len(code)], strict=True):
            labels |= dict.fromkeys(range(start, end), spelled(instruction))
        labels = {at: labels.get(at, "other") for at in range(len(code))}
        targets = {starts[one.target][0] if one.target < len(starts) else len(code)
                   for _, one in starts if isinstance(one, Branch)}  # fmt: skip
        return code, labels, targets


# --- guests without a front end ---------------------------------------------------------------------------------------


def _state() -> StateLayout:
    layout = StateLayout()
    layout.array("r", Type.I32, 12, hot=tuple(range(12)))
    layout.nzcv = (
        layout.field("n", Type.I1),
        layout.field("z", Type.I1),
        layout.field("c", Type.I1),
        layout.field("v", Type.I1),
    )
    return layout


STATE: Final = _state()
INSTRUCTION_BYTES: Final = 4


class Mapped(NamedTuple):
    """How an instruction becomes IR: a barrier before it, its own order, a barrier after it."""

    before: MemoryOrder = MemoryOrder.NONE
    order: MemoryOrder = MemoryOrder.NONE
    after: MemoryOrder = MemoryOrder.NONE


class IrGuest(Guest):
    """A guest without a front end here: if a front end emitted this IR, it would keep its architecture's order."""

    state = STATE

    def __init__(
        self, name: str, models: tuple[Model, ...], default_mo: MemoryOrder, mapping: Mapping[str, Mapped]
    ) -> None:
        """`mapping` has all of the guest's instructions, as `spelled`."""
        self.name, self.models, self.default_mo, self.mapping = name, models, default_mo, mapping

    def runs(self, test: LitmusTest) -> bool:
        return all(spelled(one) in self.mapping for code in test.threads for one in code)

    @functools.cache  # noqa: B019 - guests are constants
    def compiler(self, host: HostLevel, fenced: bool) -> Compiler:
        backend = self.backend(host, fenced)
        return Compiler(backend, Joiner(backend))

    def program(self, test: LitmusTest, thread: int, compiler: Compiler, locations: Mapping[str, int]) -> Program:
        code = test.threads[thread]
        numbers: dict[str, Field] = {}

        def field(name: str) -> Field:
            return numbers.setdefault(name, STATE.arrays["r"][len(numbers)])

        blocks = {}
        joiner = compiler.maker
        entries = [self._template(one, at, compiler.backend, locations, field) for at, one in enumerate(code)]
        for start in range(len(code)):
            run = entries[start:]
            ends = next((n for n, template in enumerate(run) if template.ends), len(run) - 1)
            chosen = run[: ends + 1]
            block = joiner.join([joiner.enter(None, 0, one, ()) for one in chosen], PC + INSTRUCTION_BYTES * start)
            labels = [spelled(one) for one in code[start : start + len(chosen)]]
            blocks[PC + INSTRUCTION_BYTES * start] = block.code, spans(block, labels)
        for name in test.observed:
            if name.startswith(f"{thread}:"):
                field(name.partition(":")[2])
        registers = {name: one for name, one in numbers.items() if f"{thread}:{name}" in test.observed}
        return Program(blocks, PC, PC + INSTRUCTION_BYTES * len(code), registers)

    def _template(
        self, one: Instruction, at: int, backend: BackEnd, locations: Mapping[str, int], field: Callable[[str], Field]
    ) -> Any:
        b = Builder(Type.I32, STATE.nzcv)
        mapped = self.mapping[spelled(one)]
        if mapped.before:
            b.mb(mapped.before)
        self._emit(b, one, at, MemOp(4, align=Align.NATURAL, order=int(mapped.order)), locations, field)
        if mapped.after:
            b.mb(mapped.after)
        verify(b)
        return backend.template(b.code, b.locals, INSTRUCTION_BYTES, 0, 0)

    def _emit(
        self, b: Builder, one: Instruction, at: int, memop: MemOp, locations: Mapping[str, int],
        field: Callable[[str], Field],
    ) -> None:  # fmt: skip
        def value(operand: int | str) -> Value:
            return b.const(operand) if isinstance(operand, int) else b.get(field(operand))

        def address(location: str, offset: str | None = None) -> Value:
            base = b.const(locations[location])
            return base if offset is None else b.add(b.get(field(offset)), base)

        match one:
            case Load(register, location, _, offset):
                b.set(field(register), b.load(address(location, offset), memop, 0))
            case Store(location, operand, _, offset):
                b.store(address(location, offset), value(operand), memop, 0)
            case LoadLinked(register, location, _):
                b.set(field(register), b.load_exclusive(address(location), memop, 0))
            case StoreConditional(status, location, operand, _):
                b.set(field(status), b.store_exclusive(address(location), value(operand), memop, 0))
            case Atomic(register, location, "cas", (expected, new), _):
                old = b.atomic_cmpxchg(address(location), value(expected), value(new), memop, 0)
                b.set(field(register), old)
            case Atomic(register, location, operation, (operand,), _):
                op = {"add": Op.ATOMIC_FETCH_ADD, "xchg": Op.ATOMIC_XCHG}[operation]
                b.set(field(register), b.atomic(op, address(location), value(operand), memop, 0))
            case Compute(register, "mov", (operand,)):
                b.set(field(register), value(operand))
            case Compute(register, operation, (first, second)):
                make = {"add": b.add, "and": b.and_, "xor": b.xor}[operation]
                b.set(field(register), make(value(first), value(second)))
            case Branch(register, target):
                with b.if_(b.ne(b.get(field(register)), 0)):
                    b.goto(INSTRUCTION_BYTES * (target - at))
                b.goto(INSTRUCTION_BYTES)


NOTHING: Final = Mapped()
PLAIN: Final = {"r[]": NOTHING, "w[]": NOTHING, "other": NOTHING}
ALL: Final = MemoryOrder.ALL
ATOMICS: Final = ("add", "xchg", "cas")

X86_GUEST: Final = IrGuest(
    "x86",
    (X86_TSO,),
    ALL & ~ST_LD,
    {**PLAIN, "f[mb]": Mapped(ALL), **{f"rmw[] {one}": Mapped(ST_LD, ACQUIRE | RELEASE, ST_LD) for one in ATOMICS}},
)
"""Plain accesses are in total store order. MFENCE is a barrier. Locked instructions are full barriers; the IR's atomic
operations are not, so barriers stand around them."""

ARMV8: Final = IrGuest(
    "armv8",
    (ARMV8_MODEL,),
    MemoryOrder.NONE,
    {
        **PLAIN,
        "f[mb]": Mapped(ALL),
        "f[rmb]": Mapped(LD_LD | LD_ST),
        "f[wmb]": Mapped(ST_ST),
        "r[acquire]": Mapped(ST_LD, ACQUIRE),
        "r[acquirepc]": Mapped(order=ACQUIRE),
        "w[release]": Mapped(order=RELEASE),
        "ll[]": NOTHING,
        "sc[]": NOTHING,
        **{f"rmw[] {one}": NOTHING for one in ATOMICS},
    },
)
"""LDAR, LDAPR and STLR. LDAR may not pass an earlier STLR, but an acquire of the IR may, so a barrier precedes it."""


def allowed_by_guest(test: LitmusTest, memory: Model) -> frozenset[Outcome]:
    return outcomes(test.initial, test.programs(), memory.allows)


def allowed_by_host(
    test: LitmusTest, readers: list[Reader], host: HostLevel, unless: frozenset[Outcome] = frozenset()
) -> frozenset[Outcome]:
    """The outcomes besides those in `unless`."""
    allows = host.model.allows
    return outcomes(test.initial, readers, lambda one: one.frame.outcome(one) not in unless and allows(one))
