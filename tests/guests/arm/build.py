#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Build the bare-metal ARM guests with arm-none-eabi-gcc.

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

ARM_PACKAGE = HERE.parents[2] / "targets" / "arm"
RUNTIME = (
    "runtime/start.S",
    f"{COMMON}/print.c",
    "runtime/exceptions.c",
    "runtime/mmu.c",
    f"{COMMON}/smp.c",
    "runtime/gic.c",
)
FLAGS = (
    "-mcpu=cortex-a15",
    "-mgeneral-regs-only",
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
    "-Istress",
    f"-I{COMMON}",
    "-U__INT32_TYPE__",
    "-U__UINT32_TYPE__",
    "-D__INT32_TYPE__=int",  # not long, so that %d and %x print an int32_t and an uint32_t
    "-D__UINT32_TYPE__=unsigned int",
)

MACHINE = Machine(
    HERE,
    "arm-none-eabi-",
    RUNTIME,
    FLAGS,
    link=(
        *("-mcpu=cortex-a15", "-nostdlib", "-static", "-T", "guest.ld"),
        "-Wl,--gc-sections,--build-id=none,-z,max-page-size=4096",
    ),
    strip=("-R", ".ARM.attributes"),
)

GUESTS = {
    "hello": Guest(("hello/hello.c",)),
    "hello-smp": Guest((f"{COMMON}/hello_smp.c",)),
    "bench-crc32": bench("crc32", 8500, 0x03248199),
    "bench-sha256": bench("sha256", 3300, 0xDA306ABA),
    "bench-matmul": bench("matmul", 670, 0xC9F275B2),
    "bench-qsort": bench("qsort", 410, 0x0CE6EF9C),
    "bench-sieve": bench("sieve", 320, 0x6A56B400),
    "bench-strhash": bench("strhash", 9100, 0xAFA0F234),
    "crc32-thumb": bench("crc32", 20, 0xC90C695A, "-mthumb"),
    "sha256-thumb": bench("sha256", 5, 0x33B5653C, "-mthumb"),
    **stress("spinlock", f"{COMMON}/stress/spinlock.c", "-DROUNDS=600000u"),
    **stress("ticketlock", f"{COMMON}/stress/ticketlock.c", "-DROUNDS=300u"),
    **stress("atomics", f"{COMMON}/stress/atomics.c", "-DROUNDS=300000u"),
    **stress("doubleword", "stress/doubleword.c", "-DROUNDS=2000000u"),
    **stress("message-passing", f"{COMMON}/stress/litmus.c", "-DMESSAGE_PASSING", "-DBATCHES=1500u", control=False),
    **stress("store-buffering", f"{COMMON}/stress/litmus.c", "-DSTORE_BUFFERING", "-DBATCHES=1500u"),
    **stress("codemod-cross", f"{COMMON}/stress/codemod_cross.c", "-DROUNDS=200u"),
    **stress("codemod-parked", f"{COMMON}/stress/codemod_cross.c", "-DPARKED", "-DROUNDS=60u", control=False),
    **stress("codemod-self", "stress/codemod_self.c", "-DROUNDS=5000u"),
    **stress("words", "stress/words.c", "-DROUNDS=100u"),
    **stress("remap", f"{COMMON}/stress/remap.c", "-DROUNDS=1000u"),
    **stress("remap-break", f"{COMMON}/stress/remap.c", "-DBREAK_BEFORE_MAKE", "-DROUNDS=2000u"),
    **stress("ipi", f"{COMMON}/stress/ipi.c", "-DROUNDS=100u"),
    **stress("psci", "stress/psci.c", "-DROUNDS=300u"),
    **stress("sleep", "stress/sleep.c", "-DROUNDS=50u"),
    **stress("timer", "stress/timer.c", "-DTICKS=300u"),
    **stress("aba", f"{COMMON}/stress/aba.c", "-DROUNDS=1000u", control=False),
    **stress("aba-stack", f"{COMMON}/stress/aba_stack.c", "-DROUNDS=3000u", control=False),
    "storm-remap": Guest((f"{COMMON}/stress/remap.c",), ("-DSHOOT_DOWN=0u", "-DROUNDS=5000u")),
    "storm-remap-all": Guest((f"{COMMON}/stress/remap.c",), ("-DSHOOT_DOWN=2u", "-DROUNDS=5000u")),
    "storm-pingpong": Guest((f"{COMMON}/storm/pingpong.c",), ("-DROUNDS=30000u",)),
    "storm-pingpong-spin": Guest((f"{COMMON}/storm/pingpong.c",), ("-DSPIN", "-DROUNDS=30000u")),
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
    "demo": Guest((f"{COMMON}/demo/demo.c",), place=ARM_PACKAGE / "src/raddle_target_arm/demo"),
}

if __name__ == "__main__":
    sys.exit(main(MACHINE, GUESTS, __doc__))
