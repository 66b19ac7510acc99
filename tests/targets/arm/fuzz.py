# SPDX-License-Identifier: Apache-2.0
"""Compares Raddle's ARM with its peers on random instructions, programs and guests, as long as it is asked to.

    python tests/targets/arm/fuzz.py [--minutes M] [--seed S] [--jobs J] [--only LAYER ...]
    python tests/targets/arm/fuzz.py --replay FILE ...

Layers, in turn: every line of the decode tables with random operands (``instructions``), blocks of several
instructions (``programs``), both against Unicorn; random guests about memory management and exceptions, instruction by
instruction (``lockstep``) and at full speed by what they log (``guests``), against QEMU.

A round's random choices come from the seed, the layer and the number of the round: ``--seed S --only LAYER --round N``
repeats one. What differs is also written to a file, which ``--replay`` runs and tests/targets/arm/regressions keeps.

Exit status: 0 nothing differs, 1 something does, 2 a mistake in the command.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import multiprocessing
import os
import queue
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
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
from tests.targets.arm.sequences import random_program, shortened

from native import NativeRunner
from raddle import Machine
from raddle_target_arm.exceptions import CPSR_E
from raddle_target_arm.state import MODE_ABT, MODE_FIQ, MODE_SVC, MODE_SWP, MODE_USR

PROGRAMS_A_ROUND: Final = 500
LOCKSTEP_TRIALS: Final = 150
GUEST_TRIALS: Final = 1500
REPORT_SECONDS: Final = 30

SATURATES_BETWEEN: Final = 0x8000_8000
"""SMLAD of this value by itself: the peer sets Q as the sum of the products overflows; Ra counts, too (A8.8.178)."""

Stored = dict[str, Any]


@dataclass
class Round:
    """What a round did: how many comparisons, and what differed: the description and what replays it."""

    compared: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, Stored]] = field(default_factory=list)


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


class Instructions:
    """Every line of the tables alone, in three modes: the interpreter against Unicorn, generated code against the
    interpreter; lines of the VFP as generated code against Unicorn.
    """

    MODES: Final = (MODE_SVC, MODE_USR, MODE_SVC | CPSR_E)

    def __init__(self) -> None:
        self.peer, self.native, self.vfp_native = UnicornPrograms(), NativeRunner(), NativePrograms()

    def round(self, random: Random) -> Round:
        done = Round()
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
        return done

    def _check(self, done: Round, vfp: Vfp) -> None:
        done.compared["instructions"] += 1
        found = self.differences(vfp)
        if found:
            done.failures.append((f"{vfp.case}: {found}", stored_case(vfp)))

    def differences(self, vfp: Vfp) -> list[str]:
        if vfp.d != (0,) * 32:
            return differences(self.vfp_native.run_vfp(vfp), self.peer.run_vfp(vfp))
        case = vfp.case
        result = InterpreterRunner(MODE_SWP).run(case)
        found = [] if runs_on(case, result) else result.differences(self.peer.run_vfp(Vfp(case)).result)
        expected = InterpreterRunner().run(case)
        is_it = case.table == "t16" and case.word >> 8 == 0xBF and case.word & 0xF
        # IT would leave the ISB after the case in its block; a branch to itself never ends on the host; the abort with
        # which the run may end changes two modes.
        if not is_it and expected.pc != CODE and expected.cpsr & 0x1F not in (MODE_ABT, MODE_FIQ):
            found += [f"generated: {text}" for text in self.native.differences(case, expected)]
        return found

    def replay(self, data: Stored) -> list[str]:
        return self.differences(read_case(data))


class Programs:
    """Generated code of several instructions against Unicorn."""

    def __init__(self) -> None:
        self.native, self.peer = NativePrograms(), UnicornPrograms()

    def round(self, random: Random) -> Round:
        done = Round()
        for _ in range(PROGRAMS_A_ROUND):
            program = random_program(random)
            done.compared["programs"] += 1
            done.compared["instructions in programs"] += len(program.case.words)
            found = self.differences(program)
            if found:
                program = shortened(program, lambda candidate: bool(self.differences(candidate)))
                done.failures.append((f"{program.case}: {self.differences(program)}", stored_case(program)))
        return done

    def differences(self, program: Vfp) -> list[str]:
        return differences(self.native.run_vfp(program), self.peer.run_vfp(program))

    def replay(self, data: Stored) -> list[str]:
        return self.differences(read_case(data))


# -- guests ------------------------------------------------------------------------------------------------------------


def stored_guest(elf: bytes, guest: random_guest.Guest) -> Stored:
    packed = base64.b85encode(zlib.compress(elf, 9)).decode()
    return {"elf": packed, "end": guest.end, "trials": guest.trials}


class _Guests:
    """Makes guests, and keeps the file for as long as it is needed."""

    trials: int
    log: bool

    def round(self, random: Random) -> Round:
        done = Round()
        for long in (False, True):
            guest = random_guest.random_guest(random, self.trials, long=long, exact=self.log, log=self.log)
            elf = guest.elf()
            found = self._run(elf, guest.end, guest.trials, done.compared)
            done.compared["trials"] += guest.trials
            if found:
                done.failures.append(("\n".join(found), stored_guest(elf, guest)))
        return done

    def replay(self, data: Stored) -> list[str]:
        elf = zlib.decompress(base64.b85decode(data["elf"]))
        return self._run(elf, data["end"], data["trials"], Counter())

    def _run(self, elf: bytes, end: int, trials: int, compared: Counter[str]) -> list[str]:
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
    SECONDS: Final = 120

    def compare(self, elf: Path, end: int, trials: int, compared: Counter[str]) -> list[str]:
        ranges = {"log": (random_guest.LOG, random_guest.LOG_ENTRY * trials)}
        compared["logged exceptions"] += trials
        with tempfile.TemporaryDirectory() as directory, Peer(elf, Path(directory)) as peer:
            try:
                peer.run_to(end)
            except (Ended, TimeoutError) as error:
                return [f"QEMU does not come to the guest's end: {error!r}"]
            theirs = {name: peer.memory(*where) for name, where in ranges.items()}
        with Machine("virt", memory=256 << 20, kernel=elf, reboot=False) as machine:
            machine.start()
            machine.wait(timeout=self.SECONDS)
            ours = {name: bytes(machine.memory[at : at + size]) for name, (at, size) in ranges.items()}
        size = random_guest.LOG_ENTRY
        for at in range(0, len(ours["log"]), size):
            one, two = theirs["log"][at : at + size], ours["log"][at : at + size]
            if one != two:
                return [f"exception {at // size}: QEMU {one.hex(' ', -4)}", f"Raddle {two.hex(' ', -4)}"]
        return []


LAYERS: Final[dict[str, Callable[[], Any]]] = {
    "instructions": Instructions,
    "programs": Programs,
    "lockstep": InLockstep,
    "guests": AtFullSpeed,
}

# -- the command -------------------------------------------------------------------------------------------------------


def rounds(layers: list[str], job: int, jobs: int, only: int | None) -> Iterator[tuple[str, int]]:
    """The layers in turn, with the numbers of their rounds that are this job's."""
    if only is not None:
        yield from ((layer, only) for layer in layers)
        return
    for number in itertools.count(job, jobs):
        yield from ((layer, number) for layer in layers)


def work(job: int, options: argparse.Namespace, results: Any) -> None:
    """One job: rounds until the time is over."""
    runners: dict[str, Any] = {}
    end = time.monotonic() + 60 * options.minutes
    for layer, number in rounds(options.only, job, options.jobs, options.round):
        if time.monotonic() >= end and options.round is None:
            break
        if layer not in runners:
            runners[layer] = LAYERS[layer]()
        try:
            done = runners[layer].round(Random(f"{options.seed} {layer} {number}"))
        except Exception as error:  # a round that cannot be run is a finding, too
            done = Round(failures=[(repr(error), {})])
        results.put((layer, number, done))
    results.put(None)


def run(options: argparse.Namespace) -> int:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=work, args=(job, options, results)) for job in range(options.jobs)]
    for process in processes:
        process.start()
    started = reported = time.monotonic()
    compared: Counter[str] = Counter()
    failures, running = 0, len(processes)
    while running:
        try:
            got = results.get(timeout=1)
        except queue.Empty:
            if any(process.exitcode for process in processes):  # it has crashed: its last word will not come
                break
            continue
        if got is None:
            running -= 1
            continue
        layer, number, done = got
        compared[f"rounds of {layer}"] += 1
        compared += done.compared
        for text, stored in done.failures:
            failures += 1
            print(f"DIFFERENCE in {layer}, --seed {options.seed} --only {layer} --round {number}\n{text}", flush=True)
            if stored:
                print(f"  kept in {keep(options, layer, number, failures, text, stored)}", flush=True)
        if time.monotonic() - reported >= REPORT_SECONDS:
            reported = time.monotonic()
            print(f"{reported - started:5.0f} s: {summary(compared)}, {failures} differences", flush=True)
    broken = any(process.exitcode for process in processes)
    for process in processes:
        if broken:
            process.terminate()
        process.join()
    print(f"seed {options.seed}: {summary(compared)}")
    print("a job ended before its time" if broken else f"{failures} differences")
    return 1 if failures or broken else 0


def summary(compared: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in compared.items())


def keep(options: argparse.Namespace, layer: str, number: int, failure: int, text: str, stored: Stored) -> Path:
    """Write what replays a difference; its path."""
    options.keep.mkdir(parents=True, exist_ok=True)
    path = options.keep / f"{layer}-{options.seed}-{number}-{failure}.json"
    said = text[-400:]
    path.write_text(json.dumps({"layer": layer, "why": said, **stored}, indent=1) + "\n")
    return Path(path)


def replay(path: Path) -> list[str]:
    """What differs still of what a file keeps."""
    data = json.loads(path.read_text())
    found: list[str] = LAYERS[data["layer"]]().replay(data)
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1, help="how long; the default is 1")
    parser.add_argument("--seed", help="any text; the default is a fresh one, which is printed")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side; the default is 1")
    parser.add_argument("--only", action="append", choices=list(LAYERS), help="this layer; may be given several times")
    parser.add_argument("--round", type=int, help="only the round of this number")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-found"), help="directory for what differs")
    parser.add_argument("--replay", type=Path, nargs="+", metavar="FILE", help="run what files keep")
    options = parser.parse_args(arguments)
    if options.jobs < 1 or options.minutes < 0:
        parser.error("--jobs must be at least 1, --minutes at least 0")
    if options.replay:
        found = {path: replay(path) for path in options.replay}
        for path, texts in found.items():
            print(f"{path.name}: {'; '.join(texts) or 'no difference'}")
        return 1 if any(found.values()) else 0
    options.seed = options.seed or os.urandom(4).hex()
    options.only = options.only or list(LAYERS)
    if options.round is not None:
        options.jobs = 1
    layers = ", ".join(options.only)
    print(f"seed {options.seed}, {options.jobs} jobs, {options.minutes:g} minutes: {layers}", flush=True)
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
