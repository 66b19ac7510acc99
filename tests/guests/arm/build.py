#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Build the bare-metal ARM guests with arm-none-eabi-gcc.

``build.py`` rewrites ``prebuilt/*.elf`` and the demo in its package (or only those named). ``build.py --check`` builds
into a temporary directory and exits with 1 when a prebuilt file differs. The result depends on sources and compiler
version alone.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import filecmp
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PREBUILT = HERE / "prebuilt"
ARM_PACKAGE = HERE.parents[2] / "targets" / "arm"
COMPILER = "arm-none-eabi-gcc"
STRIP = "arm-none-eabi-strip"
RUNTIME = ("start.S", "print.c", "mmu.c", "smp.c", "gic.c")
FLAGS = (
    "-mcpu=cortex-a15",
    "-std=gnu11",
    "-O2",
    "-ffreestanding",
    "-fno-common",
    "-fno-pic",
    "-fno-asynchronous-unwind-tables",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-tree-loop-distribute-patterns",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-masm-syntax-unified",
    "-Iruntime",
    "-U__INT32_TYPE__",
    "-U__UINT32_TYPE__",
    "-D__INT32_TYPE__=int",  # not long, so that %d and %x print an int32_t and an uint32_t
    "-D__UINT32_TYPE__=unsigned int",
)
INTEGER = ("-mgeneral-regs-only",)
FLOAT = ("-mfpu=vfpv4", "-mfloat-abi=softfp", "-ffp-contract=off")


@dataclass(frozen=True)
class Guest:
    """One ELF file: its sources (relative to this directory), its options for the compiler, and its place."""

    sources: tuple[str, ...]
    options: tuple[str, ...] = ()
    arithmetic: tuple[str, ...] = INTEGER
    prebuilt: Path = PREBUILT


def bench(kernel: str, repeats: int, expected: int, *options: str) -> Guest:
    """Describe a benchmark kernel with its number of passes and the checksum that they yield."""
    return Guest((f"bench/{kernel}.c",), (f"-DREPEATS={repeats}u", f"-DEXPECTED={expected:#x}u", *options))


def stress(name: str, source: str, *options: str, control: bool = True) -> dict[str, Guest]:
    """Describe a stress guest and, with the mechanism under test left out, its control, which must print FAIL."""
    guests = {name: Guest((f"stress/{source}.c",), options)}
    if control:
        guests[f"{name}-control"] = Guest((f"stress/{source}.c",), (*options, "-DCONTROL"))
    return guests


GUESTS = {
    "hello": Guest(("hello/hello.c",)),
    "hello-smp": Guest(("hello/hello_smp.c",)),
    "bench-crc32": bench("crc32", 8500, 0x03248199),
    "bench-sha256": bench("sha256", 3300, 0xDA306ABA),
    "bench-matmul": bench("matmul", 670, 0xC9F275B2),
    "bench-qsort": bench("qsort", 410, 0x0CE6EF9C),
    "bench-sieve": bench("sieve", 320, 0x6A56B400),
    "bench-strhash": bench("strhash", 9100, 0xAFA0F234),
    "crc32-thumb": bench("crc32", 20, 0xC90C695A, "-mthumb"),
    "sha256-thumb": bench("sha256", 5, 0x33B5653C, "-mthumb"),
    **stress("spinlock", "spinlock", "-DROUNDS=600000u"),
    **stress("ticketlock", "ticketlock", "-DROUNDS=300u"),
    **stress("atomics", "atomics", "-DROUNDS=300000u"),
    **stress("doubleword", "doubleword", "-DROUNDS=2000000u"),
    **stress("message-passing", "litmus", "-DMESSAGE_PASSING", "-DBATCHES=1500u", control=False),
    **stress("store-buffering", "litmus", "-DSTORE_BUFFERING", "-DBATCHES=1500u"),
    **stress("codemod-cross", "codemod_cross", "-DROUNDS=200u"),
    **stress("codemod-parked", "codemod_cross", "-DPARKED", "-DROUNDS=60u", control=False),
    **stress("codemod-self", "codemod_self", "-DROUNDS=5000u"),
    **stress("words", "words", "-DROUNDS=100u"),
    **stress("remap", "remap", "-DROUNDS=1000u"),
    **stress("remap-break", "remap", "-DBREAK_BEFORE_MAKE", "-DROUNDS=2000u"),
    **stress("ipi", "ipi", "-DROUNDS=100u"),
    **stress("psci", "psci", "-DROUNDS=300u"),
    **stress("sleep", "sleep", "-DROUNDS=50u"),
    **stress("timer", "timer", "-DTICKS=300u"),
    **stress("aba", "aba", "-DROUNDS=1000u", control=False),
    **stress("aba-stack", "aba_stack", "-DROUNDS=3000u", control=False),
    "storm-remap": Guest(("stress/remap.c",), ("-DSHOOT_DOWN=0u", "-DROUNDS=5000u")),
    "storm-remap-all": Guest(("stress/remap.c",), ("-DSHOOT_DOWN=2u", "-DROUNDS=5000u")),
    "storm-pingpong": Guest(("storm/pingpong.c",), ("-DROUNDS=30000u",)),
    "storm-pingpong-spin": Guest(("storm/pingpong.c",), ("-DSPIN", "-DROUNDS=30000u")),
    "idle": Guest(("stress/idle.c",), ("-DSECONDS=3u",)),
    "far-timer": Guest(("far/far_timer.c",)),
    "exceptions": Guest(("exceptions/exceptions.c", "exceptions/trial.c")),
    "exceptions-many": Guest(("exceptions/many.c",)),
    "exceptions-lpae": Guest(("exceptions/lpae.c", "exceptions/trial.c")),
    "endless-loop": Guest(("endless/endless.c",), ("-DLOOP",)),
    "endless-count": Guest(("endless/endless.c",), ("-DCOUNT",)),
    "endless-sleep": Guest(("endless/endless.c",), ("-DSLEEP",)),
    "stray-pc": Guest(("endless/endless.c",), ("-DSTRAY_PC",)),
    "stray-undefined": Guest(("endless/endless.c",), ("-DSTRAY_UNDEFINED",)),
    "cpu-suspend": Guest(("devices/cpu_suspend.c",)),
    "gic-groups": Guest(("devices/gic_groups.c",)),
    "gic-groups-alias": Guest(("devices/gic_groups.c",), ("-DALIAS",)),
    "uart-receive": Guest(("devices/uart_receive.c",)),
    "virtio-probe": Guest(("devices/virtio_probe.c",)),
    "flash": Guest(("devices/flash.c",)),
    "demo": Guest(("../../../targets/arm/guest-src/demo/demo.c",), prebuilt=ARM_PACKAGE / "src/raddle_target_arm/demo"),
}


def run(command: list[str]) -> None:
    """Run a tool in this directory, so that no other path can get into its output."""
    subprocess.run(command, cwd=HERE, check=True)


def compile_runtime(scratch: Path) -> list[str]:
    objects = []
    for source in RUNTIME:
        target = scratch / f"runtime-{source}.o"
        run([COMPILER, *FLAGS, *INTEGER, "-c", f"runtime/{source}", "-o", str(target)])
        objects.append(str(target))
    return objects


def build(name: str, guest: Guest, runtime: list[str], scratch: Path) -> Path:
    """Compile and link one guest; the ELF keeps its global symbols and nothing of the file names."""
    objects = []
    for number, source in enumerate(guest.sources):
        target = str(scratch / f"{name}-{number}.o")
        macro = f'-DGUEST_NAME="{name}"'
        run([COMPILER, *FLAGS, *guest.arithmetic, *guest.options, macro, "-c", source, "-o", target])
        objects.append(target)
    elf = scratch / f"{name}.elf"
    link = ["-nostdlib", "-static", "-Wl,--gc-sections,--build-id=none,-z,max-page-size=4096", "-T", "guest.ld"]
    run([COMPILER, "-mcpu=cortex-a15", *link, *runtime, *objects, "-lgcc", "-o", str(elf)])
    run([STRIP, "--strip-debug", "--discard-all", "-R", ".ARM.attributes", str(elf)])
    return elf


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="guests to build (default: all)")
    parser.add_argument("--check", action="store_true", help="compare with the prebuilt files instead of writing them")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in GUESTS]
    if unknown:
        parser.error(f"unknown guest {', '.join(unknown)}; known: {', '.join(GUESTS)}")
    names = options.names or list(GUESTS)
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        runtime = compile_runtime(scratch)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            jobs = {name: pool.submit(build, name, GUESTS[name], runtime, scratch) for name in names}
            built = {GUESTS[name].prebuilt / f"{name}.elf": job.result() for name, job in jobs.items()}
        if not options.check:
            for prebuilt, elf in built.items():
                shutil.copyfile(elf, prebuilt)
            return 0
        different = [prebuilt.name for prebuilt, elf in built.items() if not same(elf, prebuilt)]
        stale = [] if options.names else [p.name for p in PREBUILT.glob("*.elf") if p not in built]
    for name in different:
        print(f"{name}: differs from what its sources build", file=sys.stderr)
    for name in stale:
        print(f"{name}: has no source", file=sys.stderr)
    if not different and not stale:
        print(f"{len(built)} guests are the same")
    return 1 if different or stale else 0


def same(one: Path, other: Path) -> bool:
    return other.exists() and filecmp.cmp(one, other, shallow=False)


if __name__ == "__main__":
    sys.exit(main())
