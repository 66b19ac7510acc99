# SPDX-License-Identifier: Apache-2.0
"""Builds the C tests of the native runtime with each sanitizer and runs them; without one, their controls as well.

    python tests/native/run.py [--only NAME] [--build plain|thread|address|undefined]... [--guest narrow|wide]...
                               [--cc COMMAND --emulator COMMAND]

With a cross compiler and an emulator of user programs, the tests are another machine's programs. A control is a test
with its mechanism left out; it must fail. Exit status 1 when anything did what it should not. The runtime serves a
narrow guest, and one that is wider in all that a guest may choose.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
RUNTIME = HERE.parents[1] / "core" / "src" / "raddle" / "runtime"
BUILDS = {
    "plain": ["-O2"],
    "thread": ["-O1", "-g", "-fsanitize=thread"],
    "address": ["-O1", "-g", "-fsanitize=address", "-fno-omit-frame-pointer"],
    "undefined": ["-O1", "-g", "-fsanitize=undefined", "-fno-sanitize-recover=undefined"],
}
GUESTS = {
    "narrow": ["-DWORD_BITS=32", "-DPAGE_BITS=12"],
    "wide": ["-DWORD_BITS=64", "-DPAGE_BITS=13", "-DRADDLE_MMU_INDICES=8"],
}
FLAGS = ["-std=c11", "-Wall", "-Wextra", "-fno-strict-aliasing", "-pthread"]
SECONDS = 240
"""A test that takes longer hangs."""
EMULATED_SECONDS = 900
"""The same, under an emulator."""


def native_compiler() -> list[str]:
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[:1]


def build(kind: str, guest: str, compiler: list[str], directory: Path) -> Path:
    """Compile the runtime and the tests with one sanitizer for one guest; the path of the program."""
    program = directory / f"{kind}-{guest}"
    sources = [*sorted((RUNTIME / "native").glob("*.c")), *sorted(HERE.glob("*.c"))]
    include = [f"-I{directory}", f"-I{RUNTIME / 'native'}", f"-I{HERE}"]
    flags = [*FLAGS, *BUILDS[kind], *GUESTS[guest], *include]
    command = [*compiler, *flags, *map(str, sources), "-lm", "-o", str(program)]
    subprocess.run(command, check=True)
    return program


def run(program: list[str], name: str, seconds: int, *, control: bool) -> bool:
    """Whether the test (or its control) did what it should; prints what it said if not."""
    command = [*program, name, *(["control"] if control else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        print(f"  {name}: hangs")
        return False
    if done.returncode == 0:
        return True
    what = "the control passes" if control else f"exit status {done.returncode}"
    print(f"  {name}: {what}\n{done.stdout}{done.stderr}")
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="run this test alone")
    parser.add_argument("--build", choices=list(BUILDS), action="append", help="this sanitizer only (may be repeated)")
    parser.add_argument("--guest", choices=list(GUESTS), action="append", help="this guest only (may be repeated)")
    parser.add_argument("--cc", help="the compiler, with its options")
    parser.add_argument("--emulator", default="", help="runs the programs, which are then linked statically")
    options = parser.parse_args()
    compiler = shlex.split(options.cc) if options.cc else native_compiler()
    seconds = EMULATED_SECONDS if options.emulator else SECONDS
    if options.emulator:
        compiler += ["-static", "-DRADDLE_EMULATED"]
    failures = 0
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        subprocess.run([sys.executable, str(RUNTIME / "build.py"), "--generate", str(directory)], check=True)
        builds = list(itertools.product(options.build or BUILDS, options.guest or GUESTS))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            programs = list(pool.map(lambda row: build(*row, compiler, directory), builds))
        for (kind, guest), built in zip(builds, programs, strict=True):
            program = [*shlex.split(options.emulator), str(built)]
            listed = subprocess.run(program, capture_output=True, text=True, check=True).stdout.split("\n")
            rows = [line.split() for line in listed if line]
            rows = [(name, flag) for name, flag in rows if options.only in (None, name)]
            results = [run(program, name, seconds, control=False) for name, _ in rows]
            if kind == "plain":
                results += [run(program, name, seconds, control=True) for name, flag in rows if flag == "1"]
            print(f"{kind}, {guest} guest: {sum(results)} of {len(results)} as they should be")
            failures += len(results) - sum(results)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
