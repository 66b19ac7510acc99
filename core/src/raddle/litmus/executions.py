# SPDX-License-Identifier: Apache-2.0
"""Executions of small multi-threaded programs, for axiomatic models of memory.

A candidate execution is one path through each thread, with the write that each read reads from (rf) and an order of the
writes to each location (co). `outcomes` enumerates all candidates and keeps the results of those that a model allows.
Terms and relations are those of Alglave, Maranget and Tautschnig, "Herding Cats" (TOPLAS 2014).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum, IntFlag
from functools import cached_property
from itertools import permutations, product
from math import factorial, prod
from typing import Final, NamedTuple, Protocol, TypeVar

from raddle.errors import UsageError
from raddle.litmus.relations import (
    Relation,
    compose,
    elements,
    intersection,
    inverse,
    related,
    restricted,
    set_of,
    union,
)

__all__ = ["Choose", "Event", "Execution", "Kind", "Mark", "Outcome", "Thread", "Trace", "executions", "outcomes"]


class Kind(Enum):
    READ = "R"
    WRITE = "W"
    FENCE = "F"


class Mark(IntFlag):
    """The ordering properties of an event."""

    NONE = 0
    ACQUIRE = 1
    """A read: an acquire of RCsc, which stays behind an earlier release."""
    ACQUIRE_PC = 2
    """A read: an acquire of RCpc, which an earlier release does not hold back."""
    RELEASE = 4
    ATOMIC = 8
    """A read or a write of an instruction that does both, such as an atomic addition."""
    FULL = 16
    """A fence: orders everything before with everything after it."""
    LOADS = 32
    """A fence: orders earlier reads with everything after it."""
    STORES = 64
    """A fence: orders earlier writes with later writes."""
    INSTRUCTIONS = 128
    """A fence: what follows it is fetched after all earlier branches are resolved."""


class Event(NamedTuple):
    """One memory access or fence. Dependencies are given by the numbers of earlier reads in the thread's trace."""

    kind: Kind
    location: str = ""
    value: int = 0
    marks: Mark = Mark.NONE
    address: tuple[int, ...] = ()
    """Reads that the address depends on."""
    data: tuple[int, ...] = ()
    """Reads that the written value depends on."""
    control: tuple[int, ...] = ()
    """Reads that an earlier branch depends on."""
    read: int = -1
    """For the write of a read-modify-write, the number of its read; else -1."""


class Trace(NamedTuple):
    """One path through a thread: its events in program order, and the last values of the observed registers."""

    events: tuple[Event, ...]
    registers: Mapping[str, int]


Choose = Callable[[str], int]
"""Called with a location: returns the value that a read of it gets. Called with "": returns 1 or 0, whether a
store-conditional with a reservation succeeds."""


class Thread(Protocol):
    """A thread of a program."""

    def run(self, choose: Choose) -> Trace:
        """Execute the thread once. The same choices give the same trace."""
        ...


T = TypeVar("T")

Outcome = tuple[tuple[str, int], ...]
"""Observed names and their values, sorted by name. `1:r0` is a register of thread 1, `x` the last value of x."""

INITIAL: Final = -1
"""The thread of the initial writes."""


class Execution:
    """A candidate execution. Events are numbered: first the initial writes, then the events of each thread in program
    order."""

    def __init__(self, frame: Frame, rf: Relation, co: Relation) -> None:
        self.frame = frame
        self.rf = rf
        """From each write to the reads that read from it."""
        self.co = co
        """The coherence order: each write before the later ones to its location."""

    @cached_property
    def fr(self) -> Relation:
        """From-reads: from each read to the writes that overwrite the value it has read."""
        return compose(inverse(self.rf), self.co)

    @cached_property
    def rfe(self) -> Relation:
        return intersection(self.rf, self.frame.external)

    @cached_property
    def rfi(self) -> Relation:
        return intersection(self.rf, self.frame.po)

    @cached_property
    def coe(self) -> Relation:
        return intersection(self.co, self.frame.external)

    @cached_property
    def coi(self) -> Relation:
        return intersection(self.co, self.frame.po)

    @cached_property
    def fre(self) -> Relation:
        return intersection(self.fr, self.frame.external)


class Frame:
    """What is the same in all candidates with the same paths through the threads: events, program order, dependencies.

    Sets and relations are those of `raddle.litmus.relations`.
    """

    def __init__(self, initial: Mapping[str, int], traces: Sequence[Trace]) -> None:
        self.events: list[Event] = [Event(Kind.WRITE, location, value) for location, value in initial.items()]
        self.threads = [INITIAL] * len(self.events)
        spans, links = [], []
        for number, trace in enumerate(traces):
            start = len(self.events)
            self.events += trace.events
            self.threads += [number] * len(trace.events)
            spans.append(range(start, len(self.events)))
            links += [(start, start + at, event) for at, event in enumerate(trace.events)]
        size = self.size = len(self.events)
        first = len(initial)
        self.po = related(size, ((a, b) for span in spans for a in span for b in range(a + 1, span.stop)))
        self.addr = related(size, ((start + a, here) for start, here, event in links for a in event.address))
        self.data = related(size, ((start + a, here) for start, here, event in links for a in event.data))
        self.ctrl = related(size, ((start + a, here) for start, here, event in links for a in event.control))
        self.rmw = related(size, ((start + event.read, here) for start, here, event in links if event.read >= 0))
        self.reads = set_of(n for n, event in enumerate(self.events) if event.kind is Kind.READ)
        self.writes = set_of(n for n, event in enumerate(self.events) if event.kind is Kind.WRITE)
        self.memory = self.reads | self.writes
        self.external = [
            set_of(other for other in range(size) if self.threads[other] != self.threads[n]) if n >= first else ~0
            for n in range(size)
        ]
        self.external = [row & (1 << size) - 1 for row in self.external]
        places = {location: self.at(location) for location in {event.location for event in self.events}}
        self.po_loc = [
            row & places[event.location] if event.kind is not Kind.FENCE else 0
            for event, row in zip(self.events, self.po, strict=True)
        ]
        self.results = {
            f"{number}:{name}": value for number, trace in enumerate(traces) for name, value in trace.registers.items()
        }

    def at(self, location: str) -> int:
        """The accesses to a location."""
        return set_of(
            n for n, event in enumerate(self.events) if event.location == location and event.kind is not Kind.FENCE
        )

    def marked(self, marks: Mark) -> int:
        """The events that have one of these marks."""
        return set_of(n for n, event in enumerate(self.events) if event.marks & marks)

    @cached_property
    def fences(self) -> Mapping[Mark, Relation]:
        """For each kind of fence, the pairs of an access before such a fence and an access after it."""
        made = {}
        for mark in (Mark.FULL, Mark.LOADS, Mark.STORES, Mark.INSTRUCTIONS):
            between = restricted(self.po, self.memory, self.marked(mark))
            made[mark] = compose(between, restricted(self.po, self.marked(mark), self.memory))
        return made

    def candidates(self) -> Iterator[Execution]:
        """All executions with these paths: all choices of rf and co that give each read its value."""
        by_location: dict[str, list[int]] = {}
        for number in elements(self.writes):
            by_location.setdefault(self.events[number].location, []).append(number)
        sources = []
        for number in elements(self.reads):
            read = self.events[number]
            writes = [w for w in by_location.get(read.location, ()) if self.events[w].value == read.value]
            if not writes:
                return
            sources.append([(write, number) for write in writes])
        count = prod(map(len, sources)) * prod(factorial(len(writes) - 1) for writes in by_location.values())
        if count > MOST_CANDIDATES:
            raise _too_many("candidate executions")
        orders = [
            [(writes[0], *rest) for rest in permutations(writes[1:])]  # the initial write comes first
            for writes in by_location.values()
        ]
        for pairs in product(*sources):
            rf = related(self.size, pairs)
            for chosen in product(*orders):
                co = related(
                    self.size,
                    ((order[a], later) for order in chosen for a in range(len(order)) for later in order[a + 1 :]),
                )
                yield Execution(self, rf, co)

    def outcome(self, execution: Execution) -> Outcome:
        last = {self.events[n].location: self.events[n].value for n in elements(self.writes) if not execution.co[n]}
        return tuple(sorted((self.results | last).items()))


class _Choices:
    """Replays the choices of `prefix` and takes the first option of those after it."""

    def __init__(self, prefix: tuple[int, ...], values: Mapping[str, Sequence[int]]) -> None:
        self.prefix = prefix
        self.values = values
        self.taken: list[int] = []
        self.options: list[int] = []
        """The number of options of each choice."""

    def __call__(self, location: str) -> int:
        options = self.values[location] if location else (1, 0)
        position = len(self.taken)
        number = self.prefix[position] if position < len(self.prefix) else 0
        self.taken.append(number)
        self.options.append(len(options))
        return options[number]


def paths(thread: Thread, values: Mapping[str, Sequence[int]]) -> Iterator[Trace]:
    """All traces of a thread whose reads return any of the `values` of their locations."""
    pending: list[tuple[int, ...]] = [()]
    while pending:
        prefix = pending.pop()
        choices = _Choices(prefix, values)
        yield thread.run(choices)
        for position in range(len(prefix), len(choices.taken)):
            pending += [(*choices.taken[:position], other) for other in range(1, choices.options[position])]


def executions(initial: Mapping[str, int], threads: Iterable[Thread]) -> Iterator[Execution]:
    """All candidate executions. `initial` has every location that the threads access. Raises UsageError if there are
    too many to enumerate."""
    traces = _traces(initial, list(threads))
    frames = (Frame(initial, chosen) for chosen in bounded(product(*traces), "combinations of paths"))
    yield from bounded((one for frame in frames for one in frame.candidates()), "candidate executions")


def _traces(initial: Mapping[str, int], threads: Sequence[Thread]) -> list[list[Trace]]:
    """All paths of each thread whose reads return values that may be in memory."""
    values: dict[str, list[int]] = {location: [value] for location, value in initial.items()}
    depth = 0
    while True:
        traces = [list(bounded(paths(thread, values), "paths")) for thread in threads]
        written = {
            (event.location, event.value)
            for paths_of in traces
            for trace in paths_of
            for event in trace.events
            if event.kind is Kind.WRITE
        }
        new = {(location, value) for location, value in written if value not in values[location]}
        # A value is computed from values written before it, so it takes at most as many steps as there are writes.
        writes = sum(max(map(_writes, paths_of)) for paths_of in traces)
        if not new or depth > writes:
            return traces
        depth += 1
        for location, value in sorted(new):
            values[location].append(value)
        if max(map(len, values.values())) > MOST_VALUES:
            raise UsageError(f"a location takes more than {MOST_VALUES} values: make this litmus test smaller")


def _writes(trace: Trace) -> int:
    return sum(event.kind is Kind.WRITE for event in trace.events)


MOST_VALUES: Final = 16
"""Values of one location. Only threads that add to each other's values make more."""
MOST_CANDIDATES: Final = 200_000
"""The most paths through a thread, and candidate executions, that are enumerated. They take some seconds."""


def bounded(things: Iterable[T], what: str) -> Iterator[T]:
    """Yields the same things. Raises UsageError if there are too many; `what` names them."""
    for number, thing in enumerate(things):
        if number >= MOST_CANDIDATES:
            raise _too_many(what)
        yield thing


def _too_many(what: str) -> UsageError:
    return UsageError(f"this litmus test has more than {MOST_CANDIDATES} {what}: make it smaller")


def outcomes(
    initial: Mapping[str, int], threads: Iterable[Thread], allows: Callable[[Execution], bool]
) -> frozenset[Outcome]:
    """The outcomes of all executions that a model `allows`."""
    found: set[Outcome] = set()
    for execution in executions(initial, threads):
        outcome = execution.frame.outcome(execution)
        if outcome not in found and allows(execution):
            found.add(outcome)
    return frozenset(found)


def location_order(execution: Execution) -> Relation:
    """Program order at each location, and communication. It is acyclic in every coherent memory."""
    return union(execution.frame.po_loc, execution.rf, execution.co, execution.fr)
