#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Build the bare-metal Alpha guests with alpha-linux-gnu-gcc.

``build.py`` rewrites ``prebuilt/*.elf`` and the demo in its package (or only those named). ``build.py --check`` builds
into a temporary directory and exits with 1 when a prebuilt file differs. The result depends on sources and compiler
version alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from building import COMMON, Guest, Machine, bench, main, stress  # noqa: E402

ALPHA_PACKAGE = HERE.parents[2] / "targets" / "alpha"
RUNTIME = (
    "runtime/start.S",
    "runtime/divide.S",
    f"{COMMON}/print.c",
    "runtime/pal.c",
    "runtime/mmu.c",
    f"{COMMON}/smp.c",
)
FLAGS = (
    "-mcpu=ev67",
    "-mno-fp-regs",
    "-msmall-data",
    "-msmall-text",
    "-std=gnu11",
    "-O2",
    "-ffreestanding",
    "-fno-common",
    "-fno-pic",
    "-fno-pie",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-tree-loop-distribute-patterns",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Iruntime",
    "-Istress",
    f"-I{COMMON}",
    "-U__INT64_TYPE__",
    "-U__UINT64_TYPE__",
    "-D__INT64_TYPE__=long long",  # not long, so that %llx prints an uint64_t
    "-D__UINT64_TYPE__=unsigned long long",
)
MACHINE = Machine(
    HERE,
    "alpha-linux-gnu-",
    RUNTIME,
    FLAGS,
    link=(
        *("-nostdlib", "-static", "-no-pie", "-T", "guest.ld"),
        "-Wl,--gc-sections,--build-id=none,-z,max-page-size=8192",
    ),
)
STRESS = f"{COMMON}/stress"
FLOATS = ("-mfp-regs", "-mieee", "-fno-math-errno", "-ffp-contract=off")
"""Options of what uses floating-point registers. Debian's compiler has -mieee, IEEE arithmetic, without being told."""
GUESTS = {
    "hello": Guest(("hello/hello.c",)),
    "hello-smp": Guest((f"{COMMON}/hello_smp.c",)),
    "exceptions": Guest(("exceptions/exceptions.c",)),
    "bench-crc32": bench("crc32", 8500, 0x03248199),
    "bench-sha256": bench("sha256", 3300, 0xDA306ABA),
    "bench-matmul": bench("matmul", 670, 0xC9F275B2),
    "bench-qsort": bench("qsort", 410, 0x0CE6EF9C),
    "bench-sieve": bench("sieve", 320, 0x6A56B400),
    "bench-strhash": bench("strhash", 9100, 0xAFA0F234),
    "bench-nbody": bench("nbody", 6000, 0xDC392399, *FLOATS),
    "bench-mandelbrot": bench("mandelbrot", 700, 0x89DA658D, *FLOATS),
    "bench-fmatmul": bench("fmatmul", 400, 0x94DCE432, *FLOATS),
    "bench-libm": bench("libm", 9000, 0x9D470531, *FLOATS),
    **stress("spinlock", f"{STRESS}/spinlock.c", "-DROUNDS=100000u"),
    **stress("ticketlock", f"{STRESS}/ticketlock.c", "-DROUNDS=300u"),
    **stress("atomics", f"{STRESS}/atomics.c", "-DROUNDS=100000u"),
    **stress("locked", "stress/locked.c", "-DROUNDS=100000u"),
    **stress("message-passing", f"{STRESS}/litmus.c", "-DMESSAGE_PASSING", "-DBATCHES=1000u", control=False),
    **stress("dependent-loads", f"{STRESS}/litmus.c", "-DDEPENDENT_LOADS", "-DBATCHES=1000u", control=False),
    **stress("store-buffering", f"{STRESS}/litmus.c", "-DSTORE_BUFFERING", "-DBATCHES=1000u"),
    **stress("codemod-cross", f"{STRESS}/codemod_cross.c", "-DROUNDS=200u"),
    **stress("codemod-parked", f"{STRESS}/codemod_cross.c", "-DPARKED", "-DROUNDS=60u", control=False),
    **stress("codemod-self", "stress/codemod_self.c", "-DROUNDS=5000u"),
    **stress("remap", f"{STRESS}/remap.c", "-DROUNDS=500u"),
    **stress("remap-break", f"{STRESS}/remap.c", "-DBREAK_BEFORE_MAKE", "-DROUNDS=500u"),
    **stress("spaces", "stress/spaces.c", "-DROUNDS=20000u"),
    **stress("ipi", f"{STRESS}/ipi.c", "-DROUNDS=50u"),
    **stress("timer", "stress/timer.c", "-DTICKS=100u"),
    **stress("ticks", "stress/ticks.c", "-DTICKS=1000u", control=False),
    **stress("aba", f"{STRESS}/aba.c", "-DROUNDS=1000u", control=False),
    **stress("aba-stack", f"{STRESS}/aba_stack.c", "-DROUNDS=500u", control=False),
    "storm-remap": Guest((f"{STRESS}/remap.c",), ("-DSHOOT_DOWN=0u", "-DROUNDS=5000u")),
    "storm-pingpong": Guest((f"{COMMON}/storm/pingpong.c",), ("-DROUNDS=30000u",)),
    "demo": Guest((f"{COMMON}/demo/demo.c",), place=ALPHA_PACKAGE / "src/raddle_target_alpha/demo"),
}

if __name__ == "__main__":
    sys.exit(main(MACHINE, GUESTS, __doc__))
