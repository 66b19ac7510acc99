# SPDX-License-Identifier: Apache-2.0
"""The guests on Raddle: each in every mode that runs several CPUs, its controls, the exceptions line by line, and what
never ends.

Quick: every guest and every control with four CPUs in each mode. Marked `stress`: two and eight CPUs.
"""

from __future__ import annotations

import contextlib
import re
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pexpect
import pytest
from tests.guests.arm.prebuilt_guests import CONTROLS, ENDLESS, EXACT, GUESTS, PREBUILT, STORMS, STRESS
from tests.guests.running import LIMIT, MODES, controls, each, raddle
from tests.host_warnings import host_warnings

from raddle import Machine

HERE = Path(__file__).resolve().parent
RECORDED = HERE / "recorded"

pytestmark = pytest.mark.host

CPUS = (2, 4, 8)
QUICK_CPUS = 4
boot, run, run_here = GUESTS.boot, GUESTS.run, GUESTS.run_here


@pytest.mark.parametrize("name", ["hello", "crc32-thumb", "sha256-thumb", "exceptions-many"])
@pytest.mark.parametrize("mode", MODES)
def test_one_cpu_guests_pass(name: str, mode: str) -> None:
    assert run_here(name, 1, mode)[-1].startswith(f"PASS {name} ")


def test_a_program_linked_to_another_address_than_it_is_loaded_at_is_entered_where_it_is(tmp_path: Path) -> None:
    """As kernels of the upper half are: with the virtual addresses of its headers moved, the entry moves along."""
    program = bytearray((PREBUILT / "hello.elf").read_bytes())
    (entry, table), (size, count) = struct.unpack_from("<2I", program, 24), struct.unpack_from("<2H", program, 42)
    struct.pack_into("<I", program, 24, entry + 0x8000_0000)
    for header in range(table, table + size * count, size):
        (virtual,) = struct.unpack_from("<I", program, header + 8)
        struct.pack_into("<I", program, header + 8, virtual + 0x8000_0000 & 0xFFFF_FFFF)
    (tmp_path / "high.elf").write_bytes(program)
    command = raddle("boot", "-kernel", str(tmp_path / "high.elf"), "-nographic")
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, check=True)
    assert done.stdout.splitlines()[-1].startswith("PASS hello ")


@pytest.mark.parametrize("cpus", CPUS)
@pytest.mark.parametrize("mode", MODES)
def test_every_cpu_says_hello(cpus: int, mode: str) -> None:
    GUESTS.check_hello(cpus, mode)


@pytest.mark.parametrize(("name", "cpus", "mode"), each(STRESS, CPUS, lambda name, mode, cpus: cpus == QUICK_CPUS))
def test_stress_guests_pass(name: str, cpus: int, mode: str) -> None:
    assert run_here(name, cpus, mode)[-1].startswith(f"PASS {name} cpus={cpus}")


@pytest.mark.parametrize("name", STORMS)
def test_storms_pass(name: str) -> None:
    """What the bench measures; the mechanisms have guests of their own, with controls."""
    mode = "single" if name.endswith("-spin") else "multi"
    assert run(name, 2, mode)[-1].startswith(f"PASS {name} cpus=2")


# --- controls: without its mechanism a guest must be able to fail -------------------------------------------------


@pytest.mark.parametrize(("name", "cpus", "mode"), controls(CONTROLS, CPUS, QUICK_CPUS))
def test_controls_fail(name: str, cpus: int, mode: str) -> None:
    GUESTS.check_control(name, cpus, mode)


EXACT_CPUS = {"aba": 2, "aba-stack": 4}


@pytest.mark.parametrize("name", EXACT)
def test_store_exclusive_compares_values(name: str) -> None:
    """The control of the next two tests."""
    assert run_here(name, EXACT_CPUS[name])[-1].startswith(f"FAIL {name}: ")
    assert run_here(name, 1)[-1].startswith(f"PASS {name} ")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", EXACT)
def test_strict_reservations_are_exact(name: str, mode: str) -> None:
    assert run_here(name, EXACT_CPUS[name], mode, strict=True)[-1].startswith(f"PASS {name} ")


@pytest.mark.stress
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", EXACT)
def test_exact_reservations_make_the_difference_every_time(name: str, strict: bool) -> None:
    verdicts = [run_here(name, EXACT_CPUS[name], strict=strict)[-1] for _ in range(20)]
    assert {verdict[:4] for verdict in verdicts} == {"PASS" if strict else "FAIL"}


@pytest.mark.parametrize(
    ("name", "cpus", "mode"),
    each(("aba-stack", "atomics", "spinlock"), CPUS, lambda name, mode, cpus: (mode, cpus) == ("multi", 8)),
)
def test_strict_exclusives_get_on(name: str, cpus: int, mode: str) -> None:
    """None holds up the others for ever: eight vCPUs on however many cores."""
    assert run_here(name, cpus, mode, strict=True)[-1].startswith(f"PASS {name} cpus={cpus}")


@pytest.mark.stress
@pytest.mark.parametrize("name", STRESS)
def test_stress_guests_pass_with_strict_reservations(name: str) -> None:
    assert run_here(name, QUICK_CPUS, strict=True)[-1].startswith(f"PASS {name} cpus={QUICK_CPUS}")


def counted(icount: str) -> tuple[list[int], int, int]:
    """The execution hashes of `sleep`, its virtual time, and how long its thread had nothing to do, in nanoseconds."""
    with Machine("virt", cpus=2, memory="256M", kernel=PREBUILT / "sleep.elf", icount=icount) as machine:
        machine.start()
        assert machine.wait(LIMIT) == 0
        stats = machine.stats()
        hashes = [cpu["trace_hash"] for cpu in stats["cpus"]]
        return hashes, machine.engine.clock_ns(), sum(thread["idle_ns"] for thread in stats["threads"])


def test_idle_time_is_slept_if_so_wished() -> None:
    skipped, slept = counted("shift=auto"), counted("shift=auto,sleep=on")
    assert slept[:2] == skipped[:2]
    assert slept[2] > slept[1] // 2, "nothing in this guest but sleep takes virtual time"


@pytest.mark.parametrize("shift", [0, 10])
def test_a_guest_lives_on_at_the_end_of_time(shift: int) -> None:
    lines = run("far-timer", 1, "icount", "-icount", f"shift={shift}")
    assert lines == ["a millisecond is left", "the end", "PASS far-timer interrupts=2"]


# --- exceptions ---------------------------------------------------------------------------------------------------

BETTER = {
    "domain-2-translation": "dfsr=0017 dfar=70401000 r0=70401000 r1=00000000 r2=00000000 sp=100",
    "ldrd-post-index-across": "dfsr=0007 dfar=70001000 r0=70000ffc r1=00000000 r2=00000000 sp=100",
}
"""Lines of `exceptions` that QEMU has otherwise. In the first one the manual says that a translation fault comes before
a domain fault; in the second one the first register of an aborted LDRD keeps its value, where QEMU has loaded it.
"""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["exceptions", "exceptions-lpae"])
def test_exceptions_are_those_of_the_peer(name: str, mode: str) -> None:
    expected = (RECORDED / f"{name}.txt").read_text().splitlines()
    lines = run_here(name, 1, mode)
    different = {
        line.partition(":")[0]: line for line, recorded in zip(lines, expected, strict=True) if line != recorded
    }
    assert different.keys() == (BETTER.keys() if name == "exceptions" else set()), "\n".join(different.values())
    for check, line in different.items():
        assert line.endswith(BETTER[check])
    assert not any(line.endswith("WRONG") for line in lines)
    assert lines[-1].startswith(f"PASS {name} ")


# --- what never ends ----------------------------------------------------------------------------------------------


@dataclass
class Terminal:
    """A guest on a terminal, as a user sits before it."""

    child: pexpect.spawn

    def ready(self) -> None:
        """Wait until the guest has said all that it says."""
        self.child.expect(r"ready cpus=2\r+\n", timeout=LIMIT)

    def expect(self, text: str) -> str:
        """Wait for a text; what came before it."""
        self.child.expect_exact(text, timeout=LIMIT)
        return str(self.child.before)

    def monitor(self, command: str) -> str:
        """A monitor command's answer."""
        self.child.sendline(command)
        self.expect(f"{command}\r\n")
        return self.expect("(raddle) ")

    def end(self) -> int:
        """The exit status, once the program has ended by itself."""
        self.child.expect(pexpect.EOF, timeout=LIMIT)
        self.child.close()
        assert self.child.signalstatus is None
        assert self.child.exitstatus is not None
        return int(self.child.exitstatus)


@contextlib.contextmanager
def on_terminal(name: str, cpus: int, mode: str, errors: Path) -> Iterator[Terminal]:
    command = ["-c", 'exec "$@" 2>"$0"', str(errors), *boot(name, cpus, mode)]
    child = pexpect.spawn("/bin/sh", command, encoding="utf-8", codec_errors="replace")
    child.delaybeforesend = None
    try:
        yield Terminal(child)
    finally:
        child.close(force=True)


def await_text(path: Path, text: str) -> None:
    deadline = time.monotonic() + LIMIT
    while text not in path.read_text():
        assert time.monotonic() < deadline, path.read_text()
        time.sleep(0.05)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ENDLESS)
def test_a_guest_that_never_ends_can_be_looked_at_and_stopped(name: str, mode: str, tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    with on_terminal(name, 2, mode, errors) as terminal:
        terminal.ready()
        terminal.child.send("\x01c")
        terminal.expect("(raddle) ")
        for round_ in range(2):
            threads = terminal.monitor("info cpus")
            assert len(re.findall(r"^[01] +\d+ +(running|halted) +0x", threads, re.MULTILINE)) == 2
            assert terminal.monitor("stop") == ""
            assert terminal.monitor("info status") == "machine paused\r\n"
            registers = terminal.monitor("info registers")
            assert len(re.findall(r"^CPU [01]\r$", registers, re.MULTILINE)) == 2
            if name == "stray-pc" and round_:
                assert re.search(r"pc=200000(00|04|08|0c|10)", registers)
            assert terminal.monitor("cont") == ""
            assert terminal.monitor("info status") == "machine running\r\n"
        assert "tests" not in terminal.monitor("info stats")
        if name.startswith("stray"):
            await_text(errors, "take exceptions at pc")
        terminal.child.sendline("quit")
        assert terminal.end() == 0
    assert name.startswith("stray") or errors.read_text() == host_warnings()


@pytest.mark.parametrize("name", ["endless-loop", "stray-undefined"])
def test_the_escape_key_ends_a_guest(name: str, tmp_path: Path) -> None:
    with on_terminal(name, 2, "multi", tmp_path / "errors") as terminal:
        terminal.ready()
        terminal.child.send("\x01x")
        assert terminal.end() == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_a_guest(number: signal.Signals, mode: str) -> None:
    command = boot("endless-count", 4, mode)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready cpus=4\r\n"
        process.send_signal(number)
        assert process.wait(LIMIT) == 128 + number


@pytest.mark.parametrize("mode", MODES)
def test_time_and_counts_stand_while_the_machine_is_paused(mode: str, tmp_path: Path) -> None:
    with on_terminal("endless-count", 2, mode, tmp_path / "errors") as terminal:
        terminal.ready()
        terminal.child.send("\x01c")
        terminal.expect("(raddle) ")
        terminal.monitor("stop")
        first = registers = terminal.monitor("info registers")
        for _ in range(10):
            assert terminal.monitor("info registers") == first
        while registers == first:  # it ends as soon as the vCPUs have run
            terminal.monitor("cont")
            terminal.monitor("stop")
            registers = terminal.monitor("info registers")
        terminal.child.sendline("quit")
        assert terminal.end() == 0
