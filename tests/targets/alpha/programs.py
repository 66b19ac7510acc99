# SPDX-License-Identifier: Apache-2.0
"""Random programs of several instructions for `Peer`: integers, moves, accesses, conditional stores, branches, faults.

The base register of accesses is never written. Load-locked instructions do not write R31: the peer takes these for
prefetches, as the manual has it of other loads alone (4.2.1). Left out are instructions whose results may differ
(`float_cases.peers_own`) and misaligned accesses, which Linux completes for user programs.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

from tests.targets.alpha import float_cases, integer_cases
from tests.targets.alpha.peer import ARITHMETIC, NAMES, WINDOW, WINDOW_SIZE, WORDS

from raddle.testing.differential import Case, Interpreted, Outcome, differences, random_word
from raddle.testing.guest_runs import PlainCpu
from raddle.translate.decode import Pattern
from raddle_target_alpha import decode
from raddle_target_alpha.frontend import front_end
from raddle_target_alpha.state import ZERO

BASE: Final = 9
NOTHING: Final = (0x47FF_041F).to_bytes(4, "little")
"""BIS r31, r31, r31."""
UNMAPPED: Final = 0x7FFF_0000_0000
"""Put into `BASE` once in a while: its accesses fault."""

_MOVES: Final = ("CPYS", "CPYSN", "CPYSE", "FCMOV", "FTOI", "ITOFS", "ITOFT", "CVTLQ", "LDS", "LDT", "STS", "STT", "FB")
LINES: Final = [
    *(line for line in integer_cases.LINES if line.name not in integer_cases.JUMPS),
    *(line for line in float_cases.LINES if line.name.startswith(_MOVES)),
]
_ALU: Final = [line for line in LINES if "c" in line.values(line.value)]
"""They access no memory, and go on at the next instruction."""
LOCKED: Final = {"LDL_L": ("STL_C", 4), "LDQ_L": ("STQ_C", 8)}
_BY_NAME: Final = {line.name: line for line in LINES}


def _word(random: Random, pattern: Pattern) -> int:
    """A random word without the base register."""
    while True:
        word = random_word(decode.alpha(), pattern, random)
        assert word is not None
        values = pattern.values(word)
        if BASE not in {values.get(name) for name in "abc"} and (pattern.name not in LOCKED or values["a"] != ZERO):
            return word


def _access(random: Random, pattern: Pattern, place: int) -> int:
    """At an offset from the base."""
    word = _word(random, pattern) & ~(0x1F_FFFF) | BASE << 16
    return word | place & 0xFFFF


def _place(random: Random, size: int) -> int:
    return random.randrange(0, WINDOW_SIZE, size)


def _one(random: Random, left: int) -> list[int]:
    """A word, or a few that belong together; `left` follow at most."""
    pattern = random.choice(LINES)
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
    if name.startswith(("LDS", "STS", "LDT", "STT")):
        return [_access(random, pattern, _place(random, 4 if name[2] == "S" else 8))]
    size = integer_cases.access_size(name)
    return [_access(random, pattern, _place(random, size)) if size else _word(random, pattern)]


def random_program(random: Random) -> tuple[bytes, dict[str, int], bytes]:
    """Its code, registers and memory."""
    count = random.randrange(2, WORDS + 1)
    words: list[int] = []
    while len(words) < count:
        words += _one(random, max(0, count - len(words) - 1))
    words = words[:count]
    registers = {name: integer_cases.random_value(random) for name in NAMES if name != "fpcr"}
    registers[f"r{BASE}"] = WINDOW if random.random() < 0.95 else UNMAPPED
    registers["fpcr"] = float_cases.EASY
    return b"".join(word.to_bytes(4, "little") for word in words), registers, random.randbytes(WINDOW_SIZE)


class ToTheEnd(Interpreted):
    """Runs programs, in which branches leave out instructions."""

    def _step(self, case: Case, cpu: PlainCpu, *rest: Any) -> int:
        return 0 if cpu["pc"] == case.pc + len(case.code) else super()._step(case, cpu, *rest)


RUNNER: Final = ToTheEnd(front_end("ev67"), NAMES, events=float_cases.EVENTS)


def difference(case: Case, theirs: Outcome) -> str:
    """What differs, at a fault its address and all registers, too; empty for nothing."""
    ours = RUNNER.run(case)
    found = differences(ours, theirs)
    if not found and ours.event and ours.event != ARITHMETIC:
        found = differences(Outcome("", ours.registers, ours.memory), Outcome("", theirs.registers, theirs.memory))
    return "; ".join(found)
