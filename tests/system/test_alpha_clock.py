# SPDX-License-Identifier: Apache-2.0
"""The clock of Linux for Alpha keeps the host's time, idle and under load. Needs the payload (see conftest.py).

Each line of the kernel has its time, and the host's clock says when it came.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from tests.system.boots import CRY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.host,
]

SECONDS: Final = 60
TOLERANCE: Final = 0.001
PASSES: Final = 1000
"""Of the payload's work: more than a minute on a fast host."""
STAMP: Final = re.compile(r"\[ *(\d+\.\d+)\] (.*)")


class Line(NamedTuple):
    host: float
    """Seconds."""
    guest: float
    text: str


def lines(kernel: Path, cpus: int, *options: str) -> Iterator[Line]:
    """The kernel's lines, as they come."""
    command = [sys.executable, "-m", "raddle", "boot", "-M", "clipper", "-smp", str(cpus), "-m", "512M", "-nographic"]
    command += ["--accel", "tcg,thread=multi", "-no-reboot", "-kernel", str(kernel), *options]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                found = STAMP.match(line)
                if found:
                    yield Line(time.monotonic(), float(found[1]), found[2])
        finally:
            process.kill()


def drift(all_lines: Iterator[Line], first: str, last: str) -> float:
    """How much faster the guest's clock is than the host's, from one line to another that comes after it."""
    begin = next(line for line in all_lines if re.search(first, line.text))
    end = next(line for line in all_lines if re.search(last, line.text))
    assert not CRY.search(end.text)
    assert end.host - begin.host >= SECONDS - 1, "the payload has too little to do"
    return (end.guest - begin.guest) / (end.host - begin.host) - 1


KERNELS: Final = [("vmlinux", 2), ("vmlinux-rtc", 1)]
"""With the machine's clock for its clock source, and with the cycle counter, which it calibrates."""


@pytest.mark.parametrize(("kernel", "cpus"), KERNELS)
def test_an_idle_guest_keeps_time(alpha_payload: Path, kernel: str, cpus: int) -> None:
    """It waits for a root file system, which never comes."""
    append = f"console=ttyS0 root=/dev/none rootdelay={SECONDS} panic=-1"
    told = lines(alpha_payload / kernel, cpus, "-append", append)
    assert abs(drift(told, f"Waiting {SECONDS} sec", "VFS:|panic")) < TOLERANCE


@pytest.mark.parametrize(("kernel", "cpus"), KERNELS)
def test_a_busy_guest_keeps_time(alpha_payload: Path, kernel: str, cpus: int) -> None:
    options = ("-initrd", str(alpha_payload / "initramfs.cpio.gz"), "-append", f"console=ttyS0 payload_it={PASSES}")
    told = lines(alpha_payload / kernel, cpus, *options)
    assert abs(drift(told, "Run /init as init process", "reboot: Power down")) < TOLERANCE
