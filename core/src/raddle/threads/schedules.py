# SPDX-License-Identifier: Apache-2.0
"""The three schedules: what a thread does that runs one vCPU, all in turn, or all in turn by counted instructions.

Each runs until the engine stops.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from raddle.runtime._native import lib

if TYPE_CHECKING:
    from raddle.threads.engine import Engine
    from raddle.threads.vcpu import VCpu

SLICE_NS: Final = 5_000_000
"""Round-robin: how long a vCPU runs before the next one's turn, in nanoseconds."""
ICOUNT_SLICE: Final = 50_000
"""Instruction counting: instructions before the next vCPU's turn."""
_FOREVER: Final = (1 << 64) - 1


def _serve(engine: Engine, cpu: VCpu, reason: int) -> bool:
    """What every schedule does for a reason of `raddle_run`; whether the vCPU's turn goes on."""
    if reason == lib.RADDLE_MISS:
        engine.miss(cpu.env)
    elif reason == lib.RADDLE_WORK:
        cpu.drain()
    else:
        return False
    return True


def _turn(engine: Engine, cpu: VCpu) -> bool:
    """Run the vCPU until its turn is over; False when the engine has stopped."""
    while True:
        reason = lib.raddle_run(cpu.env)
        if _serve(engine, cpu, reason):
            continue
        if reason not in (lib.RADDLE_STOP, lib.RADDLE_ERROR):
            return True
        if not engine.park():
            return False


def alone(engine: Engine, cpus: Sequence[VCpu]) -> None:
    """Multi-threaded: this thread runs one vCPU; the runtime lets it sleep when it is halted."""
    cpu = cpus[0]
    while True:
        reason = lib.raddle_run(cpu.env)
        if not _serve(engine, cpu, reason) and not engine.park():
            return


def in_turn(engine: Engine, cpus: Sequence[VCpu]) -> None:
    """Round-robin: a slice each, given up at once by vCPUs that halt or spin."""
    slices = [lib.raddle_timer_new(engine.context, lib.RADDLE_TIMER_SLICE, 0, cpu.env) for cpu in cpus]
    only = len(cpus) == 1
    while True:
        ran = False
        for cpu, timer in zip(cpus, slices, strict=True):
            env = cpu.env
            if not lib.raddle_can_run(env):
                continue
            ran = True
            if not only:
                lib.raddle_timer_set(engine.context, timer, lib.raddle_clock_ns(engine.context) + SLICE_NS)
            if not _turn(engine, cpu):
                return
            if not only:
                lib.raddle_timer_cancel(engine.context, timer)
        if not ran:
            if lib.raddle_stopping(engine.context):
                if not engine.park():
                    return
                continue
            with engine.idle():
                lib.raddle_wait(engine.context, _FOREVER)


def _sleep(engine: Engine, cpus: Sequence[VCpu], limit: int) -> int:
    """Sleep `limit` nanoseconds, or less if a vCPU has been kicked or the engine stops. Returns how many have passed.

    What wakes it and has kicked no vCPU does not end it: the answer is `limit` unless something comes from outside.
    """
    start = time.monotonic_ns()
    with engine.idle():
        while (slept := time.monotonic_ns() - start) < limit:
            if lib.raddle_stopping(engine.context) or any(lib.raddle_can_run(cpu.env) for cpu in cpus):
                return slept
            lib.raddle_wait(engine.context, limit - slept)
    return limit


def counted(engine: Engine, cpus: Sequence[VCpu]) -> None:
    """Instruction counting: slices and timers by executed instructions; idle time is skipped, or slept if so wished."""
    context = engine.context
    while True:
        ran = False
        for cpu in cpus:
            env = cpu.env
            if not lib.raddle_can_run(env):
                continue
            ran = True
            lib.raddle_icount_set(env, lib.raddle_icount_budget(context, ICOUNT_SLICE))
            if not _turn(engine, cpu):
                return
            lib.raddle_timers_run(context)
        if ran:
            continue
        if lib.raddle_stopping(context):
            if not engine.park():
                return
            continue
        deadline = lib.raddle_timer_next(context)
        if deadline == _FOREVER:
            with engine.idle():
                lib.raddle_wait(context, _FOREVER)
        else:
            idle = max(0, deadline - lib.raddle_clock_ns(context))
            lib.raddle_icount_warp(context, _sleep(engine, cpus, idle) if engine.icount_sleep else idle)
            lib.raddle_timers_run(context)
