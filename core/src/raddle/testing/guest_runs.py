# SPDX-License-Identifier: Apache-2.0
"""Runs single guest instructions and routines twice: in the IR interpreter, and as host code on the real runtime.

Both runs have the same start and the same surroundings, so that they test only the guest's semantics. The guest's only
memory is ``ARENA``, through an identity mapping. A fault is recorded and ends the run. All callees of the IR (native
helpers, routines, Python helpers) are replaced by stubs. A stub records the call and returns a number that depends on
its name and on how many calls came before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from zlib import crc32

from raddle.accel import Decision, Mode
from raddle.codegen.backend import BackEnd
from raddle.ir.builder import Builder, Callee, CalleeKind, Instruction, Label, Local, native
from raddle.ir.header import COMMON
from raddle.ir.interpreter import CpuState, Leave, Outcome, PlainCallee, interpret
from raddle.ir.opcodes import Op
from raddle.ir.types import Condition, Field, Hole, Type
from raddle.memory import AddressSpace
from raddle.runtime import helpers
from raddle.runtime._native import ffi, lib
from raddle.testing.generate import ARENA_BASE
from raddle.testing.ir_programs import ArenaMemory, memory_differences
from raddle.threads.engine import Engine
from raddle.translate.decode import Pattern
from raddle.translate.frontend import ACCESS_FETCH, FAULT_ALIGNMENT, FrontEnd, InstructionSet
from raddle.translate.sharing import Sharing

ARENA: Final = ARENA_BASE
"""The address of the guest's memory, which has ``ARENA_PAGES`` of the guest's pages."""
ARENA_PAGES: Final = 3
CODE: Final = 0x1000_0000
"""The address of the page with the instruction, which is at the page's end, so that its block has no other one."""

READ_WRITE, EXECUTE = 3, 4
NO_TRANSLATION: Final = 1

RESULT_FIELDS: Final = ("mode", "fp_flags", "exclusive_address", "halted", "insn_extra")
"""Fields of the common header that are compared after a run."""

CLEARED_FIELDS: Final = (
    "fp_rounding",
    "fp_flush",
    "fp_default_nan",
    "event",
    "exit_now",
    "interrupt_mask",
    "powered_off",
)
"""Fields that are 0 at the start, like those of RESULT_FIELDS, unless the `Start` has another value."""


@dataclass(frozen=True, slots=True)
class Start:
    """The state before a run: the guest's state, fields of the common header, and the arena's content."""

    state: bytes
    header: Mapping[str, int]
    memory: bytes


@dataclass(frozen=True, slots=True)
class Finish:
    """The state after a run. ``pc`` is the address of the next instruction; after a fault, of the instruction itself.

    ``calls`` has the callees' names and arguments. On the host, further values may follow the arguments, which the call
    does not use. ``fault`` is the access (0 read, 1 write) and whether it was misaligned.
    """

    pc: int
    fault: tuple[int, bool] | None
    state: bytes
    header: Mapping[str, int]
    memory: bytes
    calls: tuple[tuple[str, tuple[int, ...]], ...]
    result: int | None = None
    endless: bool = False
    """The instruction jumps to itself, or halts the vCPU, so it cannot be run on the host."""
    to_loop: bool = False
    """In the interpreter: the execution loop comes next, which looks for interrupts."""


# -- stubs -------------------------------------------------------------------------------------------------------------


@dataclass
class _Calls:
    """Records calls, and returns their results."""

    made: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)

    def stub(self, name: str) -> Callable[..., int]:
        # The engine asks the signature how many values to pass, and always passes that many.
        def call(
            cpu: Any, a0: int | None = None, a1: int | None = None, a2: int | None = None, a3: int | None = None
        ) -> int:
            self.made.append((name, tuple(value for value in (a0, a1, a2, a3) if value is not None)))
            return crc32(f"{name} {len(self.made)}".encode())

        return call


def _replaced(callee: Callee) -> Callee:
    return Callee(CalleeKind.PYTHON, f"{callee.kind.name.lower()} {callee.name}", callee.may_exit, callee.pure_state)


def replace_callees(function: Builder, start: int = 0) -> None:
    """Replace the callees of calls, from instruction number ``start`` on, by stubs."""
    for instruction in function.code[start:]:
        if instruction.op is Op.CALL:
            assert isinstance(instruction.aux, Callee)
            instruction.aux = _replaced(instruction.aux)


def callees(guest: FrontEnd) -> list[Callee]:
    """All callees that the IR of ``guest`` may have."""
    tables = (
        (CalleeKind.NATIVE, helpers.NUMBER),
        (CalleeKind.ROUTINE, guest.routines),
        (CalleeKind.PYTHON, guest.python_helpers),
    )
    return [Callee(kind, name) for kind, table in tables for name in table]


class _Instructions(InstructionSet):
    """A guest's instruction set, with stubs for the callees of its instructions."""

    def __init__(self, guest: InstructionSet) -> None:
        self._guest = guest
        self.unit = guest.unit
        self.wide = guest.wide

    def decode(self, word: int, size: int) -> Pattern | None:
        return self._guest.decode(word, size)

    def translate(
        self,
        b: Builder,
        pattern: Pattern | None,
        word: int,
        decode_state: int,
        mode: int,
        operands: Mapping[str, int | Hole] | None = None,
    ) -> int:
        start = len(b.code)
        following = self._guest.translate(b, pattern, word, decode_state, mode, operands)
        replace_callees(b, start)
        return following

    def sharing(self, pattern: Pattern) -> Sharing | None:
        return self._guest.sharing(pattern)


class Surroundings(FrontEnd):
    """``guest`` as a front end that reaches only the arena, the code and stubs."""

    def __init__(self, guest: FrontEnd) -> None:
        self.guest = guest
        self.name = guest.name
        self.word = guest.word
        self.page_bits = guest.page_bits
        self.mmu_indices = guest.mmu_indices
        self.fetch_index_shift = guest.fetch_index_shift
        self.floats = guest.floats
        self.state = guest.state
        self.registers = guest.registers
        self.mode_masks = guest.mode_masks
        self.page = 1 << guest.page_bits
        self.calls = _Calls()
        self.fault: tuple[int, bool] | None = None
        self.fetched: int | None = None
        """The address at which the guest wanted to continue, if there is no memory."""
        self.stop = CODE + 2 * self.page
        """The address of the page in which a run ends if the guest's next instruction is not in memory."""
        self.python_helpers = {
            "fault": self._fault,
            "interrupt": lambda cpu, pending: 0,
            **{name: self.calls.stub(name) for name in (_replaced(callee).name for callee in callees(guest))},
        }
        self.routines = {
            "tlb_fill": self._tlb_fill,
            **{f"tested {name}": self._tested(build) for name, build in guest.routines.items()},
        }
        self.stubbed = _PlainCallees(self, routines=False)
        self.with_routines = _PlainCallees(self, routines=True)
        self.asked: set[Field] = set()
        """The fields that the guest's ``interrupt`` has read (`takes_interrupt`)."""
        self._sets: dict[int, InstructionSet] = {}
        self._built: dict[str, Builder] = {}

    def routine(self, name: str) -> Builder:
        """A routine of the guest's, with stubs for its callees."""
        if name not in self._built:
            b = self._built[name] = Builder(self.word, self.guest.state.nzcv)
            self._tested(self.guest.routines[name])(b)
        return self._built[name]

    def instruction_set(self, mode: int) -> InstructionSet:
        guest = self.guest.instruction_set(mode)
        return self._sets.setdefault(id(guest), _Instructions(guest))

    def initial_decode_state(self, mode: int) -> int:
        return self.guest.initial_decode_state(mode)

    def prologue(self, b: Builder, mode: int) -> None:
        self.guest.prologue(b, mode)
        replace_callees(b)

    def epilogue(self, b: Builder, mode: int, decode_state: int) -> None:
        self.guest.epilogue(b, mode, decode_state)
        replace_callees(b)

    def reset(self, cpu: Any, entry: int, argument: int) -> None:
        self.guest.reset(cpu, entry, argument)

    def _tested(self, build: Callable[[Builder], None]) -> Callable[[Builder], None]:
        def tested(b: Builder) -> None:
            build(b)
            replace_callees(b)

        return tested

    def _tlb_fill(self, b: Builder) -> None:
        address, how = b.get(COMMON["arg0"]), b.get(COMMON["arg1"])
        fetches = b.eq(b.and_(how, 0xFF), ACCESS_FETCH)
        index = b.extract(how, 8, 8)
        for wanted, start, pages, rights in ((0, ARENA, ARENA_PAGES, READ_WRITE), (1, CODE, 3, EXECUTE)):
            inside = b.icmp(Condition.ULT, b.sub(address, start), pages * self.page)
            with b.if_(b.and_(inside, b.eq(fetches, wanted))):
                flags = b.or_(b.shl(index, 16), rights | self.page_bits << 8)
                b.call(native("tlb_set"), address, address, flags)
                b.ret(b.const(0, Type.I64))
        b.ret(b.const(NO_TRANSLATION, Type.I64))

    def _fault(self, cpu: Any, address: int, how: int, code: int) -> None:
        if how & 0xFF == ACCESS_FETCH:
            self.fetched = cpu["pc"]
        else:
            self.fault = how & 0xFF, bool(code & FAULT_ALIGNMENT)
            self.fault_pc, self.fault_extra = cpu["pc"], cpu["insn_extra"]
        cpu["pc"] = self.stop


# -- what instructions that share templates have in common -------------------------------------------------------------


def outline(code: Sequence[Instruction], other: Mapping[Field, Field]) -> list[tuple[object, ...]]:
    """IR in a form that can be compared. Fields in ``other`` are replaced by their values there."""
    number = {id(instruction): index for index, instruction in enumerate(code)}
    variables: dict[int, int] = {}

    def attribute(aux: object) -> object:
        if isinstance(aux, Field):
            return other.get(aux, aux)
        if isinstance(aux, tuple):
            return tuple(attribute(part) for part in aux)
        if isinstance(aux, Label | Local):
            return variables.setdefault(id(aux), len(variables))
        return aux

    def argument(value: Instruction) -> object:
        return number.get(id(value), (value.op, value.type, value.aux))

    return [(i.op, i.type, tuple(map(argument, i.args)), attribute(i.aux)) for i in code]


# -- the interpreter's run ---------------------------------------------------------------------------------------------


class PlainCpu:
    """A vCPU for ``FrontEnd.reset``, with nothing but fields."""

    def __init__(self, guest: FrontEnd) -> None:
        self.guest = guest
        self.cpu = CpuState(bytearray(guest.state.size))
        self["fp_rules"] = guest.floats.bits

    def _field(self, name: str) -> Field:
        return self.guest.state.fields.get(name) or COMMON[name]

    def __getitem__(self, name: str) -> int:
        return self.cpu.read(self._field(name))

    def __setitem__(self, name: str, value: int) -> None:
        field = self._field(name)
        self.cpu.write(field, value & ((1 << 8 * field.type.size) - 1))


class _PlainCallees:
    """What calls reach: stubs, or the guest's own routines, which reach the same. Serves one run after the other."""

    def __init__(self, surroundings: Surroundings, routines: bool) -> None:
        self._surroundings = surroundings
        self._calls = _Calls()
        self._memory = ArenaMemory(b"")
        self.by_name: dict[str, Builder | PlainCallee] = {}
        for callee in callees(surroundings.guest):
            name = _replaced(callee).name
            own = routines and callee.kind is CalleeKind.ROUTINE
            self.by_name[name] = self._own(callee.name) if own else self._calls.stub(name)

    def begin(self, memory: ArenaMemory) -> list[tuple[str, tuple[int, ...]]]:
        """Begin a run whose routines access ``memory``. Returns the list to which its calls of stubs are appended."""
        self._memory = memory
        self._calls.made.clear()
        return self._calls.made

    def _own(self, name: str) -> PlainCallee:
        def call(cpu: CpuState, *arguments: int) -> int:
            cpu.header.update({f"arg{n}": value for n, value in enumerate(arguments)})
            return interpret(self._surroundings.routine(name), cpu, self._memory, callees=self.by_name).value or 0

        return call


def interpreted(
    surroundings: Surroundings, start: Start, mode: int, word: int, size: int, *, routines: bool = False
) -> Finish:
    """Run the instruction ``word`` of ``size`` bytes as a block of its own, with the guest's own routines or with
    stubs. Raises InterpreterError.
    """
    guest = surroundings
    instructions = guest.instruction_set(mode)
    pattern = instructions.decode(word, size)
    pc = CODE + guest.page - size
    decode_state = guest.initial_decode_state(mode)
    cpu, memory = CpuState(bytearray(start.state), dict(start.header)), ArenaMemory(start.memory)
    cpu.header.update(pc=pc, mode=mode, fp_rules=guest.floats.bits)
    plain = surroundings.with_routines if routines else surroundings.stubbed
    calls = plain.begin(memory)

    def run(build: Callable[[Builder], object], holes: tuple[int, ...] = ()) -> Outcome:
        b = Builder(guest.word, guest.state.nzcv)
        build(b)
        return interpret(b, cpu, memory, holes=holes, pc=pc, callees=plain.by_name)

    following = 0

    def translate(b: Builder) -> None:
        nonlocal following
        following = instructions.translate(b, pattern, word, decode_state, mode)
        if any(instruction.op in (Op.GOTO, Op.GOTO_INDIRECT) for instruction in b.code):
            following = 0  # a branch ends the block, whether it is taken or not

    run(lambda b: guest.prologue(b, mode))
    outcome = run(translate, pattern.hole_values(word) if pattern is not None else ())
    if outcome.how is Leave.NEXT and following:
        run(lambda b: guest.epilogue(b, mode, following))
    next_pc = pc + size
    if outcome.how in (Leave.GOTO, Leave.GOTO_INDIRECT):
        assert outcome.value is not None
        next_pc = outcome.value
    elif outcome.how is Leave.EXIT:
        next_pc = cpu.header["pc"]
    fault = None
    if outcome.how is Leave.FAULT:
        next_pc = pc
        fault = outcome.access or 0, outcome.alignment
        cpu.header["insn_extra"] = decode_state
    endless = bool(cpu.header.get("halted")) or (next_pc == pc and fault is None)
    return Finish(
        next_pc,
        fault,
        bytes(cpu.state),
        cpu.header,
        bytes(memory.content),
        tuple(calls),
        endless=endless,
        to_loop=outcome.how in (Leave.EXIT, Leave.FAULT),
    )


class _AskedState(CpuState):
    """A vCPU's state that adds to ``asked`` each field that is read."""

    __slots__ = ("asked",)

    asked: set[Field]

    def read(self, field: Field) -> int:
        self.asked.add(field)
        return CpuState.read(self, field)


def takes_interrupt(surroundings: Surroundings, pc: int, state: bytes, header: Mapping[str, int], lines: int) -> bool:
    """Whether the guest's ``interrupt`` takes one of the pending ``lines``. A Python helper gets a `PlainCpu`."""
    guest = surroundings.guest
    cpu = _AskedState(bytearray(state), dict(header) | {"pc": pc, "interrupt_request": lines, "arg0": lines})
    cpu.asked = surroundings.asked
    if "interrupt" in guest.python_helpers:
        plain = PlainCpu(guest)
        plain.cpu = cpu
        return bool(guest.python_helpers["interrupt"](plain, lines))
    memory = ArenaMemory(bytes(ARENA_PAGES << guest.page_bits))
    surroundings.with_routines.begin(memory)
    callees = surroundings.with_routines.by_name
    return bool(interpret(surroundings.routine("interrupt"), cpu, memory, callees=callees).value)


def interpreted_routine(surroundings: Surroundings, start: Start, name: str, arguments: tuple[int, ...]) -> Finish:
    """Run the guest's routine ``name``. Raises InterpreterError."""
    cpu, memory = CpuState(bytearray(start.state), dict(start.header)), ArenaMemory(start.memory)
    cpu.header.update({f"arg{n}": value for n, value in enumerate(arguments)}, fp_rules=surroundings.floats.bits)
    calls = surroundings.stubbed.begin(memory)
    outcome = interpret(surroundings.routine(name), cpu, memory, callees=surroundings.stubbed.by_name)
    pc = cpu.header.get("pc", 0)
    return Finish(pc, None, bytes(cpu.state), cpu.header, bytes(memory.content), tuple(calls), outcome.value)


# -- the host's run ----------------------------------------------------------------------------------------------------


class HostRunner:
    """One vCPU of the guest in its ``Surroundings``, on the host. Not thread-safe. Must be closed."""

    def __init__(self, guest: FrontEnd, backend: type[BackEnd]) -> None:
        self.surroundings = Surroundings(guest)
        page = self.surroundings.page
        self.memory = AddressSpace()
        self.memory.add_rom("code", CODE, 3 * page)
        self.memory.add_ram("arena", ARENA, ARENA_PAGES * page)
        decision = Decision(Mode.MULTI, ("a test",))
        self.engine = Engine(self.surroundings, backend, decision, self.memory, 1)
        # The run must end before the block after the instruction.
        lib.raddle_memo_listen(self.engine.translator.joiner.memo, 1)
        self.cpu = self.engine.cpus[0]
        self._state = ffi.buffer(ffi.cast("char *", self.cpu.env), guest.state.size)

    def close(self) -> None:
        self.engine.close()
        self.memory.close()

    def _load(self, start: Start) -> None:
        self._state[:] = start.state
        self.memory.write(ARENA, start.memory)
        for name in (*CLEARED_FIELDS, *RESULT_FIELDS):
            self.cpu[name] = 0
        self.cpu["exclusive_address"] = (1 << 64) - 1
        for name, value in start.header.items():
            self.cpu[name] = value
        guest = self.surroundings
        guest.calls.made.clear()
        guest.fault = guest.fetched = None

    def _finish(self, pc: int, result: int | None) -> Finish:
        if self.engine.error is not None:
            raise self.engine.error
        guest = self.surroundings
        header = {name: self.cpu[name] for name in RESULT_FIELDS}
        if guest.fault is not None:
            pc, header["insn_extra"] = guest.fault_pc, guest.fault_extra
        elif guest.fetched is not None:
            pc = guest.fetched
        memory = self.memory.read(ARENA, ARENA_PAGES * guest.page)
        return Finish(pc, guest.fault, bytes(self._state), header, memory, tuple(guest.calls.made), result)

    def run(self, start: Start, mode: int, word: int, size: int) -> Finish:
        """Run the instruction ``word``. In the interpreter, its run must not have been ``endless``."""
        guest, cpu = self.surroundings, self.cpu
        pc = CODE + guest.page - size
        self._load(start)
        self.memory.write(pc, guest.instruction_set(mode).encoded(word, size))
        cpu["pc"], cpu["mode"] = pc, mode
        started = False
        while True:
            reason = lib.raddle_run(cpu.env)
            if reason == lib.RADDLE_WORK:
                cpu.drain()
            elif reason == lib.RADDLE_MISS and not started:
                started = self.engine.translator.miss(cpu.env) != lib.RADDLE_FULL
            else:
                return self._finish(cpu["pc"], None)

    def call(self, start: Start, name: str, arguments: tuple[int, ...]) -> Finish:
        """Call the guest's routine ``name``."""
        self._load(start)
        number = self.engine.callees.routine_number(f"tested {name}")
        function = ffi.cast("raddle_function", self.engine.callees.table[number])
        padded = (*arguments, 0, 0, 0, 0)[:4]
        for index, value in enumerate(padded):
            self.cpu[f"arg{index}"] = value
        result = int(function(self.cpu.env, *padded))
        return self._finish(self.cpu["pc"], result)


def differences(guest: FrontEnd, expected: Finish, found: Finish) -> list[str]:
    """The differences of ``found`` from ``expected``, one line for each."""
    lines = []
    if expected.fault != found.fault:
        lines.append(f"fault (access, misaligned) is {found.fault}, not {expected.fault}")
    if expected.pc != found.pc:
        lines.append(f"goes on at {found.pc:#x}, not {expected.pc:#x}")
    for f in guest.state.fields.values() if expected.state != found.state else ():
        place = slice(f.offset, f.offset + f.type.size)
        if expected.state[place] != found.state[place]:
            want, have = (int.from_bytes(e.state[place], "little") for e in (expected, found))
            lines.append(f"{f.name} is {have:#x}, not {want:#x}")
    for name in RESULT_FIELDS:
        default = (1 << 64) - 1 if name == "exclusive_address" else 0
        want, have = expected.header.get(name, default), found.header.get(name, default)
        if want != have:
            lines.append(f"cpu.{name} is {have:#x}, not {want:#x}")
    wanted, had = [name for name, _ in expected.calls], [name for name, _ in found.calls]
    if wanted != had:
        lines.append(f"calls {had}, not {wanted}")
    for (name, values), (_, passed) in zip(expected.calls, found.calls, strict=False):
        if values != passed[: len(values)]:
            lines.append(f"calls {name} with {passed[: len(values)]}, not {values}")
    lines += memory_differences(expected.memory, found.memory, ARENA)
    return lines
