# SPDX-License-Identifier: Apache-2.0
"""Translated code: no address is writable and executable at once, nor tells where the other one is; and what is said
where the host does not let it be so.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from raddle import Machine

REFUSE = Path(__file__).with_name("refuse.py")
NO_FILTER = 77
HELLO = Path(__file__).resolve().parents[1] / "guests" / "arm" / "prebuilt" / "hello.elf"
ONE_VIEW = "memfd_create,mremap"
"""Without these the same memory cannot be mapped twice."""


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


def test_no_address_is_writable_and_executable() -> None:
    with machine() as mapped:
        assert sorted(access for _, access, _ in mapped) == ["r-xs", "rw-s"]


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
    assert done.stderr.startswith("raddle: the runtime cannot be set up: the host refuses executable memory: ")
    assert done.stderr.count("\n") == 1
    assert "\nthere is no memory for translated code: the host refuses" in raddle(f"{ONE_VIEW},wx", "info").stdout
