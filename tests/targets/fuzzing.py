# SPDX-License-Identifier: Apache-2.0
"""What the fuzzers of all guests share: rounds of random comparisons in processes of their own, and what is kept.

A guest's fuzzer has layers, each of which compares something with a reference. A round's random choices come from the
seed, the layer and the number of the round, so that it can be repeated.

Rounds run in processes of their own. One whose comparison has not ended after a limit (a hang), or that crashes, is
killed with what it runs; what it compared is kept as a difference is, and the next round goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import itertools
import json
import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol, runtime_checkable

REPORT_SECONDS: Final = 30
LIMIT_SECONDS: Final = 60
"""How long one comparison may take; a few seconds are usual."""
STACK_SECONDS: Final = 2
"""How long a process that hangs has to say where it is."""
STACK_LINES: Final = 8
TASKS_A_PROCESS: Final = 40
"""Rounds after which a process is replaced by a fresh one: translations of random code are kept, some MiB a round."""

Stored = dict[str, Any]
Makers = Mapping[str, Callable[..., "Layer"]]


@runtime_checkable
class Storable(Protocol):
    """What is compared, and can be kept as JSON."""

    def stored(self) -> Stored: ...


Item = Storable | Stored


@dataclass(frozen=True)
class Finding:
    """What is wrong: a ``difference``, ``hang``, ``crash`` or ``error``; the description, and what replays it."""

    kind: str
    text: str
    stored: Stored


@dataclass
class Round:
    """What a round has done so far: how many comparisons of what, and what it tells ``report`` of."""

    report: Callable[[Finding], None]
    compared: Counter[str] = field(default_factory=Counter)

    def differs(self, text: str, stored: Stored) -> None:
        self.report(Finding("difference", text, stored))


class Layer:
    """The base of what compares."""

    begins: Callable[[Item], None] = staticmethod(lambda _: None)
    """Told what is compared next, so that it can be kept if nothing is heard any more."""

    def round(self, random: Random, done: Round) -> None:
        """Compare what ``random`` leads to, and write it into ``done``."""
        raise NotImplementedError

    def replay(self, data: Stored) -> list[str]:
        """What differs still of what was stored."""
        raise NotImplementedError


# -- processes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """A round of a layer, or what is to be replayed on it. What makes the layer is found by its name elsewhere."""

    layer: str
    make: Callable[[], Layer]
    number: int = 0
    seed: str = ""
    data: Stored | None = None
    path: Path | None = None


def work(connection: Any, begun: Any, directory: Path) -> None:
    """A process: does the tasks that come, each with findings and the counter of comparisons as the answer.

    What it compares is always in the file ``now``; ``begun`` counts these; ``stack`` says where a crash or SIGUSR1 met
    it. Its process group has the QEMU that it runs.
    """
    os.setpgrp()
    threading.Thread(target=end_with_parent, daemon=True).start()
    layers: dict[str, Layer] = {}
    current: Item | None = None
    now = os.open(directory / "now", os.O_WRONLY | os.O_CREAT)
    with (directory / "stack").open("w") as stack:
        faulthandler.enable(stack, all_threads=False)
        faulthandler.register(signal.SIGUSR1, stack, all_threads=False)

        def begins(what: Item | None) -> None:
            nonlocal current
            current = what
            os.pwrite(now, pickle.dumps(what), 0)
            begun.value += 1

        while True:
            try:
                task: Task = connection.recv()
            except EOFError:
                return
            done, current = Round(connection.send), None
            try:
                if task.layer not in layers:
                    layers[task.layer] = task.make()
                    layers[task.layer].begins = begins
                layer = layers[task.layer]
                begins(None)
                if task.data is None:
                    layer.round(Random(f"{task.seed} {task.layer} {task.number}"), done)
                else:
                    for text in layer.replay(task.data):
                        done.differs(text, {})
            except Exception as error:  # what cannot be compared is a finding, too
                connection.send(Finding("error", repr(error), stored_item(current)))
            connection.send(done.compared)


def end_with_parent() -> None:
    """Kill this process and its group when the one that gives it tasks is no more, however that came."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.killpg(0, signal.SIGKILL)


def stored_item(what: Item | None) -> Stored:
    return what.stored() if isinstance(what, Storable) else what or {}


class Job:
    """A process that does one task at a time, and what is to be known should it never answer."""

    def __init__(self) -> None:
        self.task: Task | None = None
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._directory = tempfile.TemporaryDirectory()
        self._begun = context.RawValue("Q", 0)
        self.connection, theirs = context.Pipe()
        arguments = (theirs, self._begun, Path(self._directory.name))
        self._process = context.Process(target=work, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self._last, self._since, self._tasks, self._idle = -1, 0.0, 0, 0

    def give(self, task: Task | None) -> None:
        self.task = task
        self._last = -1
        if task is None:
            return
        if self._tasks == TASKS_A_PROCESS:
            self.close()
            self._start()
        self._tasks += 1
        self._idle = int(self._begun.value)
        self.connection.send(task)

    def is_stuck(self, limit: float) -> bool:
        """Whether it has been at one comparison for so many seconds, as far as calls of this method tell. Before the
        first one it imports and makes the layer, for which a small limit does not count.
        """
        begun, now = int(self._begun.value), time.monotonic()
        if begun != self._last:
            self._last, self._since = begun, now
        return now - self._since > (max(limit, LIMIT_SECONDS) if begun == self._idle else limit)

    def hung(self, limit: float) -> Finding:
        """Kill it and begin anew; what it was at."""
        stack = Path(self._directory.name, "stack")
        assert self._process.pid is not None
        if stack.exists():  # so it has a handler
            os.kill(self._process.pid, signal.SIGUSR1)
            end = time.monotonic() + STACK_SECONDS
            while not stack.stat().st_size and time.monotonic() < end:
                time.sleep(0.05)
        return self._lost("hang", f"no end after {limit:g} s")

    def crashed(self) -> Finding:
        """It has ended by itself: begin anew; what it was at."""
        return self._lost("crash", "the process has ended")

    def _lost(self, kind: str, text: str) -> Finding:
        self._kill()  # what is in the files stays as it is now
        if kind == "crash":
            text += f" with status {self._process.exitcode}"
        with contextlib.suppress(OSError):
            lines = Path(self._directory.name, "stack").read_text().splitlines()[:STACK_LINES]
            text = "\n".join([text, *lines])
        what = None
        if int(self._begun.value) != self._idle:
            what = pickle.loads(Path(self._directory.name, "now").read_bytes())
        self.close()
        self._start()
        return Finding(kind, text, stored_item(what))

    def _kill(self) -> None:
        self._process.kill()
        with contextlib.suppress(ProcessLookupError):  # it has not come so far as to have a group
            os.killpg(self._process.pid or 0, signal.SIGKILL)
        self._process.join()
        self.connection.close()

    def close(self) -> None:
        self._kill()
        self._directory.cleanup()


def supervise(tasks: Iterator[Task], count: int, limit: float) -> Iterator[tuple[Task, Finding | Counter[str]]]:
    """Have so many processes do the tasks; their findings, and the counters of those that have ended, as they come."""
    jobs = [Job() for _ in range(count)]
    try:
        for job in jobs:
            job.give(next(tasks, None))
        while busy := [(job, job.task) for job in jobs if job.task is not None]:
            ready = wait([job.connection for job, _ in busy], timeout=min(1, limit / 4))
            for job, task in busy:
                if job.connection in ready:
                    try:
                        said = job.connection.recv()
                    except (EOFError, OSError):
                        yield task, job.crashed()
                        said = Counter()
                elif job.is_stuck(limit):
                    yield task, job.hung(limit)
                    said = Counter()
                else:
                    continue
                yield task, said
                if not isinstance(said, Finding):
                    job.give(next(tasks, None))
    finally:
        for job in jobs:
            job.close()


# -- the command -------------------------------------------------------------------------------------------------------


def rounds(options: argparse.Namespace) -> Iterator[Task]:
    """The layers in turn until the time is over, or the one round that is wanted."""
    end = time.monotonic() + 60 * options.minutes
    for number in itertools.count() if options.round is None else [options.round]:
        for layer in options.only:
            if options.round is None and time.monotonic() >= end:
                return
            yield Task(layer, options.make[layer], number, options.seed)


def run(options: argparse.Namespace) -> int:
    started = reported = time.monotonic()
    compared: Counter[str] = Counter()
    findings: Counter[str] = Counter()
    for task, said in supervise(rounds(options), options.jobs, options.limit):
        if isinstance(said, Finding):
            findings[said.kind] += 1
            again = f"{options.guest}--seed {task.seed} --only {task.layer} --round {task.number}"
            print(f"{said.kind.upper()} in {task.layer}, {again}\n{said.text}", flush=True)
            if said.stored:
                print(f"  kept in {keep(options.keep, task, findings.total(), said)}", flush=True)
            continue
        compared[f"rounds of {task.layer}"] += 1
        compared += said
        if time.monotonic() - reported >= REPORT_SECONDS:
            reported = time.monotonic()
            print(f"{reported - started:5.0f} s: {summary(compared)}; {verdict(findings)}", flush=True)
    print(f"seed {options.seed}: {summary(compared)}")
    print(verdict(findings))
    return 1 if findings else 0


def summary(compared: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in compared.items())


PLURALS: Final = {"difference": "differences", "hang": "hangs", "crash": "crashes", "error": "errors"}


def verdict(findings: Counter[str]) -> str:
    """`0 differences, 1 hang`: other kinds where there are any."""
    counts = {"difference": 0, **findings}
    return ", ".join(f"{count} {kind if count == 1 else PLURALS[kind]}" for kind, count in counts.items())


def keep(directory: Path, task: Task, count: int, finding: Finding) -> Path:
    """Write what replays a finding; its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{task.layer}-{task.seed}-{task.number}-{count}.json"
    said = {"layer": task.layer, "kind": finding.kind, "why": finding.text[-400:]}
    path.write_text(json.dumps({**said, **finding.stored}, indent=1) + "\n")
    return path


def replay(path: Path, makers: Makers) -> list[str]:
    """What differs still of what a file keeps."""
    task = stored_task(path, makers)
    assert task.data is not None
    return task.make().replay(task.data)


def stored_task(path: Path, makers: Makers) -> Task:
    data = json.loads(path.read_text())
    return Task(data["layer"], makers[data["layer"]], data=data, path=path)


def replay_all(paths: Iterable[Path], options: argparse.Namespace) -> int:
    """Replay files as rounds are run; the exit status."""
    texts: dict[Path | None, list[str]] = {}
    tasks = (stored_task(path, options.make) for path in paths)
    for task, said in supervise(tasks, options.jobs, options.limit):
        found = texts.setdefault(task.path, [])
        if isinstance(said, Finding):
            found.append(said.text if said.kind == "difference" else f"{said.kind}: {said.text}")
        else:
            print(f"{task.path.name if task.path else ''}: {'; '.join(found) or 'no difference'}", flush=True)
    return 1 if any(texts.values()) else 0


def add_options(parser: argparse.ArgumentParser, layers: Iterable[str]) -> None:
    """The options that every fuzzer has."""
    parser.add_argument("--minutes", type=float, default=1, help="how long; the default is 1")
    parser.add_argument("--seed", help="any text; the default is a fresh one, which is printed")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side; the default is 1")
    parser.add_argument("--only", action="append", choices=list(layers), help="this layer; may be given several times")
    parser.add_argument("--round", type=int, help="only the round of this number")
    parser.add_argument("--limit", type=float, default=LIMIT_SECONDS, metavar="SECONDS",
                        help=f"a comparison that takes longer hangs; the default is {LIMIT_SECONDS}")  # fmt: skip
    parser.add_argument("--keep", type=Path, default=Path("fuzz-found"), help="directory for what is found")
    parser.add_argument("--replay", type=Path, nargs="+", metavar="FILE", help="run what files keep")


def parse(parser: argparse.ArgumentParser, arguments: list[str] | None) -> argparse.Namespace:
    """Read a command line. Ends the program for one that has no sense."""
    options = parser.parse_args(arguments)
    if options.jobs < 1 or options.minutes < 0 or options.limit <= 0:
        parser.error("--jobs must be at least 1, --minutes at least 0, --limit more than 0")
    return options


def begin(options: argparse.Namespace, guest: str = "") -> int:
    """Do what a command line asks for; the exit status. `guest` is what `--guest` has to say to repeat it."""
    if options.replay:
        return replay_all(options.replay, options)
    options.guest = f"--guest {guest} " if guest else ""
    options.seed = options.seed or os.urandom(4).hex()
    if options.round is not None:
        options.jobs = 1
    layers = ", ".join(options.only)
    print(f"seed {options.seed}, {options.jobs} jobs, {options.minutes:g} minutes: {layers}", flush=True)
    return run(options)
