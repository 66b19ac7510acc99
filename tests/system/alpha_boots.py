# SPDX-License-Identifier: Apache-2.0
"""Every boot of Linux for Alpha succeeds: each kernel, with each number of CPUs and in every mode, again and again.

`nox -s boot_alpha_long` runs this; no other session does, because it takes seven minutes, and more on a busy machine.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.system.boots import Boot
from tests.system.test_alpha_linux import ALARMS, CLOCK_CHIP, boot, check, counted_boot

KERNELS = {ALARMS: "", CLOCK_CHIP: "cycle=667000000"}
"""What each has on its command line."""
COUNTED_BOOTS = 3

pytestmark = [
    pytest.mark.host,
    pytest.mark.parametrize("kernel", KERNELS),
    pytest.mark.parametrize("cpus", [1, 2, 4]),
]


@pytest.mark.parametrize("turn", range(20))
def test_multi_threaded(alpha_payload: Path, kernel: str, cpus: int, turn: int) -> None:
    check(boot(alpha_payload, cpus, kernel=kernel, append=KERNELS[kernel]), cpus)


@pytest.mark.parametrize("turn", range(5))
def test_round_robin(alpha_payload: Path, kernel: str, cpus: int, turn: int) -> None:
    check(boot(alpha_payload, cpus, "--accel", "tcg,thread=single", kernel=kernel, append=KERNELS[kernel]), cpus)


def test_counted(alpha_payload: Path, kernel: str, cpus: int) -> None:
    first, *others = (
        counted_boot(alpha_payload, cpus, kernel=kernel, append=KERNELS[kernel]) for _ in range(COUNTED_BOOTS)
    )
    check(Boot(first[0], 0, "", 0), cpus)
    assert all(first[1])
    assert others == [first] * (COUNTED_BOOTS - 1)
