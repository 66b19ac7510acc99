# SPDX-License-Identifier: Apache-2.0
"""Times Raddle against the peer (qemu-system-arm; with `--only alpha` qemu-system-alpha) on the same files, in turn,
in one run.

Prints a table of medians and ratios and writes it as JSON. A ratio is Raddle's time divided by the peer's, so below 1
is faster. Whole processes are timed, start-up included, unless a row says otherwise.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from raddle.cli.cores import gain

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.children import wait

ROOT = Path(__file__).resolve().parents[2]
GUESTS = ROOT / "tests" / "guests" / "arm" / "prebuilt"
BOARD = ("-M", "virt", "-nographic", "-no-reboot")
# Of the peers' options, those for what a user of the board has not asked for: its files may not be installed.
PEER = ("qemu-system-arm", "-cpu", "cortex-a15", "-nic", "none")
ALPHA_GUESTS = ROOT / "tests" / "guests" / "alpha" / "prebuilt"
ALPHA_BOARD = ("-M", "clipper", "-nographic", "-no-reboot")
ALPHA_PEER = ("qemu-system-alpha", "-nic", "none", "-vga", "none")
KERNELS = ("crc32", "sha256", "matmul", "qsort", "sieve", "strhash")
FLOAT_KERNELS = ("nbody", "mandelbrot", "fmatmul", "libm")
TIME_LIMIT = 600
FREE_CORES = 1.9
"""Two threads of arithmetic that gain this much have two cores to themselves."""
FREE_TRIES = 20
FORKS = 200
"""Processes that a shell begins one after the other, on each vCPU."""
ALPHA_PASSES = 100
"""Times that each of the Alpha payload's processes computes its sum: some seconds together."""
SINGLE = ("--accel", "tcg,thread=single")
PIPED = 20_000
"""Blocks of 512 bytes that each of four jobs writes into a pipe, by a system call for each, to a process that reads
them."""


@dataclass
class Run:
    """One finished process: wall and CPU seconds, peak memory in MiB, and the figure that the row is about."""

    wall: float
    cpu: float
    memory: float
    figure: float
    output: str


@dataclass
class Row:
    """One line of the table. `raddle` and `peer` are the medians of `unit`; None is not known."""

    name: str
    unit: str
    raddle: float | None
    peer: float | None
    runs: int
    limit: float | None = None
    """What is wanted: the ratio is at most this; where there is no peer to compare with, the figure."""
    at_least: bool = False
    """The figure itself is to be this or more."""
    detail: dict[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        return self.raddle / self.peer if self.raddle is not None and self.peer else None


def run(command: Sequence[str], figure: Callable[[Run], float]) -> Run:
    """Run `command` to its end. Raises RuntimeError with its last lines when it fails."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        status, usage = wait(process, TIME_LIMIT)
        wall = time.monotonic() - started
        output.seek(0)
        text = output.read().decode(errors="replace")
    if status:
        raise RuntimeError(f"{' '.join(command)} failed after {wall:.1f} s:\n" + "\n".join(text.splitlines()[-15:]))
    result = Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, 0.0, text)
    result.figure = figure(result)
    return result


def raddle(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "raddle.cli.main", "boot", *arguments]


def compare(
    name: str,
    arguments: Sequence[str],
    runs: int,
    figure: Callable[[Run], float],
    unit: str,
    limit: float | None = None,
    against: bool = True,
    peer: Sequence[str] = PEER,
) -> Row:
    """Both on the same arguments, in turn."""
    ours: list[Run] = []
    theirs: list[Run] = []
    for _ in range(runs):
        ours.append(run(raddle(arguments), figure))
        if against:
            theirs.append(run([*peer, *arguments], figure))
    row = compared(name, unit, ours, theirs, limit)
    show(row)
    return row


def compared(name: str, unit: str, ours: Sequence[Run], theirs: Sequence[Run], limit: float | None = None) -> Row:
    """The medians, and the peak memory of each side."""
    row = Row(
        name,
        unit,
        statistics.median(one.figure for one in ours),
        statistics.median(one.figure for one in theirs) if theirs else None,
        len(ours),
        limit,
        detail={"memory_mib": max(one.memory for one in ours)},
    )
    if theirs:
        row.detail["peer_memory_mib"] = max(one.memory for one in theirs)
    return row


def show(row: Row) -> None:
    own_text, peer_text = (f"{one:10.2f}" if one is not None else "         -" for one in (row.raddle, row.peer))
    ratio = f"{row.ratio:7.2f}" if row.ratio is not None else "      -"
    wanted = "at least" if row.at_least else "at most"
    limit = f"  ({wanted} {row.limit:g})" if row.limit is not None else ""
    print(f"{row.name:48s} {own_text} {peer_text} {row.unit:4s} {ratio}{limit}", flush=True)


def wall(one: Run) -> float:
    return one.wall


def phase(name: str) -> Callable[[Run], float]:
    """Guest seconds between the payload's marks NAME-START and NAME-END."""

    def seconds(one: Run) -> float:
        marks = [re.search(rf"{name}-{side} ([\d.]+)", one.output) for side in ("START", "END")]
        if not all(marks):
            raise RuntimeError(
                f"the payload did not print {name}-START and {name}-END; make it anew if it is an old one"
            )
        start, end = (float(mark.group(1)) for mark in marks if mark)
        return end - start

    return seconds


def expect(text: str, figure: Callable[[Run], float]) -> Callable[[Run], float]:
    """`figure`, of runs that printed `text`."""

    def checked(one: Run) -> float:
        if text not in one.output:
            raise RuntimeError(f"no {text} in the output:\n" + "\n".join(one.output.splitlines()[-15:]))
        return figure(one)

    return checked


def kernels(
    runs: int,
    what: str = "kernel",
    board: Sequence[str] = BOARD,
    guests: Path = GUESTS,
    peer: Sequence[str] = PEER,
    limit: float | None = 1.0,
    names: Sequence[str] = KERNELS,
) -> list[Row]:
    """The bare-metal kernels of these names, and the geometric mean of their ratios."""
    rows = []
    for name in names:
        arguments = [*board, "-m", "256M", "-kernel", str(guests / f"bench-{name}.elf")]
        rows.append(compare(f"{what} {name}", arguments, runs, expect("PASS", wall), "s", peer=peer))
    ratios = [row.ratio for row in rows if row.ratio]
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    total = Row(f"{what}s, geometric mean of the ratios", "x", mean, 1.0, runs, limit)
    show(total)
    return [*rows, total]


@dataclass
class Pair:
    """One run with one vCPU and one with two after it, and the least that the machine gave around them."""

    one: Run
    two: Run
    cores: float

    @property
    def gain(self) -> float:
        return self.one.figure / self.two.figure

    @property
    def on_free_cores(self) -> bool:
        return self.cores >= FREE_CORES


def pair(command: Callable[[int], Sequence[str]], figure: Callable[[Run], float]) -> Pair:
    """Both runs, begun once the machine's cores are free or have not become so for a while."""
    before = gain(2)
    for _ in range(FREE_TRIES):
        if before >= FREE_CORES:
            break
        time.sleep(1)
        before = gain(2)
    one = run(command(1), figure)
    between = gain(2)
    two = run(command(2), figure)
    return Pair(one, two, min(before, between, gain(2)))


def phases(
    what: str,
    arguments: Callable[[int], Sequence[str]],
    runs: int,
    figure: Callable[[Run], float],
    wanted: float,
    peer: Sequence[str] = PEER,
) -> list[Row]:
    """The payload's parallel phase, `what`, with one vCPU and with two, and what the second one gains.

    A speed-up is the median over pairs that ran one after the other, because the machine's own speed changes from
    minute to minute. Ours are four times as many as the peer's, being shorter. What is wanted of the gain is
    wanted on two free cores, so it is judged by the pairs that had them before, between and after their runs.
    """
    ours: list[Pair] = []
    theirs: list[Pair] = []
    for _ in range(runs):
        theirs.append(pair(lambda cpus: [*peer, *arguments(cpus)], figure))
        ours += [pair(lambda cpus: raddle(arguments(cpus)), figure) for _ in range(4)]
    rows = [
        compared(f"{what}, {cpus} vCPU", "s", our_runs, their_runs)
        for cpus, our_runs, their_runs in (
            (1, [one.one for one in ours], [one.one for one in theirs]),
            (2, [one.two for one in ours], [one.two for one in theirs]),
        )
    ]
    rows.append(gains(f"{what}, speed-up of 2 vCPUs", ours, theirs))
    free = [one for one in ours if one.on_free_cores]
    name = f"the same on free cores ({len(free)} of {len(ours)} pairs)"
    rows.append(gains(name, free, [one for one in theirs if one.on_free_cores], wanted))
    seen = [one.cores for one in (*ours, *theirs)]
    rows.append(Row("this machine, two threads of arithmetic", "x", statistics.median(seen), None, len(seen)))
    for row in rows:
        show(row)
    return rows


def gains(name: str, ours: Sequence[Pair], theirs: Sequence[Pair], wanted: float | None = None) -> Row:
    own_gain, peer_gain = (statistics.median(one.gain for one in side) if side else None for side in (ours, theirs))
    return Row(name, "x", own_gain, peer_gain, len(ours), wanted, wanted is not None)


def storms(runs: int) -> list[Row]:
    """What several vCPUs ask of each other all the time: TLB flushes with their barriers, and interrupts.

    With four vCPUs there are more than most test machines have cores, and the flushes are to take at most the peer's
    time; with two a run is mostly its start. The round-robin rows have no peer: what is wanted is that instruction
    counting costs at most twice the time.
    """

    def arguments(name: str, cpus: int, *more: str) -> list[str]:
        return [*BOARD, "-smp", str(cpus), "-m", "256M", "-kernel", str(GUESTS / f"storm-{name}.elf"), *more]

    passes = expect("PASS", wall)
    shown = {
        "remap": "flush one page everywhere",
        "remap-all": "flush all everywhere",
        "pingpong": "interrupts from CPU to CPU",
    }
    wanted = {("remap", 4), ("remap-all", 4)}
    rows = [
        compare(
            f"{text}, {cpus} vCPU", arguments(name, cpus), runs, passes, "s", 1.0 if (name, cpus) in wanted else None
        )
        for name, text in shown.items()
        for cpus in (2, 4)
    ]
    for name, text in (("pingpong", "asleep"), ("pingpong-spin", "spinning")):
        single, icount = (
            compare(f"the same {text}, 4 vCPU, {mode}", arguments(name, 4, *option), runs, passes, "s", against=False)
            for mode, option in (
                ("round robin", SINGLE),
                ("instruction counting", ("-icount", "shift=auto")),
            )
        )
        assert single.raddle is not None
        assert icount.raddle is not None
        relative = Row(f"the same {text}, counting / round robin", "x", icount.raddle / single.raddle, None, runs, 2.0)
        show(relative)
        rows += [single, icount, relative]
    return rows


def linux(payload: Path, runs: int) -> list[Row]:
    """Boots of the Debian payload, three kinds of work in it, and the round-robin boot that the peer never finishes.

    The parallel phase is computing alone. Pipes are system calls and switches between processes. Fork and exec are
    page faults and TLB flushes.
    """

    def arguments(cpus: int, words: str = "", *more: str) -> list[str]:
        files = ["-kernel", str(payload / "vmlinuz"), "-initrd", str(payload / "initramfs.cpio.gz")]
        append = f"console=ttyAMA0 panic=-1 {words}".strip()
        return [*BOARD, "-smp", str(cpus), "-m", "512M", *files, "-append", append, *more]

    ok = expect("PAYLOAD-OK", wall)
    rows = [compare(f"boot, {cpus} vCPU", arguments(cpus), runs, ok, "s", 3.0) for cpus in (1, 2, 4)]
    computing = expect("PAYLOAD-OK", phase("PAYLOAD"))
    rows += phases("parallel phase", lambda cpus: arguments(cpus, "payload_mb=128"), runs, computing, 1.8)
    pipes = expect("PIPES-OK", phase("PIPES"))
    rows += [
        compare(f"pipes, {cpus} vCPU", arguments(cpus, f"payload_mb=1 payload_pipes={PIPED}"), runs, pipes, "s")
        for cpus in (1, 2, 4)
    ]
    forks = expect("FORKS-OK", phase("FORKS"))
    rows += [
        compare(
            f"fork and exec, {cpus} at a time", arguments(cpus, f"payload_mb=1 payload_forks={FORKS}"), runs, forks, "s"
        )
        for cpus in (1, 2, 4)
    ]
    return [*rows, *round_robin("round-robin boot", lambda cpus: arguments(cpus, "", *SINGLE), runs, ok, 2.0)]


def round_robin(
    what: str, arguments: Callable[[int], Sequence[str]], runs: int, figure: Callable[[Run], float], limit: float
) -> list[Row]:
    """Raddle with one vCPU and with two that take turns, and what turns cost."""
    alone, robin = (
        compare(f"{what}, {cpus} vCPU", arguments(cpus), runs, figure, "s", against=False) for cpus in (1, 2)
    )
    assert alone.raddle is not None
    assert robin.raddle is not None
    relative = Row(f"{what}, 2 vCPU / 1 vCPU", "x", robin.raddle / alone.raddle, None, runs, limit)
    show(relative)
    return [alone, robin, relative]


def alpha_linux(payload: Path, runs: int) -> list[Row]:
    """Boots of Linux for Alpha, and its processes that compute."""

    def arguments(cpus: int, words: str = "", *more: str) -> list[str]:
        files = ["-kernel", str(payload / "vmlinux"), "-initrd", str(payload / "initramfs.cpio.gz")]
        return [
            *ALPHA_BOARD,
            "-smp",
            str(cpus),
            "-m",
            "512M",
            *files,
            "-append",
            f"console=ttyS0 {words}".strip(),
            *more,
        ]

    def processes(one: Run) -> float:
        found = re.search(r"PAYLOAD-TIMES processes=([\d.]+)", one.output)
        assert found is not None, one.output[-1000:]
        return float(found.group(1))

    ok, computing = expect("PAYLOAD-OK", wall), expect("PAYLOAD-OK", processes)
    rows = [
        compare(f"Alpha boot, {cpus} vCPU", arguments(cpus), runs, ok, "s", 3.0, peer=ALPHA_PEER) for cpus in (1, 2, 4)
    ]
    long = f"payload_it={ALPHA_PASSES}"
    rows += phases("Alpha processes", lambda cpus: arguments(cpus, long), runs, computing, 1.9, ALPHA_PEER)
    turns = round_robin(
        "Alpha processes, round robin", lambda cpus: arguments(cpus, long, *SINGLE), runs, computing, 1.1
    )
    return [*rows, *turns]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each command")
    parser.add_argument(
        "--payload", type=Path, help="directory with vmlinuz and initramfs.cpio.gz; made if it is missing"
    )
    parser.add_argument("--alpha-payload", type=Path, help="directory that `nox -s alpha_payload` has made")
    parser.add_argument("--only", choices=("kernels", "alpha", "storms", "linux"), help="one part of the table")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where to write the table")
    options = parser.parse_args()
    for program, parts in ((PEER[0], (None, "kernels", "storms", "linux")), (ALPHA_PEER[0], ("alpha",))):
        if options.only in parts and shutil.which(program) is None:
            print(f"bench: {program} is not installed; it is what Raddle is compared with", file=sys.stderr)
            return 2
    print(f"{'':48s} {'raddle':>10s} {'peer':>10s}      {'ratio':>7s}")
    rows: list[Row] = []
    if options.only in (None, "kernels"):
        rows += kernels(options.runs)
    if options.only == "alpha":
        alpha = (ALPHA_BOARD, ALPHA_GUESTS, ALPHA_PEER)
        rows += kernels(options.runs, "Alpha kernel", *alpha, None)
        rows += kernels(options.runs, "Alpha float kernel", *alpha, 0.3, FLOAT_KERNELS)
        payload = options.alpha_payload or ROOT / ".nox" / "payload-alpha"
        if (payload / "vmlinux").exists():
            rows += alpha_linux(payload, options.runs)
        else:
            print(f"bench: no {payload}/vmlinux, so Linux for Alpha is left out; nox -s alpha_payload makes it")
    if options.only in (None, "storms"):
        rows += storms(options.runs)
    if options.only in (None, "linux"):
        payload = options.payload or ROOT / ".nox" / "payload-arm"
        if not (payload / "initramfs.cpio.gz").exists():
            subprocess.run([sys.executable, "-m", "raddle.cli.main", "fetch-demo-kernel", str(payload)], check=True)
        rows += linux(payload, options.runs)
    options.json.write_text(json.dumps([{**asdict(row), "ratio": row.ratio} for row in rows], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
