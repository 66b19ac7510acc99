# SPDX-License-Identifier: Apache-2.0
"""The two schedules: a thread runs one vCPU, or all in turn. Each returns when the engine stops.

The runtime decides which vCPU is next, and has slices, counted time and sleep (`native/schedule.c`); it returns when
Python has something to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from raddle.errors import MachineError
from raddle.runtime._native import ffi, lib

if TYPE_CHECKING:
    from raddle.threads.engine import Engine
    from raddle.threads.vcpu import VCpu


def _serve(engine: Engine, cpu: VCpu, reason: int) -> bool:
    """Do what the runtime returned for. Returns whether to go on."""
    if reason == lib.RADDLE_MISS:
        engine.miss(cpu.env)
    elif reason == lib.RADDLE_WORK:
        cpu.drain()
    elif reason == lib.RADDLE_STUCK:
        engine.observer.stuck(cpu)
    else:
        return engine.park()
    return True


def alone(engine: Engine, cpus: Sequence[VCpu]) -> None:
    """Multi-threaded: this thread runs one vCPU; the runtime sleeps while it is halted."""
    cpu = cpus[0]
    while _serve(engine, cpu, lib.raddle_run(cpu.env)):
        pass


def in_turn(engine: Engine, cpus: Sequence[VCpu]) -> None:
    """Round-robin, by the host's clock or by counted instructions: this thread runs all vCPUs."""
    if lib.raddle_turns_begin(engine.context):
        raise MachineError(f"there can be no timer for turns: a machine has at most {lib.RADDLE_TIMERS}")
    env = ffi.new("void **")
    while True:
        reason = lib.raddle_run_turns(engine.context, env)
        if not _serve(engine, engine.cpu_at(env[0]), reason):
            return
