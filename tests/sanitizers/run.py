# SPDX-License-Identifier: Apache-2.0
"""Runs the whole emulator under a sanitizer: Python with an extension that was built with it, and guests in each mode.

    python tests/sanitizers/run.py thread|address|undefined [--only NAME]

The packages must be installed with CFLAGS=-fsanitize=KIND and LDFLAGS=-fsanitize=KIND; `nox -s sanitizers` does that.
Python and the code that Raddle generates are not instrumented: what they do, no sanitizer sees, but what the runtime
does for them, and their calls of malloc, locks and threads. Suppressions are in the files beside, each with its reason.

Exit status 1 when a sanitizer reports anything, when a guest does not do what it should, or when the control, a mistake
made on purpose, is not reported.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PREBUILT = HERE.parent / "guests" / "arm" / "prebuilt"
LIBRARIES = {"thread": "libtsan.so", "address": "libasan.so", "undefined": "libubsan.so"}
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "thread": {"TSAN_OPTIONS": f"exitcode=66 second_deadlock_stack=1 suppressions={HERE / 'thread.supp'}"},
    "address": {
        # Leaks are looked for in the C tests only: at the end of a process LeakSanitizer misses, or crashes on, what
        # the threads have that are still there, Raddle's workers.
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=1",
        "PYTHONMALLOC": "malloc",  # Python's own allocator would hide the ends of small buffers
    },
    "undefined": {"UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1"},
}
MODES = {
    "multi": ("--accel", "tcg,thread=multi"),
    "single": ("--accel", "tcg,thread=single"),
    "icount": ("-icount", "shift=auto"),
}
GUESTS: Mapping[str, Sequence[str]] = {
    "multi": (
        *("hello-smp", "psci", "ipi", "sleep", "timer", "exceptions", "exceptions-lpae"),
        *("spinlock", "ticketlock", "atomics", "doubleword", "message-passing", "store-buffering"),
        *("codemod-cross", "codemod-parked", "codemod-self", "remap", "remap-break", "flash"),
    ),
    "single": ("psci", "ipi", "sleep", "timer", "exceptions", "atomics", "codemod-cross", "remap", "flash"),
    "icount": ("psci", "ipi", "sleep", "exceptions-lpae", "atomics", "codemod-cross", "remap"),
}
MEDDLED: Mapping[str, Sequence[str]] = {
    "multi": ("psci", "ipi", "timer", "codemod-cross", "remap"),
    "single": ("psci", "timer"),
    "icount": ("psci", "ipi"),
}
SECONDS = 900
"""A run that takes longer hangs, on a slow machine too."""


@dataclass(frozen=True)
class Case:
    name: str
    command: Sequence[str]
    expected: str
    """What the output must have."""


def boot(*options: str) -> list[str]:
    return [sys.executable, "-m", "raddle.cli.main", "boot", "-M", "virt", "-smp", "4", "-nographic", *options]


def cases() -> Iterator[Case]:
    """Linux, the longest, if $RADDLE_PAYLOAD says where it is; then guests in each mode, some while others meddle."""
    if payload := os.environ.get("RADDLE_PAYLOAD"):
        files = ["-kernel", f"{payload}/vmlinuz", "-initrd", f"{payload}/initramfs.cpio.gz"]
        words = ["-m", "512M", *files, "-append", "console=ttyAMA0 panic=-1 payload_mb=1"]
        yield Case("linux-multi", boot("-no-reboot", *words), "PAYLOAD-OK")
    for mode, options in MODES.items():
        for guest in GUESTS[mode]:
            command = boot("-m", "256M", *options, "-kernel", str(PREBUILT / f"{guest}.elf"))
            yield Case(f"{guest}-{mode}", command, f"PASS {guest} ")
        for guest in MEDDLED[mode]:
            command = [sys.executable, str(HERE / "meddle.py"), mode, guest]
            yield Case(f"meddle-{guest}-{mode}", command, f"PASS {guest} ")


def environment(kind: str) -> dict[str, str]:
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    asked = subprocess.run(
        [compiler, f"-print-file-name={LIBRARIES[kind]}"], capture_output=True, text=True, check=True
    )
    return {**os.environ, **SETTINGS[kind], "LD_PRELOAD": asked.stdout.strip()}


def run(command: Sequence[str], kind: str) -> tuple[int, str]:
    """The exit status, and all that was said."""
    try:
        done = subprocess.run(
            command,
            env=environment(kind),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return -1, f"{(error.stdout or b'').decode(errors='replace')}\nno end after {SECONDS} s"
    return done.returncode, done.stdout.decode(errors="replace")


def control_passes(kind: str) -> bool:
    """Whether the sanitizer is at work."""
    status, said = run([sys.executable, str(HERE / "misuse.py"), kind], kind)
    reports = {
        "thread": "ThreadSanitizer: data race",
        "address": "AddressSanitizer: heap",
        "undefined": "shift exponent",
    }
    if status and reports[kind] in said:
        return True
    extension = importlib.util.find_spec("raddle.runtime._native")
    origin = extension.origin if extension else None
    print(f"{said}\nthe control is not reported: was {origin} built with -fsanitize={kind}?")
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=list(LIBRARIES))
    parser.add_argument("--only", help="run this case alone")
    options = parser.parse_args()
    if not control_passes(options.kind):
        return 1
    wanted = [case for case in cases() if options.only in (None, case.name)]
    started = time.monotonic()
    failures = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda case: run(case.command, options.kind), wanted)
        for case, (status, said) in zip(wanted, results, strict=True):
            if status or case.expected not in said:
                failures += 1
                print(f"-- {case.name}: exit status {status}\n{said}", flush=True)
    good, seconds = len(wanted) - failures, time.monotonic() - started
    print(f"{options.kind}: {good} of {len(wanted)} runs as they should be, in {seconds:.0f} s")
    return 1 if failures or not wanted else 0


if __name__ == "__main__":
    sys.exit(main())
