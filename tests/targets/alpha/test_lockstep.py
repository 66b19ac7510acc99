# SPDX-License-Identifier: Apache-2.0
"""PALcode, exceptions and page tables against QEMU, instruction by instruction (see lockstep.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("raddle.runtime._native", reason="the native runtime is not built")

from tests.targets.alpha.lockstep import Difference, lockstep

PREBUILT = Path(__file__).resolve().parents[2] / "guests/alpha/prebuilt"

pytestmark = [pytest.mark.peer("qemu-system-alpha"), pytest.mark.host]


@pytest.mark.slow
def test_exceptions_agree() -> None:
    with lockstep(PREBUILT / "exceptions.elf") as both:
        both.run()
        assert both.calls > 50
        assert both.exceptions > 40


def test_a_difference_is_noticed() -> None:
    """The control."""
    with lockstep(PREBUILT / "exceptions.elf") as both:
        both.run(100)
        both.own.cpu["f7"] ^= 1
        with pytest.raises(Difference, match="f7: QEMU"):
            both.run(101)
