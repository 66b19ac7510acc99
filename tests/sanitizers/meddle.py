# SPDX-License-Identifier: Apache-2.0
"""A guest on a machine of the Python API, while another thread does to it what may be done to a running machine.

    python tests/sanitizers/meddle.py MODE GUEST

Code buffer and memo are as small as may be; adding a block hook flushes the one, too. Exit status 1 when the guest does
not pass, with the error's traceback when the machine fails.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from raddle import Machine
from raddle.errors import MachineError, UsageError

PREBUILT: Final = Path(__file__).resolve().parents[1] / "guests" / "arm" / "prebuilt"
OPTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "multi": {"accelerator": "tcg,tb-size=1,memo-size=1M,thread=multi"},
    "single": {"accelerator": "tcg,tb-size=1,memo-size=1M,thread=single"},
    "icount": {"accelerator": "tcg,tb-size=1,memo-size=1M", "icount": "shift=auto"},
}
GUEST: Final = (0x4010_0000, 0x4011_0000)
"""Addresses of a guest's code and data."""
LIMIT: Final = 240.0
"""Seconds for the guest, whose own waiting loops give up after two minutes."""
CALLS: Final = 20
"""Calls of a hook before it is taken away again: while it is there, the guest is slow."""


def pause(machine: Machine) -> None:
    machine.pause()
    for cpu in machine.cpus:
        cpu.regs.pc = cpu.regs.pc
    machine.resume()


def rewrite(machine: Machine) -> None:
    """Write the guest's first instructions, which it does not write itself, as they are: their translation is stale."""
    start = GUEST[0]
    machine.memory[start : start + 32] = machine.memory[start : start + 32]


def watch(machine: Machine, kind: str) -> None:
    """Add a hook, and take it away when it has been called some times, or soon: a guest need not do what it is for."""
    enough = threading.Event()
    calls = 0

    def called(*_: object) -> None:
        nonlocal calls
        calls += 1  # on several threads: it need not be exact
        if calls >= CALLS:
            enough.set()

    hook = machine.hook(kind, called, *GUEST)
    enough.wait(0.1)
    hook.remove()


THINGS: Final[tuple[Callable[[Machine], object], ...]] = (
    pause,
    Machine.describe,
    Machine.stats,
    rewrite,
    lambda machine: watch(machine, "memory"),
    lambda machine: watch(machine, "exception"),
    lambda machine: watch(machine, "block"),
)


def meddle(machine: Machine) -> int:
    """Do one thing after the other until the machine has ended; how many have been done."""
    for done, thing in enumerate(cycle(THINGS)):
        try:
            with machine.hold():
                thing(machine)
        except (MachineError, UsageError):
            if machine.state.name != "STOPPED":
                raise
        if machine.state.name == "STOPPED":
            return done
    raise AssertionError


def main(mode: str, guest: str) -> int:
    del os.RTLD_DEEPBIND  # capstone loads its library so, which sanitizers refuse: it would miss their malloc
    with Machine("virt", cpus=4, memory="64M", kernel=PREBUILT / f"{guest}.elf", **OPTIONS[mode]) as machine:
        machine.start()
        done = meddle(machine)
        status = machine.wait(LIMIT)
        text = machine.console.read()
        flushes = machine.stats()["flushes"]
    verdict = text.rstrip().rpartition("\n")[2]
    print(f"{verdict} ({done} things done, {flushes} flushes of the code buffer)")
    return status or not verdict.startswith(f"PASS {guest} ")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
