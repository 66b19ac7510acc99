# SPDX-License-Identifier: Apache-2.0
"""Memory management and exceptions against QEMU, instruction by instruction (see lockstep.py)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from lockstep import lockstep, reads_other

GUESTS = Path(__file__).resolve().parents[2] / "guests" / "arm" / "prebuilt"


@pytest.mark.parametrize(
    ("word", "thumb", "other"),
    [
        (0xEC510F1E, False, True),  # mrrc p15, 1, r0, r1, c14: CNTVCT
        (0xEE1E3F13, False, True),  # mrc p15, 0, r3, c14, c3, 0: CNTV_TVAL
        (0xEC510F07, False, True),  # 64-bit PAR
        (0xEE190F1D, False, True),  # PMCCNTR
        (0xEE110F10, False, False),  # SCTLR
        (0xBF00, True, False),
        (None, False, False),
    ],
)
def test_reads_of_counters_are_recognised(word: int | None, thumb: bool, other: bool) -> None:
    assert reads_other(word, thumb) is other


@pytest.mark.peer("qemu-system-arm")
@pytest.mark.parametrize("name", ["exceptions", "exceptions-lpae", "remap"])
@pytest.mark.slow
def test_bounded_run_agrees(name: str) -> None:
    with lockstep(GUESTS / f"{name}.elf", often=2) as both:
        both.run(10_000)
        assert both.exceptions > (50 if name != "remap" else 0)
        assert both.differences == []
