# SPDX-License-Identifier: Apache-2.0
"""Translated code: no address is writable and executable at once, nor tells where the other one is; and what is said
where the host does not let it be so.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from raddle import Machine
from raddle.cli import info
from raddle.errors import MachineError
from raddle.plugins import registry
from raddle.runtime import code_memory, hardening

REFUSE = Path(__file__).with_name("refuse.py")
NO_FILTER = 77
HELLO = Path(__file__).resolve().parents[1] / "guests" / "arm" / "prebuilt" / "hello.elf"
ONE_VIEW = "memfd_create,mremap"
"""Without these the same memory cannot be mapped twice."""
OLD_CODE = "the host runs old code at one address when new code is written at another"


def mappings() -> set[tuple[int, str, str]]:
    """Address, access and name of what this process has mapped."""
    lines = [line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines()]
    return {(int(words[0].partition("-")[0], 16), words[1], words[5] if words[5:] else "") for words in lines}


@contextmanager
def machine(**options: str) -> Iterator[set[tuple[int, str, str]]]:
    """What a machine maps that can be executed or is shared."""
    before = mappings()
    with Machine("virt", memory="16M", kernel=HELLO, **options):
        yield {one for one in mappings() - before if "x" in one[1] or "s" in one[1]}


@pytest.fixture
def two_addresses() -> None:
    """For tests of code at two addresses: some hosts cannot have it there."""
    described = code_memory.choose(None, registry().load(registry().host_for()).constant).description
    if described.endswith(OLD_CODE):
        pytest.skip(OLD_CODE)


@pytest.mark.usefixtures("two_addresses")
def test_no_address_is_writable_and_executable() -> None:
    with machine() as mapped:
        assert sorted(access for _, access, _ in mapped) == ["r-xs", "rw-s"]


@pytest.mark.usefixtures("two_addresses")
def test_nobody_knows_the_writable_address_from_the_executable_one() -> None:
    distances = set()
    for _ in range(8):
        with machine() as mapped:
            first, second = sorted(address for address, _, _ in mapped)
            distances.add(second - first)
    assert len(distances) == 8


def raddle(refused: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command on a host that refuses some system calls."""
    command = [sys.executable, str(REFUSE), refused, sys.executable, "-m", "raddle.cli.main", *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode == NO_FILTER:
        pytest.skip("no seccomp filter can be set here")
    return done


def boot(refused: str, *words: str) -> subprocess.CompletedProcess[str]:
    return raddle(refused, "boot", "-kernel", str(HELLO), *words)


def test_a_host_without_memory_files_maps_the_same_memory_twice_all_the_same() -> None:
    done = boot("memfd_create", "-d", "accel")
    assert "PASS hello " in done.stdout
    assert "accel: translated code is written at one address and executed at another" in done.stderr
    assert "warning" not in done.stderr


def test_a_user_is_told_of_code_that_is_writable() -> None:
    done = boot(ONE_VIEW, "-d", "accel")
    assert done.returncode == 0
    assert "PASS hello " in done.stdout
    assert "raddle: warning: translated code is writable where it is executed: the host does not map" in done.stderr
    assert "--accel tcg,split-wx=on refuses" in done.stderr
    assert "\naccel: translated code is writable where it is executed: the host does not map" in done.stderr
    assert "\ntranslated code is writable where it is executed: the host" in raddle(ONE_VIEW, "info").stdout
    assert "\ntranslated code is written at one address" in raddle("memfd_create", "info").stdout


def test_a_user_may_insist_on_two_addresses_or_have_one() -> None:
    refused = boot(ONE_VIEW, "-accel", "tcg,split-wx=on")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(
        "raddle: the runtime cannot be set up: split-wx=on: the host does not map the same "
    )
    assert refused.stderr.count("\n") == 1
    assert boot("memfd_create", "-accel", "tcg,split-wx=on").returncode == 0
    single = boot(ONE_VIEW, "-accel", "tcg,split-wx=off", "-d", "accel")
    assert single.returncode == 0
    assert "warning" not in single.stderr
    assert "accel: translated code is writable where it is executed: split-wx=off was asked for" in single.stderr
    with machine(accelerator="tcg,split-wx=off") as mapped:
        assert "rwxp" in {access for _, access, _ in mapped}


def test_a_host_without_executable_memory_is_an_error_of_one_line() -> None:
    done = boot(f"{ONE_VIEW},wx")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "raddle: the runtime cannot be set up: the host refuses memory that is writable and executable (Operation not "
        "permitted), and the host does not map the same memory twice (Operation not permitted); in force for this "
        "process: a seccomp filter (in a container, its profile has to allow memfd_create and mmap with PROT_EXEC)\n"
    )
    assert done.stderr.count("\n") == 1
    assert "\nthere is no memory for translated code: the host refuses" in raddle(f"{ONE_VIEW},wx", "info").stdout


def test_what_forbids_memory_for_code_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, enforce = tmp_path / "status", tmp_path / "enforce"
    monkeypatch.setattr(hardening, "STATUS", status)
    monkeypatch.setattr(hardening, "ENFORCE", enforce)
    monkeypatch.setattr(hardening, "_refuses_gains", lambda: False)
    assert hardening.guards() == [], "neither file is there"
    status.write_text("Name:\tpython\nSeccomp:\t0\n")
    enforce.write_text("0")
    assert hardening.guards() == []
    status.write_text("Seccomp:\t2\nPaX:\tPeMRs\n")
    enforce.write_text("1")
    monkeypatch.setattr(hardening, "_refuses_gains", lambda: True)
    assert [one.partition(" (")[0] for one in hardening.guards()] == [
        "a seccomp filter",
        "PR_SET_MDWE of prctl",
        "SELinux",
        "PaX MPROTECT",
    ]
    assert all("(" in one for one in hardening.guards())


def test_a_process_that_may_gain_no_executable_memory_is_found() -> None:
    """On Linux 6.3 or newer."""
    program = (
        "import ctypes, sys; from raddle.runtime import hardening;"
        "PR_SET_MDWE = 65; refused = ctypes.CDLL(None).prctl(PR_SET_MDWE, 1, 0, 0, 0);"
        f"print(hardening.guards()); sys.exit({NO_FILTER} if refused else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == NO_FILTER:
        pytest.skip("this kernel has no PR_SET_MDWE")
    assert "PR_SET_MDWE" in done.stdout


@pytest.fixture
def runs_old_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that returns, whatever was written last, what was written first: its test code answers wrongly."""
    backend = registry().load(registry().host_for())
    first = backend.constant(code_memory.TRIED[0])
    monkeypatch.setattr(backend, "constant", staticmethod(lambda value: first))


@pytest.mark.usefixtures("runs_old_code")
def test_code_is_written_where_it_runs_on_a_host_that_runs_old_code(capsys: pytest.CaptureFixture[str]) -> None:
    with machine() as mapped:
        assert [access for _, access, _ in mapped] == ["rwxp"]
    with Machine("virt", memory="16M", kernel=HELLO) as one:
        (warning,) = one.engine.warnings
    assert warning == (
        f"translated code is writable where it is executed: {OLD_CODE}; --accel tcg,split-wx=on refuses to run so"
    )
    with machine(accelerator="tcg,split-wx=off") as mapped:
        assert [access for _, access, _ in mapped] == ["rwxp"]
    parser = argparse.ArgumentParser()
    info.configure(parser)
    assert info.run(parser.parse_args([])) == 0
    assert f"\ntranslated code is writable where it is executed: {OLD_CODE}\n" in capsys.readouterr().out


@pytest.mark.usefixtures("runs_old_code")
def test_two_addresses_are_refused_on_a_host_that_runs_old_code() -> None:
    with pytest.raises(MachineError, match=f"^the runtime cannot be set up: split-wx=on: {OLD_CODE}$"):
        Machine("virt", memory="16M", kernel=HELLO, accelerator="tcg,split-wx=on")


def test_a_trial_needs_no_more_address_space_than_its_page() -> None:
    """An emulator may keep records of each page that is mapped: a second and half a gigabyte at each start."""
    program = (
        "from raddle.plugins import registry; from raddle.runtime.code_memory import choose;"
        "constant = registry().load(registry().host_for()).constant;"
        "peak = lambda: next(line for line in open('/proc/self/status') if line.startswith('VmPeak:')).split()[1];"
        "before = peak(); choose(None, constant); print(int(peak()) - int(before))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240, check=True)
    assert int(done.stdout) < 1 << 20, "KiB"


def test_memory_for_code_cannot_be_tried_without_a_host() -> None:
    for constant in (None, lambda value: None):
        chosen = code_memory.choose(None, constant)
        assert chosen.description.endswith("(split-wx, not tried: no host makes code for this machine)")
        assert not chosen.warnings


@pytest.mark.host("x86_64")
@pytest.mark.peer("qemu-x86_64")
def test_an_emulator_that_runs_old_code_is_noticed() -> None:
    """QEMU's user mode sees code that is changed where it runs, and not what is changed at another address."""
    program = (
        "from raddle.runtime.code_memory import choose; from raddle_host_x86_64.backend import X86BackEnd;"
        "print(choose(None, X86BackEnd.constant).description)"
    )
    command = ["qemu-x86_64", sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout == f"translated code is writable where it is executed: {OLD_CODE}\n"
