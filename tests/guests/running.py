# SPDX-License-Identifier: Apache-2.0
"""Runs of prebuilt guests on Raddle, the same for all machines."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.host_warnings import host_warnings
from tests.patience import seconds

from raddle import Machine

PARALLEL = "tcg,thread=multi"
MODES = {
    "multi": ("--accel", PARALLEL),
    "single": ("--accel", "tcg,thread=single"),
    "icount": ("-icount", "shift=auto"),
}
LIMIT = seconds(240.0)
"""Seconds for one guest, whose own waiting loops give up after two minutes."""
TRIES = 30
"""With CPUs on threads of their own, what goes wrong is a matter of nanoseconds, a few in millions of tries; and on a
busy host one CPU may be done before another one's thread has run, time after time. The first failure is enough."""
NEEDS_PARALLEL = {"store-buffering-control", "ipi-control"}
"""Others see a store after a later load only when they run at the same time, on cores of their own. Where vCPUs run in
turn, one that interrupts another gives up its turn, so that no interrupts merge."""


def raddle(*options: str) -> list[str]:
    return [sys.executable, "-m", "raddle.cli.main", *options]


@dataclass(frozen=True)
class Guests:
    """The prebuilt guests of one machine."""

    machine: str
    prebuilt: Path

    def named(self, pattern: str) -> tuple[str, ...]:
        return tuple(path.stem for path in sorted(self.prebuilt.glob(f"{pattern}.elf")))

    def boot(self, name: str, cpus: int, mode: str = "multi", *options: str) -> list[str]:
        machine = ["boot", "-M", self.machine, "-m", "256M", "-smp", str(cpus), "-nographic", "-no-reboot"]
        return raddle(*machine, *MODES[mode], "-kernel", str(self.prebuilt / f"{name}.elf"), *options)

    def run(self, name: str, cpus: int, mode: str = "multi", *options: str) -> list[str]:
        """Run a guest until it powers off; its lines. What it has said so far is part of the failure when it does
        not.
        """
        command = self.boot(name, cpus, mode, *options)
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, check=False
            )
        except subprocess.TimeoutExpired as error:
            said = (error.stdout or b"").decode(errors="replace")
            pytest.fail(f"{name} with {cpus} CPUs, {mode}: still runs after {LIMIT} s\n{said}", pytrace=False)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        assert done.stderr == host_warnings()
        return done.stdout.splitlines()

    def run_here(
        self, name: str, cpus: int, mode: str = "multi", *, strict: bool = False, spread: bool = False
    ) -> list[str]:
        """As `run`, with a machine of this process: it is made in a tenth of the time that a process takes to begin.

        `strict`: with exact reservations. `spread`: vCPUs are spread over the host's cores and stay there, since a busy
        host may keep all threads of a process on one core.
        """
        accelerator = "tcg" + (f",thread={mode}" if mode != "icount" else "") + (",llsc=strict" if strict else "")
        with (
            contextlib.redirect_stderr(io.StringIO()) as warnings,
            Machine(
                self.machine,
                cpus=cpus,
                memory="256M",
                kernel=self.prebuilt / f"{name}.elf",
                accelerator=accelerator,
                icount="shift=auto" if mode == "icount" else None,
                reboot=False,
            ) as machine,
        ):
            machine.start()
            if spread:
                machine.spread()
            try:
                status = machine.wait(LIMIT)
            except TimeoutError:
                status = -1
            text = machine.console.text
        assert (status, warnings.getvalue()) == (0, ""), f"{name} with {cpus} CPUs, {mode}: {text}"
        return text.splitlines()

    def check_hello(self, cpus: int, mode: str) -> None:
        lines = self.run("hello-smp", cpus, mode)
        assert [line[:17] for line in lines[:-1]] == [f"hello from cpu {cpu} " for cpu in range(cpus)]
        assert lines[-1] == f"PASS hello-smp cpus={cpus}"

    def check_control(self, name: str, cpus: int, mode: str) -> None:
        """Without its mechanism a guest must be able to fail."""
        if name in NEEDS_PARALLEL and len(os.sched_getaffinity(0)) < 2:
            pytest.skip("needs two cores")
        check_failure(name, mode, lambda: self.run_here(name, cpus, mode, spread=name in NEEDS_PARALLEL)[-1])


def check_failure(name: str, mode: str, verdict: Callable[[], str]) -> None:
    """The control must fail: its `verdict`, the last line of a run, must say so in one of a mode's tries."""
    verdicts: list[str] = []
    while len(verdicts) < (TRIES if mode == "multi" else 1):
        verdicts.append(verdict())
        if verdicts[-1].startswith(f"FAIL {name}: "):
            return
    pytest.fail("\n".join(verdicts), pytrace=False)


def assert_recorded(recorded: Path, lines: list[str]) -> None:
    """These lines of a peer are those in the file; with ``RADDLE_RECORD`` in the environment they are written there."""
    if os.environ.get("RADDLE_RECORD"):
        recorded.write_text("\n".join(lines) + "\n")
    assert recorded.read_text().splitlines() == lines


def each(names: Iterable[str], cpus: Iterable[int], quick: Callable[[str, str, int], bool]) -> list[object]:
    """Every name with every number of CPUs in every mode, for parameters `name`, `cpus` and `mode`; those that are not
    quick (name, mode, CPUs) are marked.
    """
    return [
        pytest.param(
            *case, marks=() if quick(case[0], case[2], case[1]) else pytest.mark.stress, id="-".join(map(str, case))
        )
        for case in itertools.product(names, cpus, MODES)
    ]


def controls(names: Iterable[str], cpus: Iterable[int], quick_cpus: int) -> list[object]:
    """The same for controls, in the modes in which they can fail."""
    return [
        pytest.param(*case, marks=() if case[1] == quick_cpus else pytest.mark.stress, id="-".join(map(str, case)))
        for case in itertools.product(names, cpus, MODES)
        if case[2] == "multi" or case[0] not in NEEDS_PARALLEL
    ]
