# SPDX-License-Identifier: Apache-2.0
"""Compares Raddle's ARM with its peers on random instructions, programs and guests, as long as it is asked to.

    python tests/targets/arm/fuzz.py [--minutes M] [--seed S] [--jobs J] [--only LAYER ...] [--host NAME ...]
                                     [--limit SECONDS]
    python tests/targets/arm/fuzz.py --replay FILE ...

Layers, in turn: random programs of IR, by the interpreter and as code of each host (``ir``); every line of the decode
tables with random operands (``instructions``), blocks of several instructions (``programs``), both against Unicorn;
random guests about memory management and exceptions, instruction by instruction (``lockstep``) and at full speed by
what they log (``guests``), and about the interrupt controller by what they log (``interrupts``), against QEMU.

``--host`` names the hosts of the layer ``ir``; the default are those whose code can be run here, by this machine or by
an emulator of user programs. The other layers run on this machine's host: with another host alone, they are left out.

A round's random choices come from the seed, the layer and the number of the round: ``--seed S --only LAYER --round N``
repeats one. What differs is also written to a file, which ``--replay`` runs and tests/targets/arm/regressions keeps.

Rounds run in processes of their own. One whose comparison has not ended after ``--limit`` seconds (a hang), or that
crashes, is killed with the QEMU it runs; what it compared is kept as a difference is, and the next round goes on.

Exit status: 0 nothing differs, 1 something does, hangs or crashes, 2 a mistake in the command.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import faulthandler
import itertools
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from random import Random
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from lockstep import Difference, Ended, Peer, lockstep
from tests.targets.arm import random_guest
from tests.targets.arm.differential import CODE, CODE_SIZE, LINES, Case, InterpreterRunner, Result, random_case
from tests.targets.arm.differential_vfp import Vfp, random_vfp, vfp_lines
from tests.targets.arm.program_runners import NativePrograms, UnicornPrograms, differences
from tests.targets.arm.random_interrupts import random_interrupts
from tests.targets.arm.sequences import random_program, shortened

from native import NativeRunner
from raddle import Machine
from raddle.codegen.allocation import Allocation
from raddle.ir.types import Type
from raddle.plugins import registry
from raddle.testing.foreign_harness import ForeignHarness, Runner, build_runner, emulator
from raddle.testing.generate import Program
from raddle.testing.generate import random_program as random_ir
from raddle.testing.host_contract import differing, smallest
from raddle.testing.ir_programs import LAYOUT
from raddle_target_arm.exceptions import CPSR_E
from raddle_target_arm.state import MODE_ABT, MODE_FIQ, MODE_SVC, MODE_SWP, MODE_USR

PROGRAMS_A_ROUND: Final = 500
IR_PROGRAMS_A_ROUND: Final = 200
LOCKSTEP_TRIALS: Final = 150
GUEST_TRIALS: Final = 1500
REPORT_SECONDS: Final = 30
LIMIT_SECONDS: Final = 60
"""How long one comparison may take; a few seconds are usual."""
STACK_SECONDS: Final = 2
"""How long a process that hangs has to say where it is."""
STACK_LINES: Final = 8
TASKS_A_PROCESS: Final = 40
"""Rounds after which a process is replaced by a fresh one: translations of random code are kept, some MiB a round."""

SATURATES_BETWEEN: Final = 0x8000_8000
"""SMLAD of this value by itself: the peer sets Q as the sum of the products overflows; Ra counts, too (A8.8.178)."""

Stored = dict[str, Any]
Makers = Mapping[str, Callable[..., "Layer"]]


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

    begins: Callable[[Vfp | Stored], None] = staticmethod(lambda _: None)
    """Told what is compared next, so that it can be kept if nothing is heard any more."""

    def round(self, random: Random, done: Round) -> None:
        """Compare what ``random`` leads to, and write it into ``done``."""
        raise NotImplementedError

    def replay(self, data: Stored) -> list[str]:
        """What differs still of what was stored."""
        raise NotImplementedError


# -- programs of IR ----------------------------------------------------------------------------------------------------


COMPILERS: Final = {"aarch64": "aarch64-linux-gnu-gcc", "x86_64": "x86_64-linux-gnu-gcc"}
"""Of the program that runs a host's code; on the machine itself any compiler will do."""


def tools_for(host: str) -> tuple[str | None, tuple[str, ...]]:
    """The compiler for a host, None for want of it, and the command that runs its programs."""
    command = emulator(f"qemu-{host}", host)
    compiler = shutil.which(COMPILERS.get(host, "")) or (None if command else shutil.which("cc"))
    return compiler, command


def runs_here(host: str) -> bool:
    compiler, command = tools_for(host)
    return compiler is not None and all(map(shutil.which, command))


def hosts_here() -> list[str]:
    """The hosts whose code can be run, on this machine or by an emulator."""
    return [host for host in registry().names("host") if runs_here(host)]


def build_runners(hosts: Iterable[str], directory: Path) -> dict[str, Path]:
    """By host, the program that runs its code, built in this directory."""
    programs = {}
    for host in hosts:
        compiler, _ = tools_for(host)
        assert compiler is not None
        where = directory / host
        where.mkdir()
        programs[host] = build_runner([compiler], where)
    return programs


class IrPrograms(Layer):
    """Random programs of IR: each host's code against the interpreter, with the software TLB hit and missed, and
    registers chosen in any way.
    """

    def __init__(self, programs: Mapping[str, Path]) -> None:
        """By host, the program that runs its code: see `build_runners`."""
        self.harnesses = {}
        for host, program in programs.items():
            runner = Runner([*tools_for(host)[1], program])
            backend = registry().load(registry().host(host))
            self.harnesses |= {(host, tlb): ForeignHarness(backend, runner, tlb) for tlb in (True, False)}

    def round(self, random: Random, done: Round) -> None:
        for _ in range(IR_PROGRAMS_A_ROUND):
            stored = {
                "program": random.getrandbits(64),
                "word": random.choice((Type.I32, Type.I64)).name,
                "tlb": random.random() < 0.5,
                "allocation": random.choice(list(Allocation)).name,
            }
            done.compared["programs of IR"] += 1
            for text in self.replay(stored):
                done.differs(text, stored)

    def replay(self, data: Stored) -> list[str]:
        self.begins(data)
        program = random_ir(Random(data["program"]), LAYOUT, word=Type[data["word"]])
        allocation = Allocation[data["allocation"]]
        found = []
        for (host, tlb), harness in self.harnesses.items():
            if tlb == data["tlb"]:
                text = self._difference(program, harness, allocation)
                found += [f"{host}: {text}"] if text else []
        return found

    def close(self) -> None:
        """End the processes that run the code."""
        for harness in self.harnesses.values():
            harness.runner.close()

    @staticmethod
    def _difference(program: Program, harness: ForeignHarness, allocation: Allocation) -> str:
        """What differs, with the smallest program that shows it; empty for nothing."""
        if not differing(program, harness, allocation):
            return ""
        small = smallest(program, harness, allocation)
        return "\n".join([small.describe(LAYOUT), *differing(small, harness, allocation)])


# -- instructions and programs -----------------------------------------------------------------------------------------


def stored_case(case: Vfp | Case) -> Stored:
    """A case as JSON has it."""
    vfp = case if isinstance(case, Vfp) else Vfp(case)
    data = asdict(vfp)
    data["case"]["data"] = vfp.case.data.hex()
    return data


def read_case(data: Stored) -> Vfp:
    case = {**data["case"], "data": bytes.fromhex(data["case"]["data"])}
    case["registers"] = tuple(case["registers"])
    case["more"] = tuple((table, word) for table, word in case["more"])
    return Vfp(Case(**case), tuple(data["d"]), data["fpscr"])


class Instructions(Layer):
    """Every line of the tables alone, in three modes: the interpreter against Unicorn, generated code against the
    interpreter; lines of the VFP as generated code against Unicorn.
    """

    MODES: Final = (MODE_SVC, MODE_USR, MODE_SVC | CPSR_E)

    def __init__(self) -> None:
        self.peer, self.native, self.vfp_native = UnicornPrograms(), NativeRunner(), NativePrograms()

    def round(self, random: Random, done: Round) -> None:
        for (table, _), patterns in LINES.items():
            for pattern, mode in itertools.product(patterns, self.MODES):
                case = random_case(random, table, pattern, mode)
                if case is None or (mode == MODE_USR and pattern.name.startswith("MSR_")):
                    continue  # in User mode the peer ignores a write of E, which is allowed (B1.3.3)
                if pattern.name == "SMLAD" and case.registers.count(SATURATES_BETWEEN) > 0:
                    continue
                self._check(done, Vfp(case))
        for table, pattern in vfp_lines():
            if pattern.name in ("VMRS", "VMSR"):
                continue  # identification is not the peer's; the rest is in programs
            vfp = random_vfp(random, table, pattern)
            if pattern.name.startswith("VST") and pattern.values(vfp.case.word)["n"] == 15:
                continue  # UNPREDICTABLE in T32; the board would ignore a store to the code, which is ROM
            self._check(done, vfp)

    def _check(self, done: Round, vfp: Vfp) -> None:
        done.compared["instructions"] += 1
        found = self.differences(vfp)
        if found:
            done.differs(f"{vfp.case}: {found}", stored_case(vfp))

    def differences(self, vfp: Vfp) -> list[str]:
        self.begins(vfp)
        if vfp.d != (0,) * 32:
            return differences(self.vfp_native.run_vfp(vfp), self.peer.run_vfp(vfp))
        case = vfp.case
        result = InterpreterRunner(MODE_SWP).run(case)
        found = [] if runs_on(case, result) else result.differences(self.peer.run_vfp(Vfp(case)).result)
        if (
            found
        ):  # Unicorn keeps translations of earlier cases, and may go on into one, or fail to, at a branch's target
            self.peer = UnicornPrograms()
            found = result.differences(self.peer.run_vfp(Vfp(case)).result)
        expected = InterpreterRunner().run(case)
        is_it = case.table == "t16" and case.word >> 8 == 0xBF and case.word & 0xF
        # IT would leave the ISB after the case in its block; a branch to itself never ends on the host; the abort with
        # which the run may end changes two modes.
        if not is_it and expected.pc != CODE and expected.cpsr & 0x1F not in (MODE_ABT, MODE_FIQ):
            found += [f"generated: {text}" for text in self.native.differences(case, expected)]
        return found

    def replay(self, data: Stored) -> list[str]:
        return self.differences(read_case(data))


class Programs(Layer):
    """Generated code of several instructions against Unicorn."""

    def __init__(self) -> None:
        self.native, self.peer = NativePrograms(), UnicornPrograms()

    def round(self, random: Random, done: Round) -> None:
        for _ in range(PROGRAMS_A_ROUND):
            program = random_program(random)
            done.compared["programs"] += 1
            done.compared["instructions in programs"] += len(program.case.words)
            found = self.differences(program)
            if found:
                program = shortened(program, lambda candidate: bool(self.differences(candidate)))
                done.differs(f"{program.case}: {self.differences(program)}", stored_case(program))

    def differences(self, program: Vfp) -> list[str]:
        self.begins(program)
        return differences(self.native.run_vfp(program), self.peer.run_vfp(program))

    def replay(self, data: Stored) -> list[str]:
        return self.differences(read_case(data))


# -- guests ------------------------------------------------------------------------------------------------------------


def stored_guest(elf: bytes, guest: random_guest.Guest) -> Stored:
    packed = base64.b85encode(zlib.compress(elf, 9)).decode()
    return {"elf": packed, "end": guest.end, "trials": guest.trials}


class _Guests(Layer):
    """Makes guests, and keeps the file for as long as it is needed."""

    trials: int
    log: bool

    def guests(self, random: Random) -> Iterator[random_guest.Guest]:
        """Those of a round."""
        for long in (False, True):
            yield random_guest.random_guest(random, self.trials, long=long, exact=self.log, log=self.log)

    def round(self, random: Random, done: Round) -> None:
        for guest in self.guests(random):
            stored = stored_guest(guest.elf(), guest)
            found = self._run(stored, done.compared)
            done.compared["trials"] += guest.trials
            if found:
                done.differs("\n".join(found), stored)

    def replay(self, data: Stored) -> list[str]:
        return self._run(data, Counter())

    def _run(self, stored: Stored, compared: Counter[str]) -> list[str]:
        self.begins(stored)
        elf, end, trials = zlib.decompress(base64.b85decode(stored["elf"])), stored["end"], stored["trials"]
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "guest.elf")
            path.write_bytes(elf)
            return self.compare(path, end, trials, compared)

    def compare(self, elf: Path, end: int, trials: int, compared: Counter[str]) -> list[str]:
        raise NotImplementedError


def runs_on(case: Case, result: Result) -> bool:
    """Whether the peer, which does not count a branch in an IT block, goes on at its target, which is mapped."""
    return bool(case.it) and CODE + len(case.code) < result.pc < CODE + CODE_SIZE


class InLockstep(_Guests):
    """Guests instruction by instruction."""

    trials, log = LOCKSTEP_TRIALS, False

    def compare(self, elf: Path, end: int, trials: int, compared: Counter[str]) -> list[str]:
        with lockstep(elf, often=sys.maxsize) as both:
            try:
                both.run(1000 + 400 * trials)
            except Difference as difference:
                return [str(difference)]
            finally:
                compared["steps in lock-step"] += both.steps
                compared["exceptions in lock-step"] += both.exceptions
        return []


class AtFullSpeed(_Guests):
    """Guests that run as fast as they can, in which blocks are as long as they get; their memory is compared then."""

    trials, log = GUEST_TRIALS, True
    logged = "logged exceptions"
    SECONDS: Final = 120

    def compare(self, elf: Path, end: int, trials: int, compared: Counter[str]) -> list[str]:
        ranges = {"log": (random_guest.LOG, random_guest.LOG_ENTRY * trials)}
        compared[self.logged] += trials
        with tempfile.TemporaryDirectory() as directory, Peer(elf, Path(directory)) as peer:
            try:
                peer.run_to(end)
            except (Ended, TimeoutError) as error:
                return [f"QEMU does not come to the guest's end: {error!r}"]
            theirs = {name: peer.read_memory(*where) for name, where in ranges.items()}
        with Machine("virt", memory=256 << 20, kernel=elf, reboot=False) as machine:
            machine.start()
            machine.wait(timeout=self.SECONDS)
            ours = {name: bytes(machine.memory[at : at + size]) for name, (at, size) in ranges.items()}
        size = random_guest.LOG_ENTRY
        for at in range(0, len(ours["log"]), size):
            one, two = theirs["log"][at : at + size], ours["log"][at : at + size]
            if one != two:
                return [f"trial {at // size}: QEMU {one.hex(' ', -4)}", f"Raddle {two.hex(' ', -4)}"]
        return []


class Interrupts(AtFullSpeed):
    """What the interrupt controller does."""

    logged = "logged uses of the interrupt controller"

    def guests(self, random: Random) -> Iterator[random_guest.Guest]:
        for _ in range(2):
            yield random_interrupts(random, self.trials)


LAYERS: Final[dict[str, Callable[..., Layer]]] = {
    "ir": IrPrograms,
    "instructions": Instructions,
    "programs": Programs,
    "lockstep": InLockstep,
    "guests": AtFullSpeed,
    "interrupts": Interrupts,
}

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
    current: Vfp | Stored | None = None
    now = os.open(directory / "now", os.O_WRONLY | os.O_CREAT)
    with (directory / "stack").open("w") as stack:
        faulthandler.enable(stack, all_threads=False)
        faulthandler.register(signal.SIGUSR1, stack, all_threads=False)

        def begins(what: Vfp | Stored | None) -> None:
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


def stored_item(what: Vfp | Stored | None) -> Stored:
    return stored_case(what) if isinstance(what, Vfp) else what or {}


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
            again = f"--seed {task.seed} --only {task.layer} --round {task.number}"
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


def replay(path: Path) -> list[str]:
    """What differs still of what a file keeps."""
    task = stored_task(path, LAYERS)
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


def layers_for(hosts: list[str]) -> list[str]:
    """All that these hosts, or by default those that there are, can run."""
    layers = [layer for layer in LAYERS if layer == "ir" or not hosts or os.uname().machine in hosts]
    if not hosts and not hosts_here():
        print("not run: ir, as there is no compiler for any host", flush=True)
        layers.remove("ir")
    return layers


def faults(hosts: list[str], layers: list[str]) -> Iterator[str]:
    """What is asked for and cannot be."""
    for host in hosts:
        if not runs_here(host):
            needed = " and ".join((COMPILERS[host], *tools_for(host)[1]))
            yield f"the code of host {host} cannot be run here: {needed} must be there"
    elsewhere = [layer for layer in layers if layer != "ir"]
    if hosts and os.uname().machine not in hosts and elsewhere:
        yield f"{', '.join(elsewhere)}: only this machine's host ({os.uname().machine}) runs this"
    if "ir" in layers and not hosts and not hosts_here():
        yield "ir: there is no compiler for any host"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1, help="how long; the default is 1")
    parser.add_argument("--seed", help="any text; the default is a fresh one, which is printed")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side; the default is 1")
    parser.add_argument("--only", action="append", choices=list(LAYERS), help="this layer; may be given several times")
    parser.add_argument("--host", action="append", choices=list(COMPILERS), default=[],
                        help="of the layer ir; may be given several times")  # fmt: skip
    parser.add_argument("--round", type=int, help="only the round of this number")
    parser.add_argument("--limit", type=float, default=LIMIT_SECONDS, metavar="SECONDS",
                        help=f"a comparison that takes longer hangs; the default is {LIMIT_SECONDS}")  # fmt: skip
    parser.add_argument("--keep", type=Path, default=Path("fuzz-found"), help="directory for what is found")
    parser.add_argument("--replay", type=Path, nargs="+", metavar="FILE", help="run what files keep")
    options = parser.parse_args(arguments)
    if options.jobs < 1 or options.minutes < 0 or options.limit <= 0:
        parser.error("--jobs must be at least 1, --minutes at least 0, --limit more than 0")
    options.only = options.only or layers_for(options.host)
    for fault in faults(options.host, options.only):
        parser.error(fault)
    with tempfile.TemporaryDirectory() as directory:
        options.make = dict(LAYERS)
        if "ir" in options.only:
            options.make["ir"] = partial(IrPrograms, build_runners(options.host or hosts_here(), Path(directory)))
        return begin(options)


def begin(options: argparse.Namespace) -> int:
    if options.replay:
        return replay_all(options.replay, options)
    options.seed = options.seed or os.urandom(4).hex()
    if options.round is not None:
        options.jobs = 1
    layers = ", ".join(options.only)
    print(f"seed {options.seed}, {options.jobs} jobs, {options.minutes:g} minutes: {layers}", flush=True)
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
