# SPDX-License-Identifier: Apache-2.0
"""Whether a run of a litmus test gets on: a vCPU that never ends its batch is mostly found by what it does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from raddle.errors import MachineError
from raddle.machine.machine import Machine
from raddle.runtime._native import lib
from raddle.threads.observer import Observer

if TYPE_CHECKING:
    from raddle.threads.vcpu import VCpu

__all__ = ["Batch", "Progress", "Watch"]

IN_VAIN_NS: Final = 10_000_000_000
"""CPU time for which each thread may run without beginning another round; a round takes some microseconds."""
LOOK_SECONDS: Final = 1.0
"""How often threads that begin no round are looked at."""


class Batch(Protocol):
    """What guest memory says of a batch."""

    rounds: int

    def rounds_begun(self, memory: Any) -> list[int]:
        """The round that each CPU is in; 0 before the first one."""

    def unfinished(self, memory: Any) -> list[int]:
        """The CPUs that have not ended the batch."""


class Watch(Observer):
    """Ends the machine when a vCPU does nothing any more but take exceptions."""

    def __init__(self, machine: Machine[Any]) -> None:
        self._machine = machine

    def stuck(self, cpu: VCpu) -> None:
        self._machine.fail(
            MachineError(
                f"vCPU {cpu.index} of a litmus test does nothing any more but take exceptions at pc "
                f"{int(lib.raddle_stuck_at(cpu.env)):#x}"
            )
        )


class Progress:
    """Whether a batch goes on: a thread that runs begins one round after the other. It may have to wait for others, but
    not if all that have not ended the batch run.
    """

    def __init__(self, machine: Machine[Any], batch: Batch) -> None:
        self._machine, self._batch = machine, batch
        self._begun: list[int] = []
        self._used: list[int] = []
        self._look = 0.0

    def check(self) -> None:
        """Raises MachineError, with the machine paused, if each thread has run for IN_VAIN_NS and none has begun
        another round.
        """
        if time.monotonic() < self._look:
            return
        self._look = time.monotonic() + LOOK_SECONDS
        machine, batch = self._machine, self._batch
        begun, used = batch.rounds_begun(machine.memory), self._cpu_times()
        if begun != self._begun:
            self._begun, self._used = begun, used
            return
        waiting = batch.unfinished(machine.memory)
        least = min((used[cpu] - self._used[cpu] for cpu in waiting), default=0)
        if least < IN_VAIN_NS:
            return
        machine.pause()
        cpu = min(waiting, key=begun.__getitem__)
        raise MachineError(
            f"vCPU {cpu} of a litmus test makes no progress: it is in round {begun[cpu]} of {batch.rounds} after "
            f"{least / 1e9:.0f} s of CPU time, at pc {machine.cpus[cpu]['pc']:#x}"
        )

    def _cpu_times(self) -> list[int]:
        """Of each vCPU's thread, in nanoseconds; 0 until it has begun."""
        threads: Any = self._machine.stats()["threads"]
        times = {cpu: thread["cpu_ns"] for thread in threads for cpu in thread["cpus"]}
        return [times.get(cpu, 0) for cpu in range(len(self._machine.cpus))]
