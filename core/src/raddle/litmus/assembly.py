# SPDX-License-Identifier: Apache-2.0
"""Machine code of litmus tests: each thread runs its part of the test again and again, on new memory each time.

A batch is a number of rounds, which all threads begin together. In each round, a thread says that it has arrived, waits
until the others have arrived, waits a few more steps, runs its part of the test, and stores the observed registers. The
number of steps differs from round to round and from thread to thread. Each round has its own words, in their own cache
lines.

If another thread has no core at the moment, a thread waits until it has one again. But all such waits of a batch
together are bounded, so that a batch ends soon even if there are fewer cores than threads; the threads then meet less
often. Between batches, threads wait for the word `go`, and raddle.litmus.run reads the results.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from raddle.errors import PluginError, UsageError
from raddle.litmus.guest import NEEDED, LitmusGuest
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

__all__ = ["LINE", "Assembler", "ThreadCode", "ThreadLayout", "lacking", "observed", "thread_code"]

LINE: Final = 64
"""Bytes of a cache line: the distance between the words of successive rounds, and between words that different threads
write."""
SPINS: Final = 1000
"""How often a thread checks whether another one has arrived before it uses up one unit of its patience; this takes some
microseconds. In a batch its patience is the number of rounds, which is some hundredths of a second in all."""
SPINS_IN_TURN: Final = 1
"""The same where one host thread runs all CPUs: another one arrives only while this one pauses."""
PERIODS: Final = (67, 61, 71, 59)
"""A thread waits one step more in each round, and none again after so many rounds. The periods have no common factor,
so all combinations occur. The longest wait is about as long as a thread takes to see that another one has arrived."""


class Label:
    """A place in the code."""

    __slots__ = ("position",)

    def __init__(self) -> None:
        self.position = -1


class Assembler:
    """Collects operations of a guest."""

    def __init__(self, guest: LitmusGuest) -> None:
        self.guest = guest
        self.code = bytearray()
        self._branches: list[tuple[int, str, tuple[int, ...], Label]] = []

    def emit(self, operation: str, *operands: int) -> None:
        self.code += self.guest.operations[operation](*operands)

    def bind(self, label: Label) -> None:
        label.position = len(self.code)

    def branch(self, operation: str, *operands: int, to: Label) -> None:
        """An operation whose last operand is the distance to a label."""
        self._branches.append((len(self.code), operation, operands, to))
        self.emit(operation, *operands, 0)

    def finish(self) -> bytes:
        for position, operation, operands, label in self._branches:
            code = self.guest.operations[operation](*operands, label.position - position)
            self.code[position : position + len(code)] = code
        return bytes(self.code)


class ThreadLayout(NamedTuple):
    """The addresses of the words that a thread uses, as the guest's code sees them."""

    number: int
    """The number of the thread in its test; not an address."""
    arrivals: tuple[int, ...]
    """For each thread of the test, the word with the round that it has reached."""
    go: int
    """Not 0: begin a batch."""
    done: int
    """Not 0: the batch has ended."""
    patience: int
    """How many more times the thread waits SPINS checks for another one that has not arrived."""
    locations: dict[str, int]
    """For each location, its word of the first round. Each next round's word is a LINE further."""
    results: int
    """The observed registers of all rounds, in the order of LitmusTest.observed, a word each."""
    rounds: int
    """The number of rounds in a batch; not an address."""
    spins: int = SPINS
    """How often the thread checks for another one before it uses up one unit of its patience; not an address."""


def observed(test: LitmusTest, thread: int) -> list[str]:
    """The registers of a thread that are observed."""
    return [name.partition(":")[2] for name in test.observed if name.startswith(f"{thread}:")]


OPERATION_OF: Final[dict[type, str]] = {
    Fence: "fence",
    LoadLinked: "load_linked",
    StoreConditional: "store_conditional",
}


def operation_of(instruction: Instruction) -> str:
    """The operation, other than those of NEEDED, that an instruction needs; empty if it needs none."""
    match instruction:
        case Load(_, _, order, _) | LoadLinked(_, _, order) if order:
            return f"load_{order}" if isinstance(instruction, Load) else f"load_linked_{order}"
        case Store(_, _, order, _) if order:
            return f"store_{order}"
        case Fence(kind):
            return f"fence_{kind}"
        case Compute(_, "and", _):
            return "and"
        case LoadLinked():
            return "load_linked"
        case StoreConditional(_, _, _, order):
            return f"store_conditional_{order}" if order else "store_conditional"
        case Atomic(_, _, operation, _, order):
            name = {"add": "atomic_add", "xchg": "atomic_exchange", "cas": "atomic_compare"}[operation]
            return f"{name}_{order}" if order else name
    return ""


def lacking(test: LitmusTest, guest: LitmusGuest) -> list[str]:
    """The operations that a test needs and the guest lacks."""
    needed = {operation_of(one) for code in test.threads for one in code} - {""}
    return sorted(needed - guest.operations.keys())


class ThreadCode:
    """Makes the machine code of one thread. Raises UsageError for a test that needs more registers than there are."""

    def __init__(self, test: LitmusTest, guest: LitmusGuest, layout: ThreadLayout) -> None:
        missing = sorted(NEEDED.keys() - guest.operations.keys())
        if missing:
            raise PluginError("litmus", f"the guest's operations lack {', '.join(missing)}")
        self.test = test
        self.guest = guest
        self.layout = layout
        self.a = Assembler(guest)
        self.instructions = test.threads[layout.number]
        names = sorted({one.location for one in self.instructions if not isinstance(one, Fence | Compute | Branch)})
        registers: set[str] = set(observed(test, layout.number))
        for one in self.instructions:
            registers |= {value for value in _flattened(one) if value.startswith("r") and value[1:].isdigit()}
        kept = ["first", "second", "third", "round", "delay", "results"]
        wanted = [*kept, *(f"@{name}" for name in names), *sorted(registers)]
        if len(wanted) > guest.registers:
            raise UsageError(
                f"test {test.name} needs {len(wanted)} registers in thread {layout.number}, "
                f"and the guest's litmus operations have {guest.registers}"
            )
        self.where = {name: number for number, name in enumerate(wanted)}
        """The guest's register for each of the test's registers, for the address of each location (`@x`), and for the
        loop's own values."""
        self.locations = names

    def code(self) -> bytes:
        a, layout = self.a, self.layout
        first, second, third, round_, results = (
            self.where[one] for one in ("first", "second", "third", "round", "results")
        )
        wait, spin, begin, again = Label(), Label(), Label(), Label()
        a.branch("jump", to=wait)
        a.bind(spin)
        self.pause()
        a.bind(wait)
        a.emit("constant", first, layout.go)
        a.emit("load", second, first, 0)
        a.branch("branch_if_zero", second, to=spin)
        a.bind(begin)
        a.emit("constant", second, 0)
        a.emit("store", second, first, 0)
        a.emit("constant", first, layout.patience)
        a.emit("constant", second, layout.rounds)
        a.emit("store", second, first, 0)
        for name in self.locations:
            a.emit("constant", self.where[f"@{name}"], layout.locations[name])
        a.emit("constant", results, layout.results)
        a.emit("constant", round_, 1)
        a.emit("constant", self.where["delay"], 0)
        self.begin(first, second, round_)
        a.bind(again)
        self.meet(first, second, third, round_)
        self.delay(first)
        self.body(first, second)
        shown = observed(self.test, layout.number)
        for number, name in enumerate(shown):
            a.emit("store", self.where[name], results, 4 * number)
        a.emit("add_immediate", results, results, 4 * len(shown))
        for name in self.locations:
            a.emit("add_immediate", self.where[f"@{name}"], self.where[f"@{name}"], LINE)
        a.emit("add_immediate", round_, round_, 1)
        a.emit("constant", first, layout.rounds + 1)
        a.branch("branch_if_less", round_, first, to=again)
        a.emit("constant", first, layout.done)
        a.emit("store", round_, first, 0)
        a.branch("jump", to=wait)
        return a.finish()

    def pause(self) -> None:
        if "pause" in self.guest.operations:
            self.a.emit("pause")

    def begin(self, first: int, second: int, round_: int) -> None:
        """Announce that the thread has begun the batch, and wait until all others have."""
        a, layout = self.a, self.layout
        a.emit("constant", first, layout.arrivals[layout.number])
        a.emit("store", round_, first, 0)
        for arrival in self.others():
            look, there = Label(), Label()
            a.emit("constant", first, arrival)
            a.bind(look)
            a.emit("load", second, first, 0)
            a.branch("branch_if_not_zero", second, to=there)
            self.pause()
            a.branch("jump", to=look)
            a.bind(there)

    def others(self) -> list[int]:
        """The arrivals of the other threads."""
        return [arrival for number, arrival in enumerate(self.layout.arrivals) if number != self.layout.number]

    def meet(self, first: int, second: int, third: int, round_: int) -> None:
        """Announce that the thread has begun this round, and wait until all others have, or until patience runs out."""
        a, layout = self.a, self.layout
        a.emit("constant", first, layout.arrivals[layout.number])
        a.emit("store", round_, first, 0)
        for arrival in self.others():
            wait, look, late, there = Label(), Label(), Label(), Label()
            a.bind(wait)
            a.emit("constant", third, layout.spins)
            a.emit("constant", first, arrival)
            a.bind(look)
            a.emit("load", second, first, 0)
            a.branch("branch_if_less", second, round_, to=late)
            a.branch("jump", to=there)
            a.bind(late)
            a.emit("add_immediate", third, third, -1)
            a.branch("branch_if_not_zero", third, to=look)
            self.pause()  # if one thread runs all CPUs, it switches to another one
            a.emit("constant", first, layout.patience)
            a.emit("load", second, first, 0)
            a.branch("branch_if_zero", second, to=there)
            a.emit("add_immediate", second, second, -1)
            a.emit("store", second, first, 0)
            a.branch("jump", to=wait)
            a.bind(there)

    def delay(self, first: int) -> None:
        """Wait as many steps as a counter says. Each thread's counter has another period."""
        a, counter = self.a, self.where["delay"]
        below, again, over = Label(), Label(), Label()
        a.emit("add_immediate", counter, counter, 1)
        a.emit("constant", first, PERIODS[self.layout.number])
        a.branch("branch_if_less", counter, first, to=below)
        a.emit("constant", counter, 0)
        a.bind(below)
        a.emit("add_immediate", first, counter, 0)
        a.bind(again)
        a.branch("branch_if_zero", first, to=over)
        a.emit("add_immediate", first, first, -1)
        a.branch("jump", to=again)
        a.bind(over)

    def body(self, first: int, second: int) -> list[tuple[int, Instruction]]:
        """Emit the test's own instructions; returns where the code of each begins. The two registers are free."""
        a = self.a
        for name in observed(self.test, self.layout.number):
            a.emit("constant", self.where[name], 0)
        labels = [Label() for _ in range(len(self.instructions) + 1)]
        starts = []
        for label, instruction in zip(labels, self.instructions, strict=False):
            a.bind(label)
            starts.append((label.position, instruction))
            self.one(instruction, labels, first, second)
        a.bind(labels[-1])
        return starts

    def value(self, operand: int | str, scratch: int) -> int:
        """The register that holds an operand; a number is put into `scratch`."""
        if isinstance(operand, str):
            return self.where[operand]
        self.a.emit("constant", scratch, operand)
        return scratch

    def address(self, location: str, offset: str | None, scratch: int) -> int:
        at = self.where[f"@{location}"]
        if offset is None:
            return at
        self.a.emit("add", scratch, at, self.where[offset])
        return scratch

    def one(self, instruction: Instruction, labels: list[Label], first: int, second: int) -> None:
        a, where, operation = self.a, self.where, operation_of(instruction)
        match instruction:
            case Load(register, location, _, offset):
                at = self.address(location, offset, first)
                if operation:
                    a.emit(operation, where[register], at)
                else:
                    a.emit("load", where[register], at, 0)
            case Store(location, value, _, offset):
                at = self.address(location, offset, first)
                if operation:
                    a.emit(operation, self.value(value, second), at)
                else:
                    a.emit("store", self.value(value, second), at, 0)
            case Fence():
                a.emit(operation)
            case Compute(register, "mov", (operand,)):
                if isinstance(operand, int):
                    a.emit("constant", where[register], operand)
                else:
                    a.emit("add_immediate", where[register], where[operand], 0)
            case Compute(register, name, operands):
                a.emit(name, where[register], self.value(operands[0], first), self.value(operands[1], second))
            case Branch(register, target):
                a.branch("branch_if_not_zero", where[register], to=labels[target])
            case LoadLinked(register, location, _):
                a.emit(operation, where[register], self.address(location, None, first))
            case StoreConditional(status, location, value, _):
                # Through another register: the operation's operands must differ, and the test's may be equal.
                a.emit(operation, first, self.value(value, second), self.address(location, None, first))
                a.emit("add_immediate", where[status], first, 0)
            case Atomic(register, location, _, operands, _):
                at = self.address(location, None, first)
                a.emit(operation, first, at, *(self.value(one, second) for one in operands))
                a.emit("add_immediate", where[register], first, 0)


def _flattened(instruction: Instruction) -> list[str]:
    """The strings among an instruction's fields."""
    found: list[str] = []
    for value in instruction:
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, tuple):
            found += [one for one in value if isinstance(one, str)]
    return found


def thread_code(test: LitmusTest, guest: LitmusGuest, layout: ThreadLayout) -> bytes:
    """The machine code of one thread, which runs at any address and never ends. Raises UsageError if the test needs
    more registers than the guest has."""
    return ThreadCode(test, guest, layout).code()
