# SPDX-License-Identifier: Apache-2.0
"""The guests themselves: prebuilt files are what the sources build, and the peer agrees with what they expect.

``RADDLE_RECORD=1 pytest tests/guests`` writes the peer's output of the exceptions guests to ``recorded/``, for machines
without the peer.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.guests.arm.prebuilt_guests import BENCH, CONTROLS, ENDLESS, ONE_CPU, PREBUILT, STRESS
from tests.guests.running import assert_recorded, check_failure

HERE = Path(__file__).resolve().parent
RECORDED = HERE / "recorded"
DEMO = HERE.parents[2] / "targets/arm/src/raddle_target_arm/demo/demo.elf"

PEER_FAILS_MULTI = {"doubleword", "codemod-cross"}  # QEMU 7.2; the reasons are in tests/guests/README.md
CONTROLS_NEED_MULTI = {"store-buffering-control"}


def run_on_peer(elf: Path, cpus: int, thread: str, limit: float = 120) -> list[str]:
    """Run a guest until it powers off, for at most ``limit`` seconds; return its lines."""
    machine = ["-M", "virt", "-cpu", "cortex-a15", "-m", "256M", "-nographic", "-no-reboot", "-nic", "none"]
    command = ["qemu-system-arm", *machine, "-smp", str(cpus), "-accel", f"tcg,thread={thread}", "-kernel", str(elf)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit, check=True)
    return done.stdout.splitlines()


@pytest.mark.cross("arm-none-eabi-gcc")
@pytest.mark.slow
def test_prebuilt_files_are_what_the_sources_build() -> None:
    done = subprocess.run([sys.executable, HERE / "build.py", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.peer("qemu-system-arm")
@pytest.mark.parametrize("name", ONE_CPU)
def test_one_cpu_guests_pass(name: str) -> None:
    assert run_on_peer(PREBUILT / f"{name}.elf", 1, "single")[-1].startswith(f"PASS {name} ")


@pytest.mark.peer("qemu-system-arm")
@pytest.mark.parametrize("name", ["cpu-suspend", "gic-groups", "virtio-probe"])
def test_device_guests_pass(name: str) -> None:
    assert run_on_peer(PREBUILT / f"{name}.elf", 1, "single")[-1].startswith(f"PASS {name} ")


@pytest.mark.peer("qemu-system-arm")
@pytest.mark.slow
@pytest.mark.parametrize("name", BENCH)
def test_benchmark_kernels_have_the_known_checksum(name: str) -> None:
    assert run_on_peer(PREBUILT / f"{name}.elf", 1, "single")[-1].startswith(f"PASS {name} ")


@pytest.mark.peer("qemu-system-arm")
@pytest.mark.parametrize("thread", ["single", "multi"])
def test_every_cpu_says_hello(thread: str) -> None:
    lines = run_on_peer(PREBUILT / "hello-smp.elf", 4, thread)
    assert [line[:17] for line in lines[:-1]] == [f"hello from cpu {cpu} " for cpu in range(4)]
    assert lines[-1] == "PASS hello-smp cpus=4"


@pytest.mark.peer("qemu-system-arm")
@pytest.mark.stress
@pytest.mark.parametrize("thread", ["single", "multi"])
@pytest.mark.parametrize("name", STRESS)
def test_stress_guests_pass(name: str, thread: str) -> None:
    if thread == "multi" and name in PEER_FAILS_MULTI:
        pytest.skip("known difference of the peer")
    assert run_on_peer(PREBUILT / f"{name}.elf", 4, thread)[-1].startswith(f"PASS {name} cpus=4")


@pytest.mark.peer("qemu-system-arm")
@pytest.mark.stress
@pytest.mark.parametrize("thread", ["single", "multi"])
@pytest.mark.parametrize("name", CONTROLS)
def test_controls_fail(name: str, thread: str) -> None:
    if thread == "single" and name in CONTROLS_NEED_MULTI:
        pytest.skip("CPUs in turn never reorder")
    check_failure(name, thread, lambda: run_on_peer(PREBUILT / f"{name}.elf", 4, thread)[-1])


@pytest.mark.peer("qemu-system-arm")
def test_aba_shows_that_the_peer_compares_values() -> None:
    assert run_on_peer(PREBUILT / "aba.elf", 2, "multi")[-1].startswith("FAIL aba: ")
    assert run_on_peer(PREBUILT / "aba.elf", 1, "single")[-1].startswith("PASS aba ")


@pytest.mark.peer("qemu-system-arm")
@pytest.mark.parametrize("name", ENDLESS)
def test_endless_guests_get_ready_and_stay(name: str) -> None:
    with pytest.raises(subprocess.TimeoutExpired) as stayed:
        run_on_peer(PREBUILT / f"{name}.elf", 2, "multi", limit=2)
    assert stayed.value.stdout == b"ready cpus=2\r\n"


@pytest.mark.peer("qemu-system-arm")
@pytest.mark.parametrize("name", ["exceptions", "exceptions-lpae"])
def test_recorded_output_is_the_peers(name: str) -> None:
    assert_recorded(RECORDED / f"{name}.txt", run_on_peer(PREBUILT / f"{name}.elf", 1, "single"))


@pytest.mark.peer("qemu-system-arm")
@pytest.mark.slow
@pytest.mark.parametrize(("cpus", "thread"), [(1, "single"), (4, "single"), (4, "multi")])
def test_demo(cpus: int, thread: str) -> None:
    lines = run_on_peer(DEMO, cpus, thread)
    rows = [re.fullmatch(r"(.{76}) \|(\d)", line) for line in lines[:36]]
    drawn_by = [int(row[2]) for row in rows if row]
    assert_recorded(RECORDED / "demo.txt", [row[1] for row in rows if row])
    for cpu in range(cpus):
        share = re.fullmatch(rf"DEMO-CPU {cpu} rows=(\d+) first=(-?\d+) last=(-?\d+) ticks=\d+", lines[36 + cpu])
        assert share is not None
        own = [row for row, by in enumerate(drawn_by) if by == cpu]
        assert [int(share[1]), int(share[2]), int(share[3])] == ([len(own), own[0], own[-1]] if own else [0, -1, -1])
    assert lines[36 + cpus].startswith(f"DEMO-TIME cpus={cpus} ticks=")
    assert lines[37 + cpus] == "DEMO-OK crc=a9725eb5"
