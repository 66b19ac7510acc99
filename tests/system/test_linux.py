# SPDX-License-Identifier: Apache-2.0
"""A stock Debian ARM kernel boots to the end of its payload in every mode, with a shell, on all cores, and rests when
there is nothing to do.

Needs the payload (see conftest.py). A boot takes some ten seconds on a free machine.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest
from tests import patience
from tests.system.boots import CRY, LIMIT, Boot, run

from raddle.machine.machine import Machine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.host,
]

MEMORY_LIMIT_KIB = 700 << 10
"""Peak of a boot with 512 MiB of guest memory, of which it touches some 150."""


def command(payload: Path, cpus: int, *options: str, append: str = "") -> list[str]:
    return [
        *(sys.executable, "-m", "raddle.cli.main", "boot", "-M", "virt", "-smp", str(cpus), "-m", "512M"),
        *(
            "-kernel",
            str(payload / "vmlinuz"),
            "-initrd",
            str(payload / "initramfs.cpio.gz"),
            "-nographic",
            "-no-reboot",
        ),
        *("-append", f"console=ttyAMA0 panic=-1{patience.KERNEL} {append}".rstrip()),
        *options,
    ]


def boot(payload: Path, cpus: int, *options: str, append: str = "") -> Boot:
    return run(command(payload, cpus, *options, append=append))


def check(done: Boot, cpus: int) -> None:
    assert done.status == 0, done.errors + done.text[-3000:]
    assert done.errors == ""
    assert f"PAYLOAD-CPUS {cpus} online {'0' if cpus == 1 else f'0-{cpus - 1}'}\r\n" in done.text
    assert re.search(r"^PAYLOAD-OK jobs=4 megabytes=4\r$", done.text, re.MULTILINE), done.text[-3000:]
    assert "reboot: Power down" in done.text
    cry = CRY.search(done.text)
    assert cry is None, done.text[max(0, cry.start() - 500) : cry.end() + 2000]


@pytest.mark.parametrize("cpus", [1, 2, 4, 8])
def test_boots_multi_threaded(payload: Path, cpus: int, record_property: Callable[[str, object], None]) -> None:
    done = boot(payload, cpus)
    check(done, cpus)
    record_property("peak_kib", done.peak_kib)
    assert done.peak_kib < MEMORY_LIMIT_KIB


@pytest.mark.parametrize("cpus", [1, 2, 4, 8])
def test_boots_round_robin(payload: Path, cpus: int) -> None:
    check(boot(payload, cpus, "--accel", "tcg,thread=single"), cpus)


def machine(payload: Path, cpus: int, **options: Any) -> Machine:
    return Machine(
        cpus=cpus,
        memory="512M",
        kernel=payload / "vmlinuz",
        initrd=payload / "initramfs.cpio.gz",
        append="console=ttyAMA0 panic=-1",
        reboot=False,
        **options,
    )


@pytest.mark.parametrize("mode", ["multi", "single"])
def test_boots_with_a_code_buffer_that_fills_again_and_again(payload: Path, mode: str) -> None:
    with machine(payload, 4, accelerator=f"tcg,thread={mode},tb-size=1") as one:
        one.start()
        assert one.wait(LIMIT) == 0
        check(Boot(one.console.read(), 0, "", 0), 4)
        assert one.stats()["flushes"] > 100


@pytest.mark.parametrize("mode", ["multi", "single"])
def test_boots_with_a_memo_that_fills_again_and_again(payload: Path, mode: str) -> None:
    with machine(payload, 4, accelerator=f"tcg,thread={mode},memo-size=4M") as one:
        one.start()
        assert one.wait(LIMIT) == 0
        check(Boot(one.console.read(), 0, "", 0), 4)
        assert one.stats()["memo_emptied"] > 20


def counted_boot(payload: Path, cpus: int) -> tuple[str, list[int], list[int]]:
    """Boot with instruction counting: the console's text, and each vCPU's hash and number of instructions."""
    with machine(payload, cpus, icount="shift=auto") as one:
        one.start()
        assert one.wait(LIMIT / 2) == 0
        hashes = [cpu["trace_hash"] for cpu in one.cpus]
        instructions = [cpu["count_instructions"] for cpu in one.cpus]
        text = one.console.read()
    return text, hashes, instructions


@pytest.mark.parametrize("cpus", [1, 4])
def test_two_counted_boots_execute_the_same(payload: Path, cpus: int) -> None:
    first = counted_boot(payload, cpus)
    check(Boot(first[0], 0, "", 0), cpus)
    assert all(first[1])
    assert counted_boot(payload, cpus) == first


# --- the shell ----------------------------------------------------------------------------------------------------


def terminal_modes(child: pexpect.spawn) -> list[object]:
    return list(termios.tcgetattr(child.child_fd))[:4]


@pytest.mark.parametrize("accelerator", ["tcg,thread=multi", "tcg,thread=single"])
def test_interactive_shell(payload: Path, accelerator: str) -> None:
    words = command(payload, 2, "--accel", accelerator, append="payload_shell=1 payload_mb=1")
    # A shell around it, so that the terminal can be looked at when Raddle is gone.
    child = pexpect.spawn("/bin/sh", ["-c", '"$@"; echo "status $?"; read line', "sh", *words], timeout=LIMIT)
    child.delaybeforesend = None
    try:
        before = terminal_modes(child)
        child.expect_exact("PAYLOAD-OK")
        child.expect_exact("# ")
        assert terminal_modes(child) != before  # raw
        child.send("echo $((6*7))-$(nproc)\r")
        child.expect(r"42-2\r+\n", timeout=240)
        child.expect_exact("# ", timeout=240)
        # Ctrl-C is the guest's, and the cursor keys are the shell's.
        child.send("sleep 1000\r")
        time.sleep(1)
        child.send("\x03")
        child.expect_exact("# ", timeout=240)
        child.send("ls /bin/busybox | wc -c\r")
        child.expect(r"13\r+\n", timeout=240)
        child.send("i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); done\r")
        for number in (0, 100, 199):
            child.expect(rf"line {number}\r+\n", timeout=240)
        child.expect_exact("# ", timeout=240)
        child.send("\x01c")
        child.expect_exact("(raddle) ", timeout=240)
        child.send("info cpus\r")
        for cpu in range(2):
            child.expect(rf"\n{cpu} +\d+ +(running|halted) +0x[0-9a-f]+ +\d+", timeout=240)
        child.expect_exact("(raddle) ", timeout=240)
        child.send("\x01c")
        child.send("\x01x")
        child.expect_exact("status 0\r\n", timeout=240)
        assert terminal_modes(child) == before
    finally:
        child.close(force=True)


# --- cores --------------------------------------------------------------------------------------------------------


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def others_load(pid: int, seconds: float) -> float:
    """Cores that all other processes use now, as far as this machine shows it."""

    def busy() -> float:
        words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        return (sum(map(int, words)) - int(words[3]) - int(words[4])) / os.sysconf("SC_CLK_TCK")

    all_before, own_before = busy(), cpu_seconds(pid)
    time.sleep(seconds)
    return (busy() - all_before - (cpu_seconds(pid) - own_before)) / seconds


def used_cores(pid: int, seconds: float) -> float:
    before, started = cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds(pid) - before) / (time.monotonic() - started)


@pytest.mark.alone
def test_parallel_phase_uses_all_cores(payload: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    words = command(payload, 4, append="payload_mb=1000")
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(b"PAYLOAD-START"):
                break
        time.sleep(2)  # the jobs' code is translated
        samples: list[tuple[float, float]] = []
        for _ in range(4):
            before, started = cpu_seconds(process.pid), time.monotonic()
            others = others_load(process.pid, 1.5)
            samples.append(((cpu_seconds(process.pid) - before) / (time.monotonic() - started), others))
        assert process.poll() is None, "the parallel phase was too short"
        used, others = max(samples)
        if used <= 1.7 and min(other for _, other in samples) > 0.2:
            pytest.skip(f"other processes use {others:.1f} cores; the boot has {used:.2f}")
        assert used > 1.7
    finally:
        process.kill()
        process.communicate()


USUAL_WAKE = 1e-5
"""CPU seconds. An idle guest does little but wake up and sleep again. On some virtual machines that takes ten times as
long for every process, the peer included, whose idle guest takes 0.05 cores there.
"""


def wake_seconds() -> float:
    """CPU seconds that a thread takes on this machine to wake up from a short sleep and sleep again."""
    before, times = time.process_time(), 500
    for _ in range(times):
        time.sleep(0.002)
    return (time.process_time() - before) / times


@pytest.mark.alone
@pytest.mark.parametrize("accelerator", ["tcg,thread=multi", "tcg,thread=single"])
def test_idle_guest_uses_hardly_anything(payload: Path, accelerator: str) -> None:
    words = command(payload, 4, "--accel", accelerator, append="payload_shell=1 payload_mb=1")
    child = pexpect.spawn(words[0], words[1:], timeout=LIMIT)
    try:
        child.expect_exact("PAYLOAD-OK")
        child.expect_exact("# ")
        time.sleep(3)
        used = min(used_cores(child.pid, 5) for _ in range(3))
        assert used < 0.03 * max(1.0, wake_seconds() / USUAL_WAKE)
    finally:
        child.kill(signal.SIGTERM)
        child.expect(pexpect.EOF, timeout=240)
        child.close(force=True)
