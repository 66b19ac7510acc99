# SPDX-License-Identifier: Apache-2.0
"""Compares Raddle's Alpha with QEMU's user programs on random instructions and programs, as long as it is asked to.

    python tests/fuzz.py --guest alpha [--minutes M] [--seed S] [--jobs J] [--only LAYER ...] [--limit SECONDS]
    python tests/fuzz.py --guest alpha --replay FILE ...

Layers, in turn: every line of the table of integer instructions (``integer``) and of floating-point instructions with
every qualifier (``float``) with random operands, and programs of up to 16 instructions (``programs``): integers, moves
between registers, loads and stores, conditional stores, branches forward, faults; as generated code, too. Programs with
all instructions, as generated code against the interpreter alone (``generated``).

Exit status: 0 nothing differs, 1 something does, hangs or crashes, 2 a mistake in the command.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from random import Random
from typing import Final

from tests.targets import fuzzing
from tests.targets.alpha import float_cases, integer_cases, programs
from tests.targets.alpha.native import Native
from tests.targets.alpha.peer import WINDOW, Peer
from tests.targets.fuzzing import Layer, Makers, Round, Stored

from raddle.testing.differential import Case, differences
from raddle.translate.decode import Pattern
from raddle_target_alpha import decode
from raddle_target_alpha.fpcr import CONTROL, DYN_SHIFT, STATUS_SHIFT

PROGRAMS_A_ROUND: Final = 500
REST: Final = ((1 << 6) - 1) << STATUS_SHIFT | 3 << DYN_SHIFT
"""Bits of FPCR that are as random in the easy case: status and rounding."""


@dataclass(frozen=True)
class Kept:
    """A case that can be kept."""

    case: Case

    def stored(self) -> Stored:
        case = self.case
        return {"code": case.code.hex(), "registers": dict(case.registers), "memory": case.memory[WINDOW].hex()}


class _Cases(Layer):
    """Cases in the interpreter against QEMU, which has them at its own address."""

    def __init__(self) -> None:
        self.peer = Peer()

    def read(self, data: Stored) -> Case:
        code = bytes.fromhex(data["code"])
        return self.case(code, data["registers"], bytes.fromhex(data["memory"]))

    def case(self, code: bytes, registers: dict[str, int], memory: bytes) -> Case:
        return Case(code, self.peer.slot, registers, {WINDOW: memory}, steps=len(code) // 4)

    def check(self, done: Round, case: Case, what: str) -> None:
        done.compared[what] += 1
        found = self.difference(case)
        if found:
            case = self.smaller(case)
            done.differs(f"{case.code.hex(' ', 4)}: {self.difference(case)}", Kept(case).stored())

    def smaller(self, case: Case) -> Case:
        """One that differs, too."""
        return case

    def difference(self, case: Case) -> str:
        """What differs; empty for nothing."""
        raise NotImplementedError

    def replay(self, data: Stored) -> list[str]:
        found = self.difference(self.read(data))
        return [found] if found else []


def pattern_of(case: Case) -> Pattern:
    pattern = decode.alpha().decode(int.from_bytes(case.code, "little"))
    assert pattern is not None
    return pattern


class Integers(_Cases):
    """Every integer instruction alone."""

    def round(self, random: Random, done: Round) -> None:
        for pattern in integer_cases.LINES:
            self.check(done, integer_cases.random_case(random, pattern, self.peer.slot), "integer instructions")

    def difference(self, case: Case) -> str:
        self.begins(Kept(case))
        found = differences(integer_cases.interpreted().run(case), self.peer.run(case))
        return f"{pattern_of(case).name}: {found}" if found else ""


class Floats(_Cases):
    """Every floating-point instruction alone, but for what is known to be the peer's own."""

    def round(self, random: Random, done: Round) -> None:
        for pattern in float_cases.LINES:
            self.check(done, float_cases.random_case(random, pattern, self.peer.slot), "floating-point instructions")

    def difference(self, case: Case) -> str:
        self.begins(Kept(case))
        return float_cases.wrong(pattern_of(case), case, float_cases.interpreted().run(case), self.peer.run(case))


class Programs(_Cases):
    """Several instructions, and as generated code against the interpreter."""

    def __init__(self) -> None:
        super().__init__()
        self.native = Native()

    def close(self) -> None:
        """End the peer and the machine."""
        self.peer.close()
        self.native.machine.close()

    def round(self, random: Random, done: Round) -> None:
        for _ in range(PROGRAMS_A_ROUND):
            self.check(done, self.case(*programs.random_program(random)), "programs")

    def difference(self, case: Case) -> str:
        self.begins(Kept(case))
        found = programs.difference(programs.RUNNER.run(case), self.peer.run(case))
        return found or self.of_generated_code(case)

    def of_generated_code(self, case: Case) -> str:
        """What it does otherwise than the interpreter."""
        moved = programs.moved(case)
        found = programs.difference(self.native.run(moved), programs.RUNNER.run(moved))
        return f"generated: {found}" if found else ""

    def smaller(self, case: Case) -> Case:
        """With as many instructions replaced by ones that do nothing as may be."""
        for at in range(0, len(case.code), 4):
            code = case.code[:at] + programs.NOTHING + case.code[at + 4 :]
            one = self.case(code, dict(case.registers), case.memory[WINDOW])
            if self.difference(one):
                case = one
        return case


class Generated(Programs):
    """Generated code against the interpreter alone: programs with IEEE arithmetic, too, and any FPCR. Of VAX's numbers
    both call the same function.
    """

    LINES: Final = [*programs.LINES, *float_cases.LINES]

    def round(self, random: Random, done: Round) -> None:
        for _ in range(PROGRAMS_A_ROUND):
            control = (
                random.choice((float_cases.EASY, random.getrandbits(64))) & CONTROL | random.getrandbits(64) & REST
            )
            self.check(done, self.case(*programs.random_program(random, self.LINES, control)), "generated programs")

    def difference(self, case: Case) -> str:
        self.begins(Kept(case))
        return self.of_generated_code(case)


LAYERS: Final[Makers] = {"integer": Integers, "float": Floats, "programs": Programs, "generated": Generated}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    fuzzing.add_options(parser, LAYERS)
    options = fuzzing.parse(parser, arguments)
    options.only = options.only or list(LAYERS)
    options.make = LAYERS
    return fuzzing.begin(options, "alpha")
