# SPDX-License-Identifier: Apache-2.0
"""The performance monitors: a cycle counter and six event counters (ARM DDI 0406C, chapter C12).

A cycle is a nanosecond of virtual time. The event counters count only SW_INCR (writes to PMSWINC), as PMCEID0 says.
Their overflow sets PMOVSR and never interrupts. While the cycle counter runs, its field holds the clock's value at
which the counter was 0; while it is stopped, the field holds the counter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raddle.ir.builder import Builder, Value, native
from raddle.ir.types import Condition, Type
from raddle_target_arm.cpus import CORTEX_A15
from raddle_target_arm.state import PMEVCNTR, PMEVTYPER, SYSTEM

COUNTERS: Final = CORTEX_A15.event_counters
CYCLE_COUNTER: Final = 31
"""The cycle counter's bit in the enable and overflow registers, and its number in PMSELR."""
IMPLEMENTED: Final = 1 << CYCLE_COUNTER | (1 << COUNTERS) - 1

PMCR_WRITABLE: Final = 0x39
"""DP (5), X (4), D (3), E (0). P (1) and C (2) reset the counters and read as 0."""
PMCR_RESET: Final = 0x410F_0000 | COUNTERS << 11
"""Implementer ARM, identification code 0x0f, number of event counters."""

SW_INCR: Final = 0x00
EVENT_TYPE_WRITABLE: Final = 0xF800_00FF
FILTER_WRITABLE: Final = 0xF800_0000

FREQUENCY: Final = 1_000_000_000


def user_allowed(b: Builder) -> Value:
    """Emit whether PMUSERENR lets User mode use the counters."""
    return b.bit(b.get(SYSTEM["pmuserenr"]), 0)


# -- the cycle counter -------------------------------------------------------------------------------------------------


def _clock(b: Builder) -> Value:
    """The cycle counter's clock (I64): every cycle, or every 64th with PMCR.D."""
    ticks = b.call(native("clock_ticks"), b.const(FREQUENCY, Type.I64), type=Type.I64)
    return b.select(b.bit(b.get(SYSTEM["pmcr"]), 3), b.shr(ticks, 6), ticks)


def _as_stored(b: Builder, value: Value) -> Value:
    """The field's content for a value of the counter, and the reverse (I64)."""
    running = b.and_(b.bit(b.get(SYSTEM["pmcr"]), 0), b.bit(b.get(SYSTEM["pmcnten"]), CYCLE_COUNTER))
    return b.select(running, b.sub(_clock(b), value), value)


def read_cycles(b: Builder) -> Value:
    """Emit a read of PMCCNTR."""
    return b.trunc(_as_stored(b, b.get(SYSTEM["pmccntr"])), Type.I32)


def write_cycles(b: Builder, value: Value) -> None:
    """Emit a write of PMCCNTR."""
    b.set(SYSTEM["pmccntr"], _as_stored(b, b.zext(value, Type.I64)))


def _keeping_cycles(b: Builder, change: Callable[[], None]) -> None:
    """Emit a change of the cycle counter's control that keeps its value."""
    value = _as_stored(b, b.get(SYSTEM["pmccntr"]))
    change()
    b.set(SYSTEM["pmccntr"], _as_stored(b, value))


# -- control -----------------------------------------------------------------------------------------------------------


def write_pmcr(b: Builder, value: Value) -> None:
    """Emit a write of PMCR."""
    pmcr = SYSTEM["pmcr"]
    kept = b.or_(b.and_(b.get(pmcr), ~PMCR_WRITABLE), b.and_(value, PMCR_WRITABLE))
    _keeping_cycles(b, lambda: b.set(pmcr, kept))
    with b.if_(b.bit(value, 1)):
        for counter in PMEVCNTR:
            b.set(counter, 0)
    with b.if_(b.bit(value, 2)):
        b.set(SYSTEM["pmccntr"], _as_stored(b, b.const(0, Type.I64)))


def read_pmcnten(b: Builder) -> Value:
    """Emit a read of PMCNTENSET or PMCNTENCLR."""
    return b.get(SYSTEM["pmcnten"])


def write_pmcntenset(b: Builder, value: Value) -> None:
    """Emit a write of PMCNTENSET."""
    new = b.or_(b.get(SYSTEM["pmcnten"]), b.and_(value, IMPLEMENTED))
    _keeping_cycles(b, lambda: b.set(SYSTEM["pmcnten"], new))


def write_pmcntenclr(b: Builder, value: Value) -> None:
    """Emit a write of PMCNTENCLR."""
    new = b.and_(b.get(SYSTEM["pmcnten"]), b.not_(value))
    _keeping_cycles(b, lambda: b.set(SYSTEM["pmcnten"], new))


def write_pmovsr(b: Builder, value: Value) -> None:
    """Emit a write of PMOVSR: ones clear."""
    b.set(SYSTEM["pmovsr"], b.and_(b.get(SYSTEM["pmovsr"]), b.not_(value)))


def write_pmintenset(b: Builder, value: Value) -> None:
    """Emit a write of PMINTENSET."""
    b.set(SYSTEM["pminten"], b.or_(b.get(SYSTEM["pminten"]), b.and_(value, IMPLEMENTED)))


def write_pmintenclr(b: Builder, value: Value) -> None:
    """Emit a write of PMINTENCLR."""
    b.set(SYSTEM["pminten"], b.and_(b.get(SYSTEM["pminten"]), b.not_(value)))


# -- event counters ----------------------------------------------------------------------------------------------------


def write_pmswinc(b: Builder, value: Value) -> None:
    """Emit a write of PMSWINC: increment each counter in its mask that is enabled and counts SW_INCR."""
    on = b.and_(b.get(SYSTEM["pmcnten"]), b.neg(b.and_(b.get(SYSTEM["pmcr"]), 1)))
    named = b.and_(value, on)
    for number, (counter, kind) in enumerate(zip(PMEVCNTR, PMEVTYPER, strict=True)):
        counts = b.and_(b.bit(named, number), b.eq(b.and_(b.get(kind), 0xFF), SW_INCR))
        with b.if_(counts):
            new = b.add(b.get(counter), 1)
            b.set(counter, new)
            overflow = b.shl(b.zext(b.eq(new, 0), Type.I32), number)
            b.set(SYSTEM["pmovsr"], b.or_(b.get(SYSTEM["pmovsr"]), overflow))


def _selected(b: Builder) -> tuple[Value, Value]:
    """PMSELR's counter, and whether it is an event counter."""
    number = b.get(SYSTEM["pmselr"])
    return number, b.icmp(Condition.ULT, number, COUNTERS)


def read_event_type(b: Builder) -> Value:
    """Emit a read of PMXEVTYPER, which is PMCCFILTR if the cycle counter is selected, and 0 if no counter is."""
    number, is_event = _selected(b)
    event = b.get_at(PMEVTYPER, b.select(is_event, number, 0))
    cycles = b.select(b.eq(number, CYCLE_COUNTER), b.get(SYSTEM["pmccfiltr"]), 0)
    return b.select(is_event, event, cycles)


def write_event_type(b: Builder, value: Value) -> None:
    """Emit a write of PMXEVTYPER."""
    number, is_event = _selected(b)
    with b.if_(is_event):
        b.set_at(PMEVTYPER, number, b.and_(value, EVENT_TYPE_WRITABLE))
    with b.if_(b.eq(number, CYCLE_COUNTER)):
        b.set(SYSTEM["pmccfiltr"], b.and_(value, FILTER_WRITABLE))


def read_event_counter(b: Builder) -> Value:
    """Emit a read of PMXEVCNTR, which is 0 if no event counter is selected."""
    number, is_event = _selected(b)
    return b.select(is_event, b.get_at(PMEVCNTR, b.select(is_event, number, 0)), 0)


def write_event_counter(b: Builder, value: Value) -> None:
    """Emit a write of PMXEVCNTR."""
    number, is_event = _selected(b)
    with b.if_(is_event):
        b.set_at(PMEVCNTR, number, value)
