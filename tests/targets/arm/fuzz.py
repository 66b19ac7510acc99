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
import itertools
import os
import shutil
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from lockstep import Difference, Ended, Peer, lockstep
from tests.targets import fuzzing
from tests.targets.arm import random_guest
from tests.targets.arm.differential import CODE, CODE_SIZE, LINES, Case, InterpreterRunner, Result, random_case
from tests.targets.arm.differential_vfp import Vfp, random_vfp, vfp_lines
from tests.targets.arm.program_runners import NativePrograms, UnicornPrograms, differences
from tests.targets.arm.random_interrupts import random_interrupts
from tests.targets.arm.sequences import random_program, shortened
from tests.targets.fuzzing import Layer, Round, Stored

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
SATURATES_BETWEEN: Final = 0x8000_8000
"""SMLAD of this value by itself: the peer sets Q as the sum of the products overflows; Ra counts, too (A8.8.178)."""

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
            done.differs(f"{vfp.case}: {found}", vfp.stored())

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
                done.differs(f"{program.case}: {self.differences(program)}", program.stored())

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

# -- the command -------------------------------------------------------------------------------------------------------


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
    fuzzing.add_options(parser, LAYERS)
    parser.add_argument("--host", action="append", choices=list(COMPILERS), default=[],
                        help="of the layer ir; may be given several times")  # fmt: skip
    options = fuzzing.parse(parser, arguments)
    options.only = options.only or layers_for(options.host)
    for fault in faults(options.host, options.only):
        parser.error(fault)
    with tempfile.TemporaryDirectory() as directory:
        options.make = dict(LAYERS)
        if "ir" in options.only:
            options.make["ir"] = partial(IrPrograms, build_runners(options.host or hosts_here(), Path(directory)))
        return fuzzing.begin(options)


if __name__ == "__main__":
    sys.exit(main())
