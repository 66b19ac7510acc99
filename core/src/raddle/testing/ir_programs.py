# SPDX-License-Identifier: Apache-2.0
"""IR programs with their expected effects, as text; how to run them and compare the effects.

The files in ``programs/`` have tests of this form. Values that ``run`` does not name are 0 before, and do not change::

    test subtracts_with_borrow           ; begins a test; `word i64` next line: guest addresses are 64 bits wide
      v0 = get.i32 r0                    ; the function, as raddle.ir.parser reads it
      v1 = sbc.i32 v0, %0, 1
           set.i32 r1, v1
    run r0=5 %0=2 => r1=3                ; one run: fields, literals, memory before => after
    run [0x40000000].4=7 => leave=goto:8 ; [address].size is little-endian memory; leave= is how it ends

    routine NAME                         ; begins an IR routine that the test calls

``leave`` is next (the default), goto:ADDRESS, indirect:ADDRESS, exit, return, return:VALUE, fault_read:ADDRESS,
fault_write:ADDRESS, misaligned_read:ADDRESS or misaligned_write:ADDRESS.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files

from raddle.ir.builder import Builder, Instruction
from raddle.ir.header import COMMON, NO_RESERVATION
from raddle.ir.interpreter import READ, WRITE, CpuState, Leave, MemoryFault, Outcome, interpret
from raddle.ir.parser import parse_function
from raddle.ir.types import Field, MemOp, StateLayout, Type
from raddle.ir.verifier import verify
from raddle.testing.generate import ARENA_BASE, ARENA_SIZE, Program


def _layout() -> StateLayout:
    layout = StateLayout()
    layout.array("r", Type.I32, 8, hot=(0, 1, 2, 3, 8, 9))
    layout.nzcv = (
        layout.field("n", Type.I1, hot=4),
        layout.field("z", Type.I1, hot=5),
        layout.field("c", Type.I1, hot=6),
        layout.field("v", Type.I1, hot=7),
    )
    layout.array("b", Type.I1, 4)
    layout.array("q", Type.I64, 4)
    layout.array("s", Type.F32, 4)
    layout.array("d", Type.F64, 4, hot=(10, 11))
    return layout


LAYOUT = _layout()
"""The guest state of all programs: r0 … r7 are I32, n, z, c, v and b0 … b3 I1, q0 … q3 I64, s0 … F32, d0 … F64."""


class ArenaMemory:
    """The arena, as the interpreter's memory. It is the same for all MMU indices."""

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)

    def _offset(self, address: int, memop: MemOp, access: int) -> int:
        offset = address - ARENA_BASE
        if not 0 <= offset <= len(self.content) - memop.size:
            raise MemoryFault(address, access)
        return offset

    def load(self, address: int, memop: MemOp, mmu_index: int) -> int:
        offset = self._offset(address, memop, READ)
        return int.from_bytes(self.content[offset : offset + memop.size], "big" if memop.big_endian else "little")

    def store(self, address: int, value: int, memop: MemOp, mmu_index: int) -> None:
        offset = self._offset(address, memop, WRITE)
        data = value.to_bytes(memop.size, "big" if memop.big_endian else "little")
        self.content[offset : offset + memop.size] = data


@dataclass(frozen=True, slots=True)
class Execution:
    """The state after a run. Of ``header``, ``compare`` uses fp_flags, exclusive_address and, after EXIT, pc."""

    outcome: Outcome
    state: bytes
    header: Mapping[str, int]
    memory: bytes


def interpreted(program: Program, values: dict[Instruction, int] | None = None) -> Execution:
    """Run ``program`` in the interpreter; ``values`` is an argument of ``interpret``."""
    cpu, memory = CpuState(bytearray(program.state), dict(program.header)), ArenaMemory(program.memory)
    outcome = interpret(
        program.function, cpu, memory, holes=program.holes, pc=program.pc, callees=dict(program.routines),
        values=values, strict=program.strict,
    )  # fmt: skip
    return Execution(outcome, bytes(cpu.state), cpu.header, bytes(memory.content))


def compare(expected: Execution, found: Execution, layout: StateLayout = LAYOUT) -> list[str]:
    """The differences, one line for each. GOTO and GOTO_INDIRECT to the same address count as equal."""
    lines = []
    if _plain(expected.outcome) != _plain(found.outcome):
        lines.append(f"ends with {found.outcome}, not {expected.outcome}")
    for f in layout.fields.values():
        place = slice(f.offset, f.offset + f.type.size)
        if expected.state[place] != found.state[place]:
            want, have = (int.from_bytes(e.state[place], "little") for e in (expected, found))
            lines.append(f"{f.name} is {have:#x}, not {want:#x}")
    names = ["fp_flags", "exclusive_address"] + ["pc"] * (expected.outcome.how is Leave.EXIT)
    for name in names:
        default = NO_RESERVATION if name == "exclusive_address" else 0
        want, have = (e.header.get(name, default) for e in (expected, found))
        if want != have:
            lines.append(f"cpu.{name} is {have:#x}, not {want:#x}")
    return lines + memory_differences(expected.memory, found.memory, ARENA_BASE)


def memory_differences(expected: bytes, found: bytes, base: int) -> list[str]:
    """The differences between two contents of the memory at ``base``, a line for each byte."""
    if expected == found:
        return []
    pairs = enumerate(zip(expected, found, strict=True), base)
    return [f"memory at {at:#x} is {have:#x}, not {want:#x}" for at, (want, have) in pairs if want != have]


def _plain(outcome: Outcome) -> Outcome:
    if outcome.how is Leave.GOTO_INDIRECT:
        return Outcome(Leave.GOTO, outcome.value)
    return outcome


@dataclass(frozen=True, slots=True)
class Case:
    """One ``run`` line: a program, and the state that it must end in."""

    name: str
    program: Program
    expected: Execution


def shipped_cases() -> list[Case]:
    """All cases in the files of ``programs/``."""
    cases: list[Case] = []
    for file in sorted(files(__package__).joinpath("programs").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".ir"):
            cases += parse_cases(file.read_text(encoding="utf-8"), file.name.removesuffix(".ir"))
    return cases


class CaseError(ValueError):
    """A mistake in a file of programs; the message names the line."""


def parse_cases(text: str, file: str, layout: StateLayout = LAYOUT) -> list[Case]:
    """The cases in one file's text. Raises CaseError, IRSyntaxError and VerifyError."""
    return [case for test in _tests(text, file) for case in test.cases(layout)]


@dataclass
class _Test:
    name: str
    word: Type = Type.I32
    bodies: dict[str, list[tuple[int, str]]] = field(default_factory=lambda: {"": []})
    runs: list[tuple[int, str]] = field(default_factory=list)

    def cases(self, layout: StateLayout) -> Iterator[Case]:
        functions = {}
        for name, lines in self.bodies.items():
            # Blank lines in front give errors the line numbers of the file.
            first = lines[0][0] if lines else 1
            text = "\n" * (first - 1) + "\n".join(line for _, line in lines)
            functions[name] = parse_function(text, layout, self.word)
        returns = any(i.op.name == "RET" for i in functions[""].code)
        for name, function in functions.items():
            verify(function, routine=bool(name) or returns, layout=layout)
        main = functions.pop("")
        for number, (line, run) in enumerate(self.runs, 1):
            try:
                yield _case(f"{self.name}-{number}", main, functions, run, layout)
            except (KeyError, ValueError) as error:
                raise CaseError(f"line {line}: {error}") from error


def _tests(text: str, file: str) -> Iterator[_Test]:
    test: _Test | None = None
    body = ""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition(";")[0].split()
        keyword = words[0] if words and not line[0].isspace() else ""
        if keyword == "test" and len(words) == 2:
            if test is not None:
                yield test
            test, body = _Test(f"{file}-{words[1]}"), ""
        elif test is None:
            if words:
                raise CaseError(f"line {number}: a test begins with 'test NAME'")
        elif keyword == "word" and words[1:] in (["i32"], ["i64"]):
            test.word = Type[words[1].upper()]
        elif keyword == "routine" and len(words) == 2:
            body = words[1]
            test.bodies[body] = []
        elif keyword == "run":
            test.runs.append((number, line.partition(";")[0].removeprefix("run")))
        elif keyword and not keyword.startswith("@"):
            raise CaseError(f"line {number}: {keyword!r} is none of test, word, routine and run")
        else:
            test.bodies[body].append((number, line))
    if test is not None:
        yield test


_PLACE = re.compile(r"\[(0x[0-9a-fA-F]+)\]\.([0-9]+)")


class _Image:
    """State, header and memory while a line is parsed."""

    def __init__(self, layout: StateLayout) -> None:
        self.layout = layout
        self.cpu = CpuState(bytearray(layout.size))
        self.memory = bytearray(ARENA_SIZE)

    def set(self, name: str, value: int) -> None:
        place = _PLACE.fullmatch(name)
        if place is not None:
            start, size = int(place[1], 16) - ARENA_BASE, int(place[2])
            if not 0 <= start <= ARENA_SIZE - size:
                raise ValueError(f"{name} is not in the arena")
            self.memory[start : start + size] = value.to_bytes(size, "little")
        elif name.startswith("cpu."):
            self.cpu.write(COMMON[name.removeprefix("cpu.")], value)
        else:
            target: Field = self.layout.fields[name]
            self.cpu.write(target, value & ((1 << target.type.bits) - 1))

    def frozen(self) -> tuple[bytes, dict[str, int], bytes]:
        return bytes(self.cpu.state), dict(self.cpu.header), bytes(self.memory)


def _case(name: str, function: Builder, routines: Mapping[str, Builder], run: str, layout: StateLayout) -> Case:
    before, arrow, after = run.partition("=>")
    if not arrow:
        raise ValueError("a run needs '=>'")
    image = _Image(layout)
    pc = 0
    holes: dict[int, int] = {}
    for target, value in map(_assignment, before.split()):
        if target == "pc":
            pc = int(value, 0)
        elif target.startswith("%"):
            holes[int(target[1:])] = int(value, 0) & 0xFFFFFFFF
        else:
            image.set(target, int(value, 0))
    state, header, memory = image.frozen()
    literals = tuple(holes.get(index, 0) for index in range(max(holes, default=-1) + 1))
    outcome = Outcome(Leave.NEXT)
    for target, value in map(_assignment, after.split()):
        if target == "leave":
            outcome = _outcome(value)
        else:
            image.set(target, int(value, 0))
    program = Program(function, state, header, memory, literals, pc, routines)
    return Case(name, program, Execution(outcome, *image.frozen()))


def _assignment(word: str) -> tuple[str, str]:
    name, equals, value = word.rpartition("=")
    if not equals:
        raise ValueError(f"{word!r} is not NAME=VALUE")
    return name, value


def _outcome(text: str) -> Outcome:
    how, _, number = text.partition(":")
    value = int(number, 0) if number else None
    plain = {
        "next": Leave.NEXT,
        "goto": Leave.GOTO,
        "indirect": Leave.GOTO_INDIRECT,
        "exit": Leave.EXIT,
        "return": Leave.RETURN,
    }
    if how in plain:
        return Outcome(plain[how], value)
    kind, _, access = how.partition("_")
    if kind not in ("fault", "misaligned") or access not in ("read", "write"):
        raise ValueError(f"there is no end {text!r}")
    return Outcome(Leave.FAULT, value, READ if access == "read" else WRITE, kind == "misaligned")
