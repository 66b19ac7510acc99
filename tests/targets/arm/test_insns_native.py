# SPDX-License-Identifier: Apache-2.0
"""Integer instructions as generated code, from the translator to the native runtime, against the interpreter: each line
of the tables alone, and blocks of several, in which flags die, stay in the host's flags, or are asked for later."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

pytest.importorskip("raddle.runtime._native", reason="the native runtime is not built")

sys.path.insert(0, str(Path(__file__).parent))

from differential import (
    DATA,
    DATA_SIZE,
    LINES,
    Case,
    InterpreterRunner,
    random_case,
    random_cpsr,
    random_value,
    random_word,
    with_letter,
)

from native import NativeRunner
from raddle_target_arm.exceptions import CPSR_E
from raddle_target_arm.state import MODE_ABT, MODE_FIQ, MODE_SVC, MODE_USR

pytestmark = pytest.mark.host

CASES = 3
"""Cases of each line of a table, in each mode."""

MODES = {"svc": MODE_SVC, "usr": MODE_USR, "big-endian": MODE_SVC | CPSR_E}


@pytest.fixture(scope="module")
def native() -> Iterator[Any]:
    runner = NativeRunner()
    yield runner
    runner.close()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("table", ["a32", "t16", "t32"])
def test_generated_code(table: str, mode: str, native: Any) -> None:
    interpreter = InterpreterRunner()
    for (of, name), patterns in LINES.items():
        if of != table or name in ("IT", "SWP", "SWPB"):
            continue  # IT would leave the ISB after the case in its block; swaps are not enabled here
        for pattern in patterns:
            random = Random(f"{table} {pattern.index} {mode} native")
            for _ in range(CASES):
                case = random_case(random, table, pattern, MODES[mode])
                if case is None:
                    continue
                expected = interpreter.run(case)
                if expected.cpsr & 0x1F in (MODE_ABT, MODE_FIQ):
                    continue  # the abort with which the native runner may end changes registers of these modes
                found = native.differences(case, expected)
                assert not found, f"{name} {case}: {found}"


MEMORY_AND_BRANCHES = ("LD", "ST", "SWP", "SRS", "RFE", "B", "CB", "TB", "IT")
SYSTEM = ("CPS", "MSR", "MRS", "SETEND", "SVC", "UDF", "ERET", "ISB")
COMPUTING = [
    (table, pattern)
    for (table, name), patterns in LINES.items()
    for pattern in patterns
    if name.startswith(("BIC", "BFC", "BFI")) or not name.startswith((*MEMORY_AND_BRANCHES, *SYSTEM))
]
"""Lines that only compute, so that a block goes on after them."""


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("tables", [("a32",), ("t16", "t32")], ids=["a32", "thumb"])
def test_blocks_of_several_instructions(tables: tuple[str, ...], seed: int, native: Any) -> None:
    random = Random(seed)
    choice = [line for line in COMPUTING if line[0] in tables]
    words: list[tuple[str, int]] = []
    while len(words) < random.randrange(2, 9):
        table, pattern = random.choice(choice)
        word = random_word(random, table, pattern)
        if word is None:
            continue
        if table == "a32" and "c" in pattern.letters and random.randrange(2):
            word = with_letter(pattern, word, "c", random.randrange(14))
        values = pattern.values(word)
        if 15 not in (values.get("d"), values.get("h"), values.get("l")):
            words.append((table, word))
    registers = tuple(random_value(random) for _ in range(15))
    case = Case(*words[0], registers, random_cpsr(random, tables != ("a32",)), more=tuple(words[1:]))
    found = native.differences(case, InterpreterRunner().run(case))
    assert not found, f"{case}: {found}"


@pytest.mark.parametrize("word", [0xE891000C, 0xE1C120D0, 0xE881000C, 0xE1C120F0], ids=["ldm", "ldrd", "stm", "strd"])
def test_a_pair_of_words_that_crosses_a_page_faults_in_the_page_that_is_missing(word: int, native: Any) -> None:
    registers = tuple(DATA + DATA_SIZE - 4 if number == 1 else number for number in range(15))
    result = native.run(Case("a32", word, registers, MODE_SVC | 0x1C0))
    assert (result.event, result.registers) == ("fault", registers)
    assert native.cpu["dfar"] == DATA + DATA_SIZE
