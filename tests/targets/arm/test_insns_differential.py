# SPDX-License-Identifier: Apache-2.0
"""Every integer instruction of every table against Unicorn, in the interpreter."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from random import Random

import pytest

from raddle_target_arm.exceptions import CPSR_E
from raddle_target_arm.state import MODE_SVC, MODE_SWP, MODE_USR

sys.path.insert(0, str(Path(__file__).parent))

from differential import (
    LINES,
    Case,
    InterpreterRunner,
    UnicornRunner,
    random_case,
    random_cpsr,
    random_value,
    random_word,
)

pytestmark = pytest.mark.peer("unicorn")

CASES = 8
"""Cases of each line of a table, in each mode."""

MODES = {"svc": MODE_SVC, "usr": MODE_USR, "big-endian": MODE_SVC | CPSR_E}


@cache
def peer() -> UnicornRunner:
    return UnicornRunner()


def check(case: Case) -> None:
    ours, theirs = InterpreterRunner(MODE_SWP).run(case), peer().run(case)
    assert not ours.differences(theirs), f"{case}: {ours.differences(theirs)}"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("table", "name"), LINES, ids=lambda text: text)
def test_instruction(table: str, name: str, mode: str) -> None:
    for pattern in LINES[table, name]:
        random = Random(f"{table} {pattern.index} {mode}")
        cases = [random_case(random, table, pattern, MODES[mode]) for _ in range(CASES)]
        for case in cases:
            if case is not None and not _writes_e_in_user_mode(case, name):
                check(case)


def _writes_e_in_user_mode(case: Case, name: str) -> bool:
    """The peer ignores such a write, which the architecture allows (B1.3.3)."""
    return case.cpsr & 0x1F == MODE_USR and name.startswith("MSR_")


IN_IT_BLOCKS = [
    (table, pattern)
    for (table, name), patterns in LINES.items()
    for pattern in patterns
    if table != "a32" and name.endswith(("_reg", "_imm", "_rsr", "XTB", "REV", "MUL")) and name[:2] not in ("LD", "ST")
    if "c" not in pattern.letters and not name.startswith(("BL", "MSR", "PL"))
]


@pytest.mark.parametrize("seed", range(60))
def test_it_block(seed: int) -> None:
    """One to four data-processing instructions after IT, and one that is not in the block any more."""
    random = Random(seed)
    mask = random.randrange(1, 16)
    length = 5 - (mask & -mask).bit_length()
    condition = random.randrange(14)
    more: list[tuple[str, int]] = []
    while len(more) <= length:
        table, pattern = random.choice(IN_IT_BLOCKS)
        word = random_word(random, table, pattern)
        if word is not None and 15 not in (pattern.values(word).get(letter) for letter in "dnm"):
            more.append((table, word))
    registers = tuple(random_value(random) for _ in range(15))
    check(Case("t16", 0xBF00 | condition << 4 | mask, registers, random_cpsr(random, True), more=tuple(more)))
