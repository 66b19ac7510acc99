# SPDX-License-Identifier: Apache-2.0
"""VAX arithmetic by what the manual says of its results: QEMU loses fractions, so it is no reference for them."""

from __future__ import annotations

from fractions import Fraction
from math import ldexp
from random import Random

import pytest

from raddle.ir.interpreter import CpuState
from raddle.testing.differential import Case, Interpreted, Outcome
from raddle_target_alpha import decode, vax
from raddle_target_alpha.exceptions import Entry, Summary
from raddle_target_alpha.frontend import front_end

CODE = 0x1000
FC, FA, FB = 2, 0, 1
SU, U, S, PLAIN = 5, 1, 4, 0
CHOPPED, NORMAL = 0, 2
PRECISION = {"F": 24, "G": 53}
LINES = {line.name: line for line in decode.alpha().patterns}


def run(name: str, a: int, b: int, traps: int = PLAIN, rounding: int = NORMAL) -> tuple[Outcome, list[int]]:
    """What an instruction makes of F0 and F1, and the summaries of its traps."""
    line = LINES[name]
    word = line.value
    for letter, value in (("x", FA), ("y", FB), ("z", FC), ("t", traps), ("r", rounding), ("s", traps >> 2)):
        if letter in line.letters:
            word |= line.letter_bits(letter, value)
    summaries: list[int] = []

    def trap(cpu: CpuState, summary: int, *_: int) -> int:
        summaries.append(summary)
        return 0

    def helper(cpu: CpuState, how: int, a: int, b: int) -> int:
        flags = {"fp_flags": cpu.header["fp_flags"]}
        result = vax.helper(flags, how, a, b)
        cpu.header |= flags
        return result

    callees = {"vax": helper, Entry.ARITH.routine: trap}
    runner = Interpreted(front_end("ev67"), ("f2", "fpcr"), callees=callees)
    return runner.run(Case(word.to_bytes(4, "little"), CODE, {"f0": a, "f1": b})), summaries


def number(bits: int) -> Fraction:
    """The value of an F or G number in a register."""
    exponent = bits >> 52 & 0x7FF
    magnitude = (
        Fraction(ldexp((bits & (1 << 52) - 1 | 1 << 52) / (1 << 53), exponent - 1024)) if exponent else Fraction(0)
    )
    return -magnitude if bits >> 63 else magnitude


def random_number(random: Random, name: str) -> int:
    fraction = random.getrandbits(23) << 29 if name == "F" else random.getrandbits(52)
    return random.getrandbits(1) << 63 | random.randrange(0x3F0, 0x410) << 52 | fraction


@pytest.mark.parametrize("rounding", [NORMAL, CHOPPED])
@pytest.mark.parametrize("format", ["F", "G"])
@pytest.mark.parametrize("operation", ["ADD", "SUB", "MUL", "DIV", "SQRT"])
def test_results_are_rounded_once(operation: str, format: str, rounding: int) -> None:
    random = Random(f"{operation}{format}{rounding}")
    ties = 0
    for _ in range(300):
        a, b = random_number(random, format), random_number(random, format)
        x, y = number(a), number(b)
        if operation == "SQRT":
            b, y = b & ~(1 << 63), abs(y)
        result = run(operation + format, a, b, rounding=rounding)[0].registers["f2"]
        found = number(result)
        unit = Fraction(2) ** ((result >> 52 & 0x7FF) - 1024 - PRECISION[format])
        if operation == "SQRT":
            low, high = (0, unit) if rounding == CHOPPED else (-unit / 2, unit / 2)
            assert (found + low) ** 2 <= y < (found + high) ** 2
            continue
        exact = {"ADD": x + y, "SUB": x - y, "MUL": x * y, "DIV": x / y}[operation]
        rest = abs(exact) - abs(found)
        assert found * exact >= 0
        if rounding == CHOPPED:
            assert 0 <= rest < unit
        else:
            assert -unit / 2 <= rest < unit / 2  # a half is rounded away from zero
            ties += rest == -unit / 2
    assert ties or rounding == CHOPPED or operation not in ("ADD", "SUB")


ONE, MOST, LEAST, RESERVED, DIRTY = 0x401 << 52, 0x7FF << 52 | (1 << 52) - 1, 1 << 52, 1 << 63, 5


@pytest.mark.parametrize(
    ("name", "a", "b", "traps", "result", "exceptions"),
    [
        ("ADDG", MOST, MOST, PLAIN, None, Summary.OVF),
        ("DIVG", ONE, 0, S, None, Summary.DZE),
        ("MULG", LEAST, LEAST, PLAIN, 0, Summary(0)),
        ("MULG", LEAST, LEAST, U, 0, Summary.UNF),
        ("ADDG", RESERVED, ONE, S, None, Summary.INV),
        ("ADDG", DIRTY, ONE, PLAIN, None, Summary.INV),
        ("ADDG", DIRTY, ONE, S, ONE, Summary(0)),
        ("SUBG", ONE, ONE, SU, 0, Summary(0)),
        ("SQRTG", 0, ONE | 1 << 63, PLAIN, None, Summary.INV),
        ("CMPGEQ", ONE, ONE, PLAIN, vax.TRUE, Summary(0)),
        ("CMPGLT", ONE, ONE, PLAIN, 0, Summary(0)),
        ("CMPGLE", ONE | 1 << 63, ONE, S, vax.TRUE, Summary(0)),
        ("CVTGQ", 0, ONE, PLAIN, 1, Summary(0)),
        ("CVTGQ", 0, 0x441 << 52 | 1 << 51, PLAIN, 1 << 63, Summary(0)),
        ("CVTGQ", 0, 0x441 << 52 | 1 << 51, U, 1 << 63, Summary.IOV),
        ("CVTQG", 0, 3, PLAIN, 0x402 << 52 | 1 << 51, Summary(0)),
        ("CVTQF", 0, (1 << 64) - 1, PLAIN, ONE | 1 << 63, Summary(0)),
        ("CVTGF", 0, ONE | 1 << 28, PLAIN, ONE | 1 << 29, Summary(0)),
        ("CVTGF", 0, MOST, PLAIN, None, Summary.OVF),
        ("CVTGD", 0, ONE | 1, PLAIN, 0x81 << 55 | 8, Summary(0)),
        ("CVTDG", 0, 0x81 << 55 | 4, PLAIN, ONE | 1, Summary(0)),
    ],
)
def test_exceptions(name: str, a: int, b: int, traps: int, result: int | None, exceptions: Summary) -> None:
    outcome, summaries = run(name, a, b, traps)
    assert summaries == ([exceptions | (Summary.SWC if traps & 4 else 0)] if exceptions else [])
    if result is not None:
        assert outcome.registers["f2"] == result
    assert outcome.registers["fpcr"] == 0
