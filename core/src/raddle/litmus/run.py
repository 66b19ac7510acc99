# SPDX-License-Identifier: Apache-2.0
"""Runs litmus tests as guests without an operating system, and counts the outcomes."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from raddle.accel import Decision, Mode
from raddle.errors import MachineError, UsageError
from raddle.litmus.assembly import LINE, SPINS, SPINS_IN_TURN, ThreadLayout, observed, thread_code
from raddle.litmus.executions import Outcome
from raddle.litmus.guest import LitmusGuest
from raddle.litmus.program import LitmusTest
from raddle.litmus.progress import Progress, Watch
from raddle.machine.machine import Machine

__all__ = ["Result", "run"]

ALIGNMENT: Final = 1 << 16
CODE_ROOM: Final = 1 << 14
"""Bytes for the code of each thread."""
ROUNDS: Final = 10_000
"""Rounds in a batch."""
POLL_SECONDS: Final = 0.001
PATIENCE: Final = 120.0
"""Seconds that a batch may take. Most vCPUs that never end theirs are found before that (`progress.py`)."""
WORD: Final = 4


class Result(NamedTuple):
    """The result of a test in one mode."""

    decision: Decision
    cpus: int
    counts: Counter[Outcome]
    """How often each outcome occurred. Outcomes have the names of LitmusTest.observed."""
    seconds: float
    """The time that the guest ran, without the time for evaluating results."""


class _Copy(NamedTuple):
    """One of the copies of a test that run at the same time."""

    locations: dict[str, int]
    """The address of each location's word of the first round."""
    results: list[int]
    """The address of each thread's results."""


class _Image:
    """The memory of a machine that runs copies of a test."""

    def __init__(self, test: LitmusTest, guest: LitmusGuest, copies: int, rounds: int) -> None:
        self.test, self.guest, self.rounds = test, guest, rounds
        threads = len(test.threads)
        self._next = guest.base
        mapped = guest.direct_map
        self._setup_data = self._take(ALIGNMENT)
        codes = [self._take(CODE_ROOM) for _ in range(copies * threads)]
        self._codes = codes
        self.entries = [mapped + code for code in codes]
        """As the CPUs see them; all other addresses here are physical."""
        self.go = [self._take(LINE) for _ in codes]
        self.done = [self._take(LINE) for _ in codes]
        patience = [self._take(LINE) for _ in codes]
        arrivals = [self._take(LINE) for _ in codes]
        self._layouts: list[ThreadLayout] = []
        self.copies: list[_Copy] = []
        self._arrivals = arrivals
        for copy in range(copies):
            mine = arrivals[copy * threads : (copy + 1) * threads]
            locations = {name: self._take(LINE * rounds) for name in test.initial}
            results = [self._take(max(LINE, WORD * rounds * len(observed(test, number)))) for number in range(threads)]
            self.copies.append(_Copy(locations, results))
            for number in range(threads):
                cpu = copy * threads + number
                layout = ThreadLayout(
                    number,
                    tuple(mapped + address for address in mine),
                    mapped + self.go[cpu],
                    mapped + self.done[cpu],
                    mapped + patience[cpu],
                    {name: mapped + address for name, address in locations.items()},
                    mapped + results[number],
                    rounds,
                )
                self._layouts.append(layout)
        self.end = -(-self._next // ALIGNMENT) * ALIGNMENT

    def _take(self, size: int) -> int:
        address = self._next
        self._next += -(-size // ALIGNMENT) * ALIGNMENT if size >= ALIGNMENT else -(-size // LINE) * LINE
        return address

    def write(self, memory: Any, spins: int) -> None:
        """Write the code, in which a thread looks so often whether another one has arrived. Raises UsageError."""
        setup = self.guest.setup(self._setup_data)
        memory.write(self._setup_data, setup.data)
        for address, layout in zip(self._codes, self._layouts, strict=True):
            code = setup.code + thread_code(self.test, self.guest, layout._replace(spins=spins))
            if len(code) > CODE_ROOM:
                raise UsageError(f"the machine code of test {self.test.name} is larger than {CODE_ROOM} bytes")
            memory.write(address, code)

    def begin(self, memory: Any) -> None:
        """Prepare memory for a batch, and set `go`."""
        for copy in self.copies:
            for name, address in copy.locations.items():
                initial = self.test.initial[name]
                if initial:
                    word = initial.to_bytes(WORD, "little").ljust(LINE, b"\0")
                    memory.write(address, word * self.rounds)
                else:
                    memory.clear(address, LINE * self.rounds)
        for address in (*self._arrivals, *self.done):
            memory.clear(address, WORD)
        for address in self.go:
            memory.write(address, (1).to_bytes(WORD, "little"))

    def is_done(self, memory: Any) -> bool:
        return not self.unfinished(memory)

    def rounds_begun(self, memory: Any) -> list[int]:
        """The round that each CPU is in; 0 before the first one."""
        return [int.from_bytes(memory.read(address, WORD), "little") for address in self._arrivals]

    def unfinished(self, memory: Any) -> list[int]:
        """The CPUs that have not ended the batch."""
        return [cpu for cpu, address in enumerate(self.done) if not any(memory.read(address, WORD))]

    def count(self, memory: Any, counts: Counter[Outcome]) -> None:
        """Add the outcomes of a batch."""
        for copy in self.copies:
            columns = [self._column(memory, copy, name) for name in self.test.observed]
            if not columns:
                counts[()] += self.rounds
                continue
            for values, number in Counter(zip(*columns, strict=True)).items():
                counts[tuple(zip(self.test.observed, values, strict=True))] += number

    def _column(self, memory: Any, copy: _Copy, name: str) -> list[int]:
        """The values of an observed name, by round."""
        thread, colon, register = name.partition(":")
        if not colon:
            data = memory.read(copy.locations[name], LINE * self.rounds)
            return memoryview(data).cast("I")[:: LINE // WORD].tolist()
        names = observed(self.test, int(thread))
        data = memory.read(copy.results[int(thread)], WORD * len(names) * self.rounds)
        return memoryview(data).cast("I")[names.index(register) :: len(names)].tolist()


def run(
    test: LitmusTest,
    guest: LitmusGuest,
    target: str,
    cpu: str,
    *,
    cpus: int,
    iterations: int,
    accelerator: str = "tcg",
    icount: str | None = None,
    rounds: int = ROUNDS,
    progress: Callable[[int], None] = lambda done: None,
) -> Result:
    """Run a test at least `iterations` times on a machine of at most `cpus` vCPUs. As many copies of it run at the same
    time as there are vCPUs for. `target` and `cpu` name the guest and its CPU model; `accelerator` and `icount` are the
    arguments of Machine. `progress` is called with the iterations so far. Raises UsageError if the test has more than
    `cpus` threads.
    """
    threads = len(test.threads)
    copies = cpus // threads
    if not copies:
        raise UsageError(f"test {test.name} has {threads} threads and needs as many CPUs, but there are {cpus}")
    rounds = max(1, min(rounds, -(-iterations // copies)))
    image = _Image(test, guest, copies, rounds)
    counts: Counter[Outcome] = Counter()
    with tempfile.TemporaryDirectory(prefix="raddle-litmus-") as directory:
        kernel = Path(directory) / "kernel"
        kernel.write_bytes(bytes(LINE))  # never executed: the CPUs are started elsewhere
        machine: Machine[Any] = Machine(
            f"{target}/{guest.board}",
            cpus=copies * threads,
            cpu=cpu,
            memory=image.end - guest.base + (16 << 20),
            kernel=kernel,
            accelerator=accelerator,
            icount=icount,
        )
        with machine:
            engine: Any = machine.engine
            engine.observer = Watch(machine)
            machine.start(paused=True)
            machine.spread()
            image.write(machine.memory, SPINS if machine.accel.mode is Mode.MULTI else SPINS_IN_TURN)
            for vcpu, entry in zip(machine.cpus, image.entries, strict=True):
                vcpu.power_on(entry, 0)
            seconds, total = 0.0, 0
            while total < iterations:
                image.begin(machine.memory)
                seconds += _batch(machine, image)
                image.count(machine.memory, counts)
                total += copies * rounds
                progress(total)
            return Result(machine.accel, copies * threads, counts, seconds)


def _batch(machine: Machine[Any], image: _Image) -> float:
    """Let the guest run a batch; returns the seconds that it took."""
    start, progress = time.monotonic(), Progress(machine, image)
    machine.resume()
    while not image.is_done(machine.memory):
        if machine.state.name != "RUNNING":
            machine.wait(PATIENCE)
            raise MachineError("the machine of a litmus test has ended before its batch")
        if time.monotonic() - start > PATIENCE:
            raise MachineError(f"a batch of {image.rounds} rounds has not ended in {PATIENCE:.0f} s")
        progress.check()
        time.sleep(POLL_SECONDS)
    took = time.monotonic() - start
    machine.pause()
    return took
