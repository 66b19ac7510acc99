# SPDX-License-Identifier: Apache-2.0
"""Random programs of several instructions for `Peer`: integers, moves, accesses, conditional stores, branches, faults.

The base register of accesses is never written. Load-locked instructions do not write R31: the peer takes these for
prefetches, as the manual has it of other loads alone (4.2.1). Left out are instructions whose results may differ
(`float_cases.peers_own`) and misaligned accesses, which Linux completes for user programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, Final

from tests.targets.alpha import float_cases, integer_cases
from tests.targets.alpha.native import CODE, STACK
from tests.targets.alpha.peer import ARITHMETIC, NAMES, WINDOW, WINDOW_SIZE, WORDS

from raddle.testing.differential import Case, Interpreted, Outcome, differences, random_word
from raddle.testing.guest_runs import PlainCpu
from raddle.translate.decode import Pattern
from raddle_target_alpha import decode
from raddle_target_alpha.frontend import front_end
from raddle_target_alpha.mmu import KSEG
from raddle_target_alpha.state import ZERO

BASE, STACK_POINTER = 9, 30
KEPT: Final = frozenset({BASE, STACK_POINTER})
"""Registers that only accesses, and exceptions, use."""
NOTHING: Final = (0x47FF_041F).to_bytes(4, "little")
"""BIS r31, r31, r31."""
NATIVE_WINDOW: Final = KSEG + 0x50_0000
UNMAPPED: Final = 0x7FFF_0000_0000
"""Put into `BASE` once in a while: its accesses fault."""

_MOVES: Final = ("CPYS", "CPYSN", "CPYSE", "FCMOV", "FTOI", "ITOFS", "ITOFT", "CVTLQ", "LDS", "LDT", "STS", "STT", "FB")
LINES: Final = [
    *(line for line in integer_cases.LINES if line.name not in integer_cases.JUMPS),
    *(line for line in float_cases.LINES if line.name.startswith(_MOVES)),
]
FLOAT_ACCESSES: Final = frozenset(f"{access}{number}" for access in ("LD", "ST") for number in "FGST")
_ALU: Final = [line for line in LINES if "c" in line.values(line.value)]
"""They access no memory, and go on at the next instruction."""
LOCKED: Final = {"LDL_L": ("STL_C", 4), "LDQ_L": ("STQ_C", 8)}
_BY_NAME: Final = {line.name: line for line in LINES}


def _word(random: Random, pattern: Pattern) -> int:
    """A random word without the registers that are kept."""
    while True:
        word = random_word(decode.alpha(), pattern, random)
        assert word is not None
        values = pattern.values(word)
        if not KEPT & {values.get(name) for name in "abc"} and (pattern.name not in LOCKED or values["a"] != ZERO):
            return word


def _access(random: Random, pattern: Pattern, place: int) -> int:
    """At an offset from the base."""
    word = _word(random, pattern) & ~(0x1F_FFFF) | BASE << 16
    return word | place & 0xFFFF


def _place(random: Random, size: int) -> int:
    return random.randrange(0, WINDOW_SIZE, size)


def _one(random: Random, lines: Sequence[Pattern], left: int) -> list[int]:
    """A word, or a few that belong together; `left` follow at most."""
    pattern = random.choice(lines)
    name = pattern.name
    if name in LOCKED or name in dict(LOCKED.values()) or random.random() < 0.1:
        load = random.choice(list(LOCKED))
        store, size = LOCKED[load]
        place = _place(random, size)
        other = place if random.random() < 0.9 else _place(random, size)
        between = [_word(random, random.choice(_ALU)) for _ in range(random.randrange(3))]
        words = [_access(random, _BY_NAME[load], place), *between, _access(random, _BY_NAME[store], other)]
        return words[random.random() < 0.1 :]
    if name in integer_cases.BRANCHES or name.startswith("FB"):
        return [_word(random, pattern) & ~0x1F_FFFF | random.randrange(left + 1)]
    if name in ("LDA", "LDAH"):
        return [_word(random, pattern)]
    if name in FLOAT_ACCESSES:
        return [_access(random, pattern, _place(random, 4 if name[2] in "SF" else 8))]
    size = integer_cases.access_size(name)
    return [_access(random, pattern, _place(random, size)) if size else _word(random, pattern)]


def random_program(
    random: Random, lines: Sequence[Pattern] = LINES, control: int = float_cases.EASY
) -> tuple[bytes, dict[str, int], bytes]:
    """Its code, registers and memory; of these lines of the tables, and with this FPCR."""
    count = random.randrange(2, WORDS + 1)
    words: list[int] = []
    while len(words) < count:
        words += _one(random, lines, max(0, count - len(words) - 1))
    words = words[:count]
    kinds = (integer_cases.random_value, float_cases.random_t, float_cases.random_s)
    registers = {name: integer_cases.random_value(random) for name in NAMES if name[0] == "r"}
    registers |= {name: random.choice(kinds)(random) for name in NAMES if name[0] == "f"}
    registers[f"r{BASE}"] = WINDOW if random.random() < 0.95 else UNMAPPED
    registers["fpcr"] = control
    return b"".join(word.to_bytes(4, "little") for word in words), registers, random.randbytes(WINDOW_SIZE)


class ToTheEnd(Interpreted):
    """Runs programs, in which branches leave out instructions."""

    def _step(self, case: Case, cpu: PlainCpu, *rest: Any) -> int:
        return 0 if cpu["pc"] == case.pc + len(case.code) else super()._step(case, cpu, *rest)


RUNNER: Final = ToTheEnd(front_end("ev67"), NAMES, events=float_cases.EVENTS)


def difference(ours: Outcome, theirs: Outcome) -> str:
    """What differs, at a fault its address and all registers, too; empty for nothing."""
    found = differences(ours, theirs)
    if not found and ours.event and ours.event != ARITHMETIC:
        found = differences(Outcome("", ours.registers, ours.memory), Outcome("", theirs.registers, theirs.memory))
    return "; ".join(found)


def moved(case: Case) -> Case:
    """The same program where `Native` has it."""
    base = case.registers[f"r{BASE}"]
    registers = {**case.registers, f"r{BASE}": NATIVE_WINDOW if base == WINDOW else base, f"r{STACK_POINTER}": STACK}
    return Case(case.code, CODE, registers, {NATIVE_WINDOW: case.memory[WINDOW]}, case.steps)
