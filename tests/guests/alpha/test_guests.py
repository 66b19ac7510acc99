# SPDX-License-Identifier: Apache-2.0
"""The guests themselves: prebuilt files are what the sources build, and the peer agrees with what they expect.

``RADDLE_RECORD=1 pytest tests/guests`` writes the peer's output of the exceptions guest to ``recorded/``, for machines
without the peer.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.guests.alpha.prebuilt_guests import BENCH, PREBUILT, RECORDED, STRESS
from tests.guests.running import assert_recorded

HERE = Path(__file__).resolve().parent
NOISE = "PCI:"
"""Begins lines of the peer's console."""


PEER_FAILS = {"codemod-self", "ticks"}
"""QEMU goes on with the instructions that a block has just rewritten, in spite of an IMB between. A CPU of its that was
late never gets the ticks that it has missed, so `ticks` waits for ever."""
PEER_FAILS_MULTI = {"codemod-cross"}
"""QEMU 7.2, as for ARM: a block that is translated while another CPU writes to it may stay stale."""


def run_on_peer(name: str, cpus: int = 1, limit: float = 120) -> list[str]:
    """Run a guest until it halts, for at most ``limit`` seconds; return its lines."""
    machine = ["-M", "clipper", "-m", "256M", "-nographic", "-no-reboot", "-vga", "none", "-nic", "none"]
    thread = "single" if name in PEER_FAILS_MULTI else "multi"
    accelerator = ["-accel", f"tcg,thread={thread}"]
    command = ["qemu-system-alpha", *machine, *accelerator, "-smp", str(cpus), "-kernel", str(PREBUILT / f"{name}.elf")]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit, check=True)
    return [line for line in done.stdout.splitlines() if not line.startswith(NOISE)]


@pytest.mark.cross("alpha-linux-gnu-gcc")
@pytest.mark.slow
def test_prebuilt_files_are_what_the_sources_build() -> None:
    done = subprocess.run([sys.executable, HERE / "build.py", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.peer("qemu-system-alpha")
@pytest.mark.parametrize("name", ["hello", "hello-smp", "locked", "timer"])
def test_guests_pass_with_one_cpu(name: str) -> None:
    assert run_on_peer(name)[-1].startswith(f"PASS {name} ")


@pytest.mark.peer("qemu-system-alpha")
@pytest.mark.stress
@pytest.mark.parametrize("name", [name for name in STRESS if name not in PEER_FAILS])
def test_stress_guests_pass(name: str) -> None:
    assert run_on_peer(name, 4)[-1].startswith(f"PASS {name} cpus=4")


@pytest.mark.peer("qemu-system-alpha")
@pytest.mark.stress
@pytest.mark.parametrize("name", BENCH)
def test_benchmark_kernels_have_the_known_checksum(name: str) -> None:
    assert run_on_peer(name)[-1].startswith(f"PASS {name} ")


@pytest.mark.peer("qemu-system-alpha")
def test_recorded_output_is_the_peers() -> None:
    assert_recorded(RECORDED / "exceptions.txt", run_on_peer("exceptions"))
