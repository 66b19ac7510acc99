# SPDX-License-Identifier: Apache-2.0
"""Litmus tests: threads of a few instructions that every guest has in some form, and a condition on their outcome.

Instructions work on registers r0, r1 ... of their thread and on named locations, words of 32 bits.
`raddle.litmus.parser` parses tests, and `raddle.litmus.assembly` makes machine code of them. This module executes them
for the models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from raddle.errors import UsageError
from raddle.litmus.executions import Choose, Event, Kind, Mark, Outcome, Trace

__all__ = [
    "Atomic",
    "Branch",
    "Compute",
    "Condition",
    "Fence",
    "Instruction",
    "LitmusTest",
    "LitmusThread",
    "Load",
    "LoadLinked",
    "Quantifier",
    "Store",
    "StoreConditional",
]

MASK: Final = 0xFFFF_FFFF


class Load(NamedTuple):
    """`r[acquire] r0 x` or `r[] r0 x+r1`: load from a location. Adding a register, whose value must be 0, makes an
    address dependency."""

    register: str
    location: str
    order: str = ""
    """"" for a plain access, `acquire` or `acquirepc`."""
    offset: str | None = None


class Store(NamedTuple):
    """`w[release] x 1`, `w[] x r0` or `w[] x+r1 1`: store a number or a register."""

    location: str
    value: int | str
    order: str = ""
    """"" for a plain access, or `release`."""
    offset: str | None = None


class Fence(NamedTuple):
    """`f[mb]`: a barrier. `mb` orders all accesses, `rmb` earlier loads, `wmb` stores. `isb` orders what follows after
    earlier branches."""

    kind: str


class Compute(NamedTuple):
    """`mov r0 1` or `mov r0 (xor r1 r2)`: set a register to an operand, or to the result of `add`, `and` or `xor`."""

    register: str
    operation: str
    """`add`, `and` or `xor`; `mov` with one operand."""
    operands: tuple[int | str, ...]


class Branch(NamedTuple):
    """`b[] r0 END`: go to a later label if the register is not 0."""

    register: str
    target: int
    """The number of the instruction to go to; the number of all instructions stands for the end."""


class LoadLinked(NamedTuple):
    """`ll[] r0 x`: load, and reserve."""

    register: str
    location: str
    order: str = ""


class StoreConditional(NamedTuple):
    """`sc[] r1 x 2`: store if the reservation holds. r1 becomes 0 if it stored, else 1."""

    status: str
    location: str
    value: int | str
    order: str = ""


class Atomic(NamedTuple):
    """`rmw[] r0 x (add 1)`, `(xchg 1)` or `(cas 0 1)`: read, modify and write in one step; r0 gets the old value.

    `cas` writes its second operand if the old value is the first."""

    register: str
    location: str
    operation: str
    operands: tuple[int | str, ...]
    order: str = ""


Instruction = Load | Store | Fence | Compute | Branch | LoadLinked | StoreConditional | Atomic


class Quantifier(NamedTuple):
    """What a test claims of its condition."""

    word: str
    """`exists`, `~exists` or `forall`."""

    def holds(self, seen: int, all_of_them: bool) -> bool:
        """Whether the claim is true, if the condition held for `seen` outcomes, or for `all_of_them`."""
        return {"exists": seen > 0, "~exists": seen == 0, "forall": all_of_them}[self.word]


Condition = Callable[[Mapping[str, int]], bool]
"""Called with an outcome; returns whether the condition holds."""


class LitmusTest(NamedTuple):
    """A litmus test."""

    name: str
    comment: str
    initial: Mapping[str, int]
    """All locations of the test, with their values at the start."""
    threads: tuple[tuple[Instruction, ...], ...]
    quantifier: Quantifier
    condition: Condition
    text: str
    """The condition, as it was written."""
    observed: tuple[str, ...]
    """The names whose values make an outcome: `1:r0` is a register of thread 1, `x` the last value of x."""

    def programs(self) -> list[LitmusThread]:
        """The threads as models execute them."""
        return [
            LitmusThread(code, tuple(one.partition(":")[2] for one in self.observed if one.startswith(f"{number}:")))
            for number, code in enumerate(self.threads)
        ]

    def project(self, outcome: Outcome) -> Outcome:
        """The observed part of an outcome."""
        return tuple(pair for pair in outcome if pair[0] in self.observed)


FENCE_MARKS: Final = {"mb": Mark.FULL, "rmb": Mark.LOADS, "wmb": Mark.STORES, "isb": Mark.INSTRUCTIONS}
ORDER_MARKS: Final = {
    "": Mark.NONE,
    "acquire": Mark.ACQUIRE,
    "acquirepc": Mark.ACQUIRE_PC,
    "release": Mark.RELEASE,
    "acquirerelease": Mark.ACQUIRE | Mark.RELEASE,
}
READ_MARKS: Final = Mark.ACQUIRE | Mark.ACQUIRE_PC
OPERATIONS: Final[Mapping[str, Callable[[int, int], int]]] = {
    "add": lambda a, b: a + b & MASK,
    "and": lambda a, b: a & b,
    "xor": lambda a, b: a ^ b,
}

Tainted = tuple[int, tuple[int, ...]]
"""A value, and the numbers of the reads that it depends on."""


class LitmusThread:
    """A thread of a test, as a `raddle.litmus.executions.Thread`."""

    def __init__(self, code: tuple[Instruction, ...], observed: tuple[str, ...]) -> None:
        self.code = code
        self.observed = observed

    def run(self, choose: Choose) -> Trace:
        path = _Path(choose)
        at = 0
        while at < len(self.code):
            at = path.step(at, self.code[at])
        return Trace(tuple(path.events), {name: path.value(name)[0] for name in self.observed})


class _Path:
    """One execution of a thread."""

    def __init__(self, choose: Choose) -> None:
        self.choose = choose
        self.events: list[Event] = []
        self.registers: dict[str, Tainted] = {}
        self.control: tuple[int, ...] = ()
        self.reserved: tuple[str, int] | None = None
        """Location and number of the load-linked's event."""

    def value(self, operand: int | str | None) -> Tainted:
        if operand is None:
            return 0, ()
        return (operand & MASK, ()) if isinstance(operand, int) else self.registers.get(operand, (0, ()))

    def offset(self, location: str, register: str | None) -> tuple[int, ...]:
        """What an address depends on by the register that is added to it. Raises UsageError unless that is 0."""
        number, taint = self.value(register)
        if number:
            raise UsageError(
                f"register {register} is added to the address of {location}: it must be 0, and may be {number}"
            )
        return taint

    def read(self, location: str, marks: Mark, address: tuple[int, ...] = ()) -> Tainted:
        value = self.choose(location)
        self.events.append(Event(Kind.READ, location, value, marks, address, (), self.control))
        return value, (len(self.events) - 1,)

    def write(self, location: str, value: Tainted, marks: Mark, address: tuple[int, ...] = (), read: int = -1) -> None:
        self.events.append(Event(Kind.WRITE, location, value[0], marks, address, value[1], self.control, read))

    def step(self, at: int, instruction: Instruction) -> int:
        """Execute one instruction; returns the number of the next."""
        match instruction:
            case Load(register, location, order, offset):
                self.registers[register] = self.read(location, ORDER_MARKS[order], self.offset(location, offset))
            case Store(location, value, order, offset):
                self.write(location, self.value(value), ORDER_MARKS[order], self.offset(location, offset))
            case Fence(kind):
                self.events.append(Event(Kind.FENCE, marks=FENCE_MARKS[kind], control=self.control))
            case Compute(register, operation, operands):
                values = [self.value(one) for one in operands]
                number = values[0][0] if operation == "mov" else OPERATIONS[operation](values[0][0], values[1][0])
                self.registers[register] = number, _joined(*(taint for _, taint in values))
            case Branch(register, target):
                number, taint = self.value(register)
                self.control = _joined(self.control, taint)
                return target if number else at + 1
            case LoadLinked(register, location, order):
                self.registers[register] = self.read(location, ORDER_MARKS[order])
                self.reserved = location, len(self.events) - 1
            case StoreConditional(status, location, value, order):
                self._store_conditional(status, location, value, order)
            case Atomic():
                self._atomic(instruction)
        return at + 1

    def _atomic(self, instruction: Atomic) -> None:
        register, location, operation, operands, order = instruction
        marks = ORDER_MARKS[order] | Mark.ATOMIC
        old, taint = self.read(location, marks & ~Mark.RELEASE)
        self.registers[register] = old, taint
        number, more = self.value(operands[-1])
        if operation == "cas":
            if self.value(operands[0])[0] != old:
                return
        elif operation != "xchg":
            number, more = OPERATIONS[operation](old, number), _joined(taint, more)
        self.write(location, (number, more), marks & ~READ_MARKS, read=taint[0])

    def _store_conditional(self, status: str, location: str, value: int | str, order: str) -> None:
        """A store-conditional fails without a reservation of the location, and may fail with one."""
        held, self.reserved = self.reserved, None
        if held is None or held[0] != location or not self.choose(""):
            self.registers[status] = 1, ()
            return
        self.write(location, self.value(value), ORDER_MARKS[order], read=held[1])
        self.registers[status] = 0, ()


def _joined(*taints: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted({number for taint in taints for number in taint}))
