# SPDX-License-Identifier: Apache-2.0
"""The count of host instructions (`tests/bench/instructions.py`): what ran is counted, and as what."""

from __future__ import annotations

import struct
import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("capstone")
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import golden
import instructions
from instructions import Code, hosts, run

from raddle_target_arm.state import MODE_PRIVILEGED, MODE_T

LOOPS = 1000
LISTINGS = Path(__file__).parents[1]
SUBTRACT, BRANCH = 0xE2511001, 0x1AFFFFFD
COUNTS_DOWN = (
    0xE3A01FFA,  # mov r1, #1000
    SUBTRACT,  # subs r1, r1, #1
    BRANCH,  # bne .-4
    0xE3A00484,  # mov r0, #0x84000000
    0xE3800008,  # orr r0, r0, #8: SYSTEM_OFF
    0xE1400070,  # hvc #0
)


@pytest.mark.host("x86_64")
def test_each_block_counts_as_often_as_it_runs(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(struct.pack(f"<{len(COUNTS_DOWN)}I", *COUNTS_DOWN))
    ran = Counter[int]()
    for code, times in run("", kernel=kernel).items():
        for word, size in code.words:
            assert size == 4
            ran[word] += times
    expected = dict.fromkeys(COUNTS_DOWN, 1) | {SUBTRACT: LOOPS, BRANCH: LOOPS}
    assert {word: ran[word] for word in COUNTS_DOWN} == expected


@pytest.mark.parametrize("host", ["x86_64", "aarch64"])
def test_a_block_has_the_instructions_of_its_golden_listing(host: str) -> None:
    """Those have a jump to the next instruction at their end, or an indirect one, whose look-up counts, too."""
    counted = hosts(newest=False)[{"x86_64": "x86-64", "aarch64": "AArch64"}[host]]
    for table, name in (("a32", "add_registers"), ("a32", "load_word"), ("t32", "load_from_stack")):
        data = bytes.fromhex(golden.SNIPPETS[table][name][1])
        mode = MODE_PRIVILEGED | (MODE_T if table == "t32" else 0)
        pieces = counted.pieces(Code(mode, ((int.from_bytes(data, "little"), len(data)),)))
        lines = (LISTINGS / host / "listings" / f"{table}_{name}.txt").read_text(encoding="utf-8").splitlines()
        parts = [line for line in lines if line.startswith(("entry:", "hot:"))]
        padding = sum(line.strip().startswith("nop") for line in lines)
        assert sum(pieces) == sum(int(part.split()[1]) for part in parts) - padding


def test_the_look_up_of_an_indirect_jump_counts() -> None:
    """`bx lr`, and a jump of which the address is known."""
    for host in hosts().values():
        indirect, direct = (sum(host.pieces(Code(MODE_PRIVILEGED, ((word, 4),)))) for word in (0xE12FFF1E, 0xEA000002))
        assert indirect > direct + 10


def test_a_shorter_block_is_a_part_of_the_longer_one() -> None:
    code = Code(0, ((1, 4), (2, 4)))
    assert code.begins_with(Code(0, ((1, 4),)))
    assert not code.begins_with(Code(0, ((2, 4),)))
    assert not code.begins_with(Code(1, ((1, 4),)))
    assert instructions.Row("", 2, 8, 6).ratio == 0.75
