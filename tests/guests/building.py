# SPDX-License-Identifier: Apache-2.0
"""What the build scripts of all bare-metal guests share: how guests are described, built and compared.

A machine's ``build.py`` has its compiler, its options and its table of guests. The result depends on sources and
compiler version alone.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import filecmp
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

COMMON = "../common"
"""Sources that are the same for all machines, from the directory of a machine's guests."""


@dataclass(frozen=True)
class Guest:
    """One ELF file: its sources (relative to the machine's directory), its options for the compiler, and its place."""

    sources: tuple[str, ...]
    options: tuple[str, ...] = ()
    place: Path | None = None
    """Directory, if it is not the one of prebuilt files."""


@dataclass(frozen=True)
class Machine:
    """How guests of one machine are built."""

    directory: Path
    tools: str
    """Prefix of compiler and strip."""
    runtime: tuple[str, ...]
    flags: tuple[str, ...]
    link: tuple[str, ...]
    strip: tuple[str, ...] = ()

    @property
    def prebuilt(self) -> Path:
        return self.directory / "prebuilt"

    def run(self, tool: str, *arguments: str) -> None:
        """Run a tool in the machine's directory, so that no other path can get into its output."""
        subprocess.run([f"{self.tools}{tool}", *arguments], cwd=self.directory, check=True)

    def compile(self, source: str, target: Path, *options: str) -> str:
        self.run("gcc", *self.flags, *options, "-c", source, "-o", str(target))
        return str(target)

    def compile_runtime(self, scratch: Path) -> list[str]:
        return [self.compile(source, scratch / f"runtime-{Path(source).name}.o") for source in self.runtime]

    def build(self, name: str, guest: Guest, runtime: list[str], scratch: Path) -> Path:
        """Compile and link one guest; the ELF keeps its global symbols and nothing of the file names."""
        options = (*guest.options, f'-DGUEST_NAME="{name}"')
        objects = [
            self.compile(source, scratch / f"{name}-{number}.o", *options)
            for number, source in enumerate(guest.sources)
        ]
        elf = scratch / f"{name}.elf"
        self.run("gcc", *self.link, *runtime, *objects, "-lgcc", "-o", str(elf))
        self.run("strip", "--strip-debug", "--discard-all", *self.strip, str(elf))
        return elf

    def place(self, name: str, guest: Guest) -> Path:
        return (guest.place or self.prebuilt) / f"{name}.elf"


def bench(kernel: str, repeats: int, expected: int, *options: str) -> Guest:
    """Describe a benchmark kernel with its number of passes and the checksum that they yield."""
    return Guest((f"{COMMON}/bench/{kernel}.c",), (f"-DREPEATS={repeats}u", f"-DEXPECTED={expected:#x}u", *options))


def stress(name: str, source: str, *options: str, control: bool = True) -> dict[str, Guest]:
    """Describe a stress guest and, with the mechanism under test left out, its control, which must print FAIL."""
    guests = {name: Guest((source,), options)}
    if control:
        guests[f"{name}-control"] = Guest((source,), (*options, "-DCONTROL"))
    return guests


def main(machine: Machine, guests: Mapping[str, Guest], description: str) -> int:
    """Build guests, or compare them with their prebuilt files, as the command line says. The exit status."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="guests to build (default: all)")
    parser.add_argument("--check", action="store_true", help="compare with the prebuilt files instead of writing them")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in guests]
    if unknown:
        parser.error(f"unknown guest {', '.join(unknown)}; known: {', '.join(guests)}")
    names = options.names or list(guests)
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        runtime = machine.compile_runtime(scratch)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            jobs = {name: pool.submit(machine.build, name, guests[name], runtime, scratch) for name in names}
            built = {machine.place(name, guests[name]): job.result() for name, job in jobs.items()}
        if not options.check:
            for prebuilt, elf in built.items():
                shutil.copyfile(elf, prebuilt)
            return 0
        different = [prebuilt.name for prebuilt, elf in built.items() if not same(elf, prebuilt)]
        stale = [] if options.names else [p.name for p in machine.prebuilt.glob("*.elf") if p not in built]
    for name in different:
        print(f"{name}: differs from what its sources build", file=sys.stderr)
    for name in stale:
        print(f"{name}: has no source", file=sys.stderr)
    if not different and not stale:
        print(f"{len(built)} guests are the same")
    return 1 if different or stale else 0


def same(one: Path, other: Path) -> bool:
    return other.exists() and filecmp.cmp(one, other, shallow=False)
