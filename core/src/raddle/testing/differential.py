# SPDX-License-Identifier: Apache-2.0
"""Compares what a guest's instructions do with a reference, which the target contract cannot do.

A `Case` is code and the state before it; an `Outcome` is the state after it. A class that runs cases has a method
``run(case) -> Outcome``:

- `Interpreted`: Raddle's IR interpreter, which the target contract compares with the host;
- `raddle.testing.unicorn_reference.UnicornReference`: Unicorn, if it is installed (``pip install unicorn``);
- `raddle.testing.gdb.GdbReference`: QEMU, or another emulator with a GDB port;
- `Recorded`: outcomes in a file, written by hand from a manual, or by `record` from one of the others.

A test makes cases and checks them::

    check(Interpreted(front_end, registers), UnicornReference("riscv", "UC_MODE_RISCV32", registers), cases)

Registers have their names in ``machine.cpus[0].regs``; each outcome includes "pc". Registers that are not compared have
their values after reset at the start of each case in `Interpreted`, but in Unicorn their values from the case before.
So compare all registers that the code can change, or choose code that does not change others.

If an instruction does not complete, the outcome has an event: ``FAULT`` ("fault", an access to an address without
memory), ``MISALIGNED`` ("misaligned"), ``UNDEFINED`` ("undefined", no instruction), or a name that the guest chooses. A
reference's exceptions are mapped to events: for RISC-V ``UnicornReference(..., interrupts={2: UNDEFINED, 4: MISALIGNED,
6: MISALIGNED})``.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol

from raddle.errors import UsageError
from raddle.ir.builder import Builder
from raddle.ir.interpreter import Leave, MemoryFault, PlainCallee, interpret
from raddle.ir.interpreter import Outcome as Left
from raddle.ir.types import MemOp
from raddle.ir.verifier import verify
from raddle.runtime import helpers
from raddle.testing.guest_runs import PlainCpu
from raddle.translate.decode import UNDEFINED as NO_INSTRUCTION
from raddle.translate.decode import Decoder, Pattern
from raddle.translate.frontend import FrontEnd

__all__ = [
    "FAULT",
    "MISALIGNED",
    "UNDEFINED",
    "Case",
    "Interpreted",
    "Outcome",
    "Recorded",
    "Runner",
    "check",
    "differences",
    "random_word",
    "record",
    "words",
]

FAULT: Final = "fault"
"""Event: an access to an address without memory."""
MISALIGNED: Final = "misaligned"
"""Event: an access whose alignment the guest does not allow."""
UNDEFINED: Final = "undefined"
"""Event: no instruction."""


@dataclass(frozen=True)
class Case:
    """Code, and the state before it."""

    code: bytes
    """The bytes of the instructions in memory."""
    pc: int
    """The address of the first instruction."""
    registers: Mapping[str, int] = field(default_factory=dict)
    """Registers that matter. The others have their values after reset, which may differ between references."""
    memory: Mapping[int, bytes] = field(default_factory=dict)
    """All memory except the code: bytes by the address of the first. Other addresses fault."""
    steps: int = 1
    """How many instructions are executed. An event ends the case earlier."""


@dataclass(frozen=True)
class Outcome:
    """The state after a case."""

    event: str
    """Why an instruction did not complete: "fault", "misaligned", "undefined", or a name that the guest chooses. Empty
    if all did."""
    registers: Mapping[str, int]
    memory: Mapping[int, bytes]
    """The memory of the case."""


DRAWS: Final = 3000
"""How many random words are tried to find one for a line of a table."""


def random_word(decoder: Decoder, pattern: Pattern, random: Random, like: int | None = None) -> int | None:
    """A random word of one line of a table, for which the line is defined. If ``like`` is given, the word has its key.
    None if none was found, because other lines win over this one for almost all words.
    """
    fixed = pattern.mask if like is None else pattern.mask | pattern.key_mask
    value = pattern.value if like is None else like
    for _ in range(DRAWS):
        word = value & fixed | random.getrandbits(decoder.width) & ~fixed
        if decoder.decode(word) is pattern:
            return word
    return like


def words(decoder: Decoder, random: Random, each: int = 1) -> Iterator[tuple[Pattern, int]]:
    """``each`` random words of every line of a decode table, with the line, as code for cases. `InstructionSet.encoded`
    returns a word's bytes. `Pattern.values` returns its operands: for example, to put addresses into its registers.
    """
    for pattern in decoder.patterns:
        for _ in range(each if pattern.name != NO_INSTRUCTION else 0):
            word = random_word(decoder, pattern, random)
            if word is not None:
                yield pattern, word


class Runner(Protocol):
    """Runs cases."""

    def run(self, case: Case) -> Outcome: ...


def differences(ours: Outcome, theirs: Outcome, ignored: Mapping[str, int] | None = None) -> list[str]:
    """The differences between two outcomes of one case, one line for each; empty if there are none.

    Registers that both have are compared, without the bits that ``ignored`` has for a register's name. After an event,
    only the event and memory are compared, because references differ in the registers after an event.
    """
    if ours.event != theirs.event:
        return [f"event {ours.event!r}, not {theirs.event!r}"]
    lines = []
    for name, value in theirs.registers.items():
        if name in ours.registers and not ours.event:
            kept = ~(ignored or {}).get(name, 0)
            if (ours.registers[name] ^ value) & kept:
                lines.append(f"{name} is {ours.registers[name]:#x}, not {value:#x}")
    for address, data in theirs.memory.items():
        for offset, (have, want) in enumerate(zip(ours.memory[address], data, strict=True)):
            if have != want:
                lines.append(f"memory at {address + offset:#x} is {have:#04x}, not {want:#04x}")
    return lines


def check(ours: Runner, theirs: Runner, cases: Iterable[Case], ignored: Mapping[str, int] | None = None) -> int:
    """Raise AssertionError for the first case in which the two differ; returns how many cases there were."""
    count = 0
    for case in cases:
        count += 1
        found = differences(ours.run(case), theirs.run(case), ignored)
        state = " ".join(f"{name}={value:#x}" for name, value in case.registers.items())
        if found:
            told = f"{case.code.hex(' ')} at {case.pc:#x}, {case.steps} steps, from {state}"
            raise AssertionError("\n".join([told, *found]))
    return count


# -- Raddle ------------------------------------------------------------------------------------------------------------


class _Memory:
    """The memory of a case, as the interpreter's memory."""

    def __init__(self, case: Case) -> None:
        self.parts = {address: bytearray(data) for address, data in case.memory.items()}
        self._code = case.pc, bytearray(case.code)

    def _find(self, address: int, size: int, access: int) -> tuple[bytearray, int]:
        for start, data in (*self.parts.items(), *((self._code,) if not access else ())):
            if 0 <= address - start <= len(data) - size:
                return data, address - start
        raise MemoryFault(address, access)

    def load(self, address: int, memop: MemOp, mmu_index: int) -> int:
        data, at = self._find(address, memop.size, 0)
        return int.from_bytes(data[at : at + memop.size], "big" if memop.big_endian else "little")

    def store(self, address: int, value: int, memop: MemOp, mmu_index: int) -> None:
        data, at = self._find(address, memop.size, 1)
        data[at : at + memop.size] = value.to_bytes(memop.size, "big" if memop.big_endian else "little")


@functools.cache
def _routines(front_end: FrontEnd) -> Mapping[str, Builder]:
    """The IR of a front end's routines, which is only read."""
    made = {}
    for name, build in front_end.routines.items():
        made[name] = b = Builder(front_end.word, front_end.state.nzcv)
        build(b)
    return made


class Interpreted:
    """Runs cases with the IR interpreter. The IR of each instruction is verified, and is a block of its own.

    Routines of the front end that an instruction calls are executed. A call of a Python helper is an event with the
    helper's name, and ends the case. So is a call of a routine or native helper in ``events``, which maps its name to
    the event's. Other native helpers do nothing and return 0, unless ``callees`` has a function ``f(cpu, *arguments)``
    for them.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        registers: Sequence[str],
        *,
        mode: int | None = None,
        events: Mapping[str, str] | None = None,
        callees: Mapping[str, PlainCallee] | None = None,
    ) -> None:
        """``registers`` are those that outcomes have, in addition to the pc. ``mode`` is the block mode; by default,
        the one after reset."""
        self._front_end = front_end
        self._registers = tuple(registers)
        self._mode = mode
        self._event = ""
        self._callees: dict[str, Builder | PlainCallee] = dict.fromkeys(helpers.NUMBER, _nothing)
        self._callees |= _routines(front_end)
        noted = {name: name for name in front_end.python_helpers} | dict(events or {})
        self._callees |= {name: self._note(event) for name, event in noted.items()}
        self._callees |= dict(callees or {})

    def _note(self, event: str) -> PlainCallee:
        def note(*_: object) -> int:
            self._event = self._event or event
            return 0

        return note

    def run(self, case: Case) -> Outcome:
        front_end, memory, cpu = self._front_end, _Memory(case), PlainCpu(self._front_end)
        front_end.reset(cpu, case.pc, 0)
        if self._mode is not None:
            cpu["mode"] = self._mode
        for name, value in case.registers.items():
            self._write(cpu, name, value)
        self._event = ""
        decode_state = front_end.initial_decode_state(cpu["mode"])
        for _ in range(case.steps):
            decode_state = self._step(case, cpu, memory, decode_state)
            if self._event:
                break
        registers = {name: self._read(cpu, name) for name in (*self._registers, "pc")}
        return Outcome(self._event, registers, {address: bytes(data) for address, data in memory.parts.items()})

    def _step(self, case: Case, cpu: PlainCpu, memory: _Memory, decode_state: int) -> int:
        """Run the instruction at the pc. Returns the decode state of the next one."""
        front_end, pc, mode = self._front_end, cpu["pc"], cpu["mode"]
        instructions = front_end.instruction_set(mode)
        found = instructions.word_at(case.code, pc - case.pc) if pc >= case.pc else None
        if found is None:
            raise UsageError(f"the case has no code at {pc:#x}, where it continues: give it more code or fewer steps")
        word, size = found
        pattern = instructions.decode(word, size)
        following = 0

        def translate(b: Builder) -> None:
            nonlocal following
            following = instructions.translate(b, pattern, word, decode_state, mode)

        self._interpret(lambda b: front_end.prologue(b, mode), cpu, memory, pc)
        holes = pattern.hole_values(word) if pattern is not None else ()
        left = self._interpret(translate, cpu, memory, pc, holes)
        if left.how is Leave.FAULT:
            self._event = MISALIGNED if left.alignment else FAULT
        elif left.how is Leave.NEXT:
            cpu["pc"] = pc + size
            if following:
                self._interpret(lambda b: front_end.epilogue(b, mode, following), cpu, memory, pc)
        elif left.how in (Leave.GOTO, Leave.GOTO_INDIRECT):
            assert left.value is not None
            cpu["pc"] = left.value
        return front_end.initial_decode_state(cpu["mode"])

    def _interpret(
        self, build: Callable[[Builder], object], cpu: PlainCpu, memory: _Memory, pc: int, holes: tuple[int, ...] = ()
    ) -> Left:
        b = Builder(self._front_end.word, self._front_end.state.nzcv)
        build(b)
        verify(b, layout=self._front_end.state)
        return interpret(b, cpu.cpu, memory, holes=holes, pc=pc, callees=self._callees)

    def _read(self, cpu: PlainCpu, name: str) -> int:
        view = self._front_end.views.get(name)
        return cpu[name] if view is None else view.get(cpu)

    def _write(self, cpu: PlainCpu, name: str, value: int) -> None:
        view = self._front_end.views.get(name)
        if view is None:
            cpu[name] = value
        else:
            view.set(cpu, value)


def _nothing(*_: object) -> int:
    return 0


# -- outcomes in a file ------------------------------------------------------------------------------------------------


class Recorded:
    """Outcomes of cases in a JSON file.

    The file is a list of objects. Each has "code" (its bytes in memory, hexadecimal) and "pc", and, if they are not
    empty, "registers", "memory" (hexadecimal, by address), "steps", "event", "registers_after" and "memory_after". Only
    the registers and memory in the last two are compared. Numbers may be strings like "0x10".
    """

    def __init__(self, path: Path) -> None:
        """Raises UsageError if the file cannot be read."""
        self._path = path
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
            read = [_read_entry(entry) for entry in entries]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"cannot read the vectors in {path}: {type(error).__name__}: {error}") from None
        self.cases: tuple[Case, ...] = tuple(case for case, _ in read)
        self._outcomes = {_key(case): outcome for case, outcome in read}

    def run(self, case: Case) -> Outcome:
        """The case's outcome in the file. Raises UsageError if the file does not have the case."""
        outcome = self._outcomes.get(_key(case))
        if outcome is None:
            raise UsageError(f"{self._path} has no outcome of {case.code.hex(' ')} in this state; record it again")
        return outcome


def record(runner: Runner, cases: Iterable[Case], path: Path) -> None:
    """Run the cases with ``runner``, and write the outcomes to a file for `Recorded`."""
    entries = []
    for case in cases:
        outcome = runner.run(case)
        entry: dict[str, object] = {"code": case.code.hex(), "pc": hex(case.pc)}
        entry["registers"] = {name: hex(value) for name, value in case.registers.items()}
        entry["memory"] = {hex(address): data.hex() for address, data in case.memory.items()}
        entry |= {"steps": case.steps, "event": outcome.event}
        entry["registers_after"] = {name: hex(value) for name, value in outcome.registers.items()}
        entry["memory_after"] = {hex(address): data.hex() for address, data in outcome.memory.items()}
        entries.append(entry)
    path.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def _read_entry(entry: Mapping[str, Any]) -> tuple[Case, Outcome]:
    def registers(name: str) -> dict[str, int]:
        return {register: _number(value) for register, value in entry.get(name, {}).items()}

    def memory(name: str) -> dict[int, bytes]:
        return {_number(address): bytes.fromhex(data) for address, data in entry.get(name, {}).items()}

    code, pc = bytes.fromhex(entry["code"]), _number(entry["pc"])
    case = Case(code, pc, registers("registers"), memory("memory"), entry.get("steps", 1))
    return case, Outcome(entry.get("event", ""), registers("registers_after"), memory("memory_after"))


def _number(value: int | str) -> int:
    return int(value, 0) if isinstance(value, str) else value


def _key(case: Case) -> tuple[object, ...]:
    registers, memory = sorted(case.registers.items()), sorted(case.memory.items())
    return case.code, case.pc, tuple(registers), tuple(memory), case.steps
