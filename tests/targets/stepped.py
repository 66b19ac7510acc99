# SPDX-License-Identifier: Apache-2.0
"""A Raddle machine that is run an instruction at a time, for comparisons with an emulator's GDB port."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from raddle.runtime._native import lib

from raddle.debug.probes import ExceptionTaken
from raddle.machine.machine import Machine
from raddle.testing.gdb import Ended
from raddle.threads.engine import Engine


class Stepped:
    """A Raddle machine whose one vCPU is run by the caller, an instruction at a time."""

    def __init__(self, board: str, elf: Path, memory: int) -> None:
        # Instruction counting ends a run after exactly as many instructions as are asked for.
        self.machine = Machine(board, memory=memory, kernel=elf, icount="shift=3", reboot=False)
        self.machine.start(paused=True)
        assert isinstance(self.machine.engine, Engine)
        self.engine = self.machine.engine
        self.cpu = self.engine.cpus[0]
        self.interrupted = False
        self.exceptions = 0
        """How many have been entered."""
        self.machine.hook("exception", self._taken)
        self._run(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.machine.close()

    def step(self) -> None:
        """Execute one instruction, or enter one exception. ``interrupted``: and an interrupt. Raises Ended."""
        self.interrupted = False
        self._run(1)

    def _taken(self, _: object, event: ExceptionTaken) -> None:
        """An exception has been entered: that was the step. (An instruction that is aborted does not count as run.)"""
        self.interrupted = event.kind == "interrupt"
        self.exceptions += 1
        self.cpu.header.icount_left = 0

    def _run(self, count: int) -> None:
        cpu, context = self.cpu, self.engine.context
        lib.raddle_icount_set(cpu.env, count)
        halts = 0
        while True:
            reason = lib.raddle_run(cpu.env)
            if reason == lib.RADDLE_MISS:
                self.engine.miss(cpu.env)
            elif reason == lib.RADDLE_WORK:
                cpu.drain()
            elif reason == lib.RADDLE_BUDGET:
                lib.raddle_timers_run(context)
                return
            elif reason == lib.RADDLE_STOP:
                raise Ended
            elif reason == lib.RADDLE_ERROR:
                self.engine.join()
            elif reason == lib.RADDLE_HALTED:
                # QEMU's WFE does not wait.
                lib.raddle_event(context)
                halts += 1
                if halts > 2:
                    return
            elif reason != lib.RADDLE_YIELD:
                raise AssertionError(f"raddle_run returned {reason}")
