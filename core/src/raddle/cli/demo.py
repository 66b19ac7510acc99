# SPDX-License-Identifier: Apache-2.0
"""`raddle demo`: runs the bundled multi-processor guest, which draws a picture on all its CPUs, once with a host thread
for each CPU and once with a single thread.

Shows the picture, what each vCPU did and when, the times of both runs, and how free the host's cores were.
"""

from __future__ import annotations

import argparse
import importlib.resources
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from raddle.accel import Decision, Mode
from raddle.cli import cores
from raddle.cli.guests import only_guest
from raddle.errors import MachineError, UsageError
from raddle.machine.choice import choose_board
from raddle.machine.machine import Machine
from raddle.plugins import Target, registry

__all__ = ["configure", "run"]

DEFAULT_CPUS: Final = 4
MAX_CPUS: Final = 8
TIMEOUT: Final = 600.0
"""Seconds that a run may take."""
SAMPLE_SECONDS: Final = 0.02
STRIP_WIDTH: Final = 60
"""The most columns of the strip that shows when a vCPU ran."""
OTHER_COLUMNS: Final = 44
"""Columns of the table beside the strip."""

COLORS: Final = ("cyan", "yellow", "green", "magenta", "blue", "red", "bright_cyan", "bright_yellow")
MARKS: Final = {"running": "█", "halted": "·", "off": " "}
"""The character for a vCPU's state in its strip. If a column has several states, the first of this list is shown."""

PICTURE_LINE: Final = re.compile(r"(?P<dots>.+) \|(?P<cpu>\d)")
CPU_LINE: Final = re.compile(r"DEMO-CPU (\d+) rows=(\d+) first=(-?\d+) last=(-?\d+) ticks=(\d+)")
TIME_LINE: Final = re.compile(r"DEMO-TIME cpus=(\d+) ticks=(\d+) frequency=(\d+)")
VERDICT_LINE: Final = re.compile(r"DEMO-(?P<word>OK|FAIL)\b(?P<rest>.*)")


@dataclass(frozen=True, slots=True)
class Share:
    """What the guest reports about one of its CPUs."""

    rows: int
    first: int
    last: int
    ticks: int


@dataclass(slots=True)
class Result:
    """The output and the times of one run."""

    decision: Decision
    seconds: float = 0.0
    """Wall time from power-on to power-off, translation included."""
    picture: list[tuple[str, int]] = field(default_factory=list)
    """Rows, each with the CPU that drew it."""
    shares: dict[int, Share] = field(default_factory=dict)
    drawing_seconds: float = 0.0
    """The guest's own time for the picture."""
    frequency: int = 1
    verdict: str = ""
    samples: list[tuple[str, ...]] = field(default_factory=list)
    """States of all vCPUs, every SAMPLE_SECONDS."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-smp", type=int, default=DEFAULT_CPUS, metavar="N", help=f"CPUs of the guest ({DEFAULT_CPUS})")
    parser.add_argument("--target", default="", metavar="NAME", help="the guest (the only one with a demo)")


def run(arguments: argparse.Namespace) -> int:
    """Run the demo in both modes; returns the exit status. Raises MachineError if the guest reports a failure."""
    target, kernel = _find_guest(arguments.target)
    most = min(MAX_CPUS, choose_board(registry(), "", target.name, kernel).max_cpus)
    if not 1 <= arguments.smp <= most:
        raise UsageError(f"the demo runs on 1 to {most} CPUs, not {arguments.smp}")
    console = Console(highlight=False, markup=False)
    results = []
    threads = min(arguments.smp, cores.count())
    gains = [cores.gain(threads)]
    for accelerator, what in (("tcg", "as many host threads as CPUs"), ("tcg,thread=single", "one host thread")):
        if console.is_terminal:
            with console.status(f"drawing on {arguments.smp} CPUs with {what}"):
                results.append(_draw(target, kernel, arguments.smp, accelerator))
        else:
            results.append(_draw(target, kernel, arguments.smp, accelerator))
        gains.append(cores.gain(threads))
        if len(results) == 1:
            _show_picture(console, results[0])
    for result in results:
        console.print(_activity(result, max(10, min(STRIP_WIDTH, console.width - OTHER_COLUMNS))))
    console.print(_comparison(results))
    console.print(host_text(threads, gains))
    sys.stdout.flush()
    return 0


def _find_guest(name: str) -> tuple[Target, Path]:
    """A target whose package has a `demo/demo.elf`, and that file. Without a name there must be only one."""
    found = registry()
    target = found.target(name) if name else only_guest(found, lambda one: _demo(one) is not None, "a demo")
    kernel = _demo(target)
    if kernel is None:
        raise UsageError(f"guest {target.name} has no demo")
    return target, kernel


def _demo(target: Target) -> Path | None:
    guest = importlib.resources.files(target.load.__module__.partition(".")[0]) / "demo" / "demo.elf"
    return guest if isinstance(guest, Path) and guest.is_file() else None


def _draw(target: Target, kernel: Path, cpus: int, accelerator: str) -> Result:
    """One run of the guest, watched until it powers off."""
    with Machine(cpus=cpus, memory="64M", kernel=kernel, accelerator=accelerator, target=target.name) as machine:
        result = Result(machine.accel)
        started = time.perf_counter()
        machine.start()
        while True:
            try:
                machine.wait(SAMPLE_SECONDS)
                break
            except TimeoutError:
                result.samples.append(tuple(str(cpu.info().get("state", "")) for cpu in machine.cpus))
            if time.perf_counter() - started > TIMEOUT:
                raise MachineError(f"the demo guest has not ended after {TIMEOUT:g} s")
        result.seconds = time.perf_counter() - started
        _read(machine.console.text, result)
    return result


def _read(text: str, result: Result) -> None:
    """Parse the guest's output into `result`. Raises MachineError if it reports a failure, or no result."""
    for line in text.splitlines():
        if match := CPU_LINE.fullmatch(line):
            cpu, *numbers = map(int, match.groups())
            result.shares[cpu] = Share(*numbers)
        elif match := TIME_LINE.fullmatch(line):
            result.frequency = int(match[3])
            result.drawing_seconds = int(match[2]) / result.frequency
        elif match := VERDICT_LINE.fullmatch(line):
            result.verdict = line
            if match["word"] == "FAIL":
                raise MachineError(f"the demo guest reports:{match['rest']}")
        elif match := PICTURE_LINE.fullmatch(line):
            result.picture.append((match["dots"], int(match["cpu"])))
    if not result.verdict:
        raise MachineError(f"the demo guest has ended without a verdict; it printed {text[-200:]!r}")


# --- showing ----------------------------------------------------------------------------------------------------


def _show_picture(console: Console, result: Result) -> None:
    """Print the rows, each in the colour of the CPU that drew it and with its number; they fit into 80 columns."""
    for dots, cpu in result.picture:
        console.print(Text(dots, style=COLORS[cpu % len(COLORS)]) + Text(f"  {cpu}", style="dim"))
    console.print(f"{result.verdict}, checked by the guest\n")


def _activity(result: Result, width: int) -> Table:
    """What each vCPU did, and when it ran."""
    threads = "a host thread for each CPU" if result.decision.mode is Mode.MULTI else "one host thread for all CPUs"
    table = Table(title=f"{threads}: {'; '.join(result.decision.reasons)}", title_justify="left")
    for column in ("CPU", "rows", "first", "last", "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column(f"ran █, waited · ({result.seconds:.2f} s)", no_wrap=True)
    for cpu, share in sorted(result.shares.items()):
        table.add_row(
            Text(str(cpu), style=COLORS[cpu % len(COLORS)]),
            str(share.rows),
            str(share.first) if share.rows else "-",
            str(share.last) if share.rows else "-",
            f"{share.ticks / result.frequency:.2f}",
            Text(strip([sample[cpu] for sample in result.samples], width), style=COLORS[cpu % len(COLORS)]),
        )
    return table


def strip(states: list[str], width: int = STRIP_WIDTH) -> str:
    """A vCPU's states over time, in `width` columns."""
    order = list(MARKS)
    columns = []
    count = min(width, len(states))
    for column in range(count):
        part = states[column * len(states) // count : (column + 1) * len(states) // count]
        best = min((order.index(state) for state in part if state in MARKS), default=order.index("off"))
        columns.append(MARKS[order[best]])
    return "".join(columns)


def _comparison(results: list[Result]) -> Table:
    table = Table(title=f"Times, on a host with {cores.count()} cores", title_justify="left")
    table.add_column("mode")
    table.add_column("whole run, s", justify="right")
    table.add_column("picture, s", justify="right")
    table.add_column("picture, speed", justify="right")
    slowest = results[-1].drawing_seconds
    for result in results:
        name = "multi-threaded" if result.decision.mode is Mode.MULTI else "single-threaded"
        ratio = f"{slowest / result.drawing_seconds:.2f} x" if result.drawing_seconds else "-"
        table.add_row(name, f"{result.seconds:.2f}", f"{result.drawing_seconds:.2f}", ratio)
    return table


def host_text(threads: int, gains: list[float]) -> str:
    """How much threads could gain on the host before, between and after the runs, and what this means for the times."""
    if threads == 1:
        return "With one core for all threads, several threads are no faster than one."
    worst = min(gains)
    said = (
        f"Before, between and after the runs {threads} threads of plain arithmetic got "
        f"{', '.join(f'{one:.2f}' for one in gains)} times as much done as one."
    )
    if worst >= cores.FREE * threads:
        return f"{said} So they had {threads} cores to themselves."
    return (
        f"{said} On free cores it would be {threads}: something else uses them, or they share their hardware. No guest "
        "gains more from its threads than that, and where threads wait for a core it may gain nothing."
    )
