# SPDX-License-Identifier: Apache-2.0
"""Linux for Alpha boots to the end of its payload in every mode and on all CPUs, with ticks from each CPU's alarm and
from the clock chip.

Needs the payload (see conftest.py). A boot takes a few seconds on a free machine.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from tests import patience
from tests.system.boots import CRY, LIMIT, Boot, run

from raddle.machine.machine import Machine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.host,
]

ALARMS, CLOCK_CHIP = "vmlinux", "vmlinux-rtc"


def boot(payload: Path, cpus: int, *options: str, kernel: str = ALARMS, append: str = "") -> Boot:
    return run(
        [
            *(sys.executable, "-m", "raddle", "boot", "-M", "clipper", "-smp", str(cpus), "-m", "512M"),
            *("-kernel", str(payload / kernel), "-initrd", str(payload / "initramfs.cpio.gz")),
            *("-append", f"console=ttyS0{patience.KERNEL} {append}".rstrip(), "-nographic", "-no-reboot", *options),
        ]
    )


def check(done: Boot, cpus: int) -> None:
    assert done.status == 0, done.errors + done.text[-3000:]
    assert done.errors == ""
    assert f"SMP: Total of {cpus} processors activated" in done.text
    assert f"PAYLOAD-CPUS {cpus}\r\n" in done.text
    assert re.search(r"^PAYLOAD-OK\r$", done.text, re.MULTILINE), done.text[-3000:]
    assert "reboot: Power down" in done.text
    cry = CRY.search(done.text)
    assert cry is None, done.text[max(0, cry.start() - 500) : cry.end() + 2000]


@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_boots_multi_threaded(alpha_payload: Path, cpus: int) -> None:
    check(boot(alpha_payload, cpus), cpus)


@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_boots_round_robin(alpha_payload: Path, cpus: int) -> None:
    check(boot(alpha_payload, cpus, "--accel", "tcg,thread=single"), cpus)


@pytest.mark.parametrize("accelerator", ["tcg,thread=multi", "tcg,thread=single"])
def test_ticks_come_from_the_clock_chip(alpha_payload: Path, accelerator: str) -> None:
    done = boot(alpha_payload, 2, "--accel", accelerator, kernel=CLOCK_CHIP, append="cycle=667000000")
    check(done, 2)


@pytest.mark.parametrize("options", [(), ("-icount", "shift=2")], ids=["host", "counted"])
def test_the_kernel_calibrates_its_cycle_counter(alpha_payload: Path, options: tuple[str, ...]) -> None:
    """It polls the timer's output. With counted instructions it finds what the console says; else a busy host may be in
    the way.
    """
    done = boot(alpha_payload, 1, *options, kernel=CLOCK_CHIP)
    check(done, 1)
    assert not options or "bogus" not in done.text


def test_the_kernel_writes_by_the_console_s_callbacks(alpha_payload: Path) -> None:
    done = boot(alpha_payload, 1, append="srmcons")
    check(done, 1)
    assert done.text.count("Booting on Tsunami") > 0


def counted_boot(
    payload: Path, cpus: int, *, kernel: str = ALARMS, append: str = ""
) -> tuple[str, list[int], list[int]]:
    """Boot with instruction counting: the console's text, and each vCPU's hash and number of instructions."""
    options: dict[str, Any] = {"memory": "512M", "reboot": False, "icount": "shift=2"}
    options |= {"kernel": payload / kernel, "initrd": payload / "initramfs.cpio.gz"}
    options["append"] = f"console=ttyS0 {append}".rstrip()
    with Machine("alpha/clipper", cpus=cpus, **options) as one:
        one.start()
        assert one.wait(LIMIT) == 0
        hashes = [cpu["trace_hash"] for cpu in one.cpus]
        instructions = [cpu["count_instructions"] for cpu in one.cpus]
        return one.console.read(), hashes, instructions


@pytest.mark.parametrize("cpus", [1, 4])
def test_two_counted_boots_execute_the_same(alpha_payload: Path, cpus: int) -> None:
    first = counted_boot(alpha_payload, cpus)
    check(Boot(first[0], 0, "", 0), cpus)
    assert all(first[1])
    assert counted_boot(alpha_payload, cpus) == first
