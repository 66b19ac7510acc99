# SPDX-License-Identifier: Apache-2.0
"""The control of the sanitizer builds: a mistake in the use of the native runtime that the sanitizer must report.

python tests/sanitizers/misuse.py thread|address|undefined
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from raddle.runtime._native import ffi, lib

from raddle import Machine
from raddle.runtime import helpers

GUEST = Path(__file__).resolve().parents[1] / "guests" / "arm" / "prebuilt" / "hello.elf"
TRIES = 2000


def thread(machine: Machine) -> None:
    """Two threads empty the TLB of one vCPU, without a lock, until each has done so a while beside the other."""
    env = machine.engine.cpus[0].env
    done = [0, 0]

    def flush(own: int) -> None:
        while min(done) < TRIES:
            lib.raddle_helper(env, helpers.NUMBER["tlb_flush"], 0, 0, 0, 0)
            done[own] += 1

    threads = [threading.Thread(target=flush, args=(own,)) for own in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


def address(machine: Machine) -> None:
    """More is read than the buffer has room for."""
    lib.raddle_phys_read(machine.engine.context, 0x4000_0000, ffi.new("uint8_t[]", 1024), 1025)


def undefined(machine: Machine) -> None:
    """A shift by the width of a word."""
    lib.raddle_icount_shift(machine.engine.context, 64)
    lib.raddle_clock_ns(machine.engine.context)


if __name__ == "__main__":
    with Machine("virt", memory="16M", icount="shift=0", kernel=GUEST) as one:
        {"thread": thread, "address": address, "undefined": undefined}[sys.argv[1]](one)
