# SPDX-License-Identifier: Apache-2.0
"""The generic timer of one CPU: the counter, and the physical and virtual timers (ARM DDI 0406C, chapter B8).

A timer's condition is met once the counter has reached its compare value. While the timer is enabled and not masked, a
host timer is armed for that tick; when it fires, the timer's interrupt line goes up (``timer_expire_…``). A write that
meets the condition raises the line at once; one that ends the condition lowers it. The CPU's own thread does all this,
so that the line stays in step with the registers. It changes the line under the big lock.

The event stream (B8.1.3) sets the event register each time that a bit of the counter changes to 1, or to 0. Only WFE
can tell, so nothing happens before a WFE: it checks whether an event has come since the last WFE. If not, it arms a
host timer that sets the event register at the next event.

Routine ``timer_line(timer, level)`` drives the line. The one here calls the board in Python; a board may have its own
(``AddressSpace.add_routines``), and then neither a write to a timer nor its expiry needs the GIL.
"""

from __future__ import annotations

from typing import Any, Final

from raddle.ir.builder import Builder, Value, native, python, routine
from raddle.ir.header import COMMON
from raddle.ir.types import Condition, Field, Type
from raddle.machine.board import board_of
from raddle.translate.frontend import RoutineBuilder
from raddle_target_arm.state import EVENT_TIMER, EVENTS_SEEN, SYSTEM, TIMER_LINES, TIMER_NUMBERS, argument

FREQUENCY: Final = 62_500_000
"""Ticks of the counter per second, whatever a guest writes to CNTFRQ."""

PHYSICAL, VIRTUAL = 0, 1
KERNEL_CONTROL: Final = SYSTEM["cntkctl"]
CTL: Final = (SYSTEM["cntp_ctl"], SYSTEM["cntv_ctl"])
CVAL: Final = (SYSTEM["cntp_cval"], SYSTEM["cntv_cval"])

ENABLE, IMASK = 1 << 0, 1 << 1

EVENT_ENABLE, EVENT_FALLING = 1 << 2, 1 << 3
"""CNTKCTL.EVNTEN and EVNTDIR. EVNTI, the number of the bit, is in bits 7:4."""
KERNEL_CONTROL_BITS: Final = 0x3FF

STATE_NAMES: Final = frozenset(field.name for field in (*CTL, *CVAL, TIMER_LINES))
"""The timers' fields of the CPU's state."""

_UPDATE: Final = ("timer_update_physical", "timer_update_virtual")
_EXPIRE: Final = ("timer_expire_physical", "timer_expire_virtual")


def counter(b: Builder) -> Value:
    """Emit IR that reads CNTPCT, which CNTVCT equals: there is no virtual offset. I64."""
    return b.call(native("clock_ticks"), b.const(FREQUENCY, Type.I64), type=Type.I64)


def read_ctl(b: Builder, timer: int) -> Value:
    """Emit IR that reads CNTP_CTL or CNTV_CTL; ISTATUS is 0 while the timer is off."""
    ctl = b.get(CTL[timer])
    met = b.and_(b.bit(ctl, 0), b.icmp(Condition.UGE, counter(b), b.get(CVAL[timer])))
    return b.or_(ctl, b.shl(b.zext(met, Type.I32), 2))


def read_tval(b: Builder, timer: int) -> Value:
    """Emit IR that reads CNTP_TVAL or CNTV_TVAL: ticks until the condition is met, I32, signed."""
    return b.trunc(b.sub(b.get(CVAL[timer]), counter(b)), Type.I32)


def write_ctl(b: Builder, timer: int, value: Value) -> None:
    """Emit a write of CNTP_CTL or CNTV_CTL."""
    _write(b, CTL[timer], b.and_(value, ENABLE | IMASK), timer)


def write_cval(b: Builder, timer: int, value: Value) -> None:
    """Emit a write of CNTP_CVAL or CNTV_CVAL (I64)."""
    _write(b, CVAL[timer], value, timer)


def write_tval(b: Builder, timer: int, value: Value) -> None:
    """Emit a write of CNTP_TVAL or CNTV_TVAL (I32, signed)."""
    _write(b, CVAL[timer], b.add(counter(b), b.sext(value)), timer)


def _write(b: Builder, field: Field, value: Value, timer: int) -> None:
    b.set(field, value)
    b.call(routine(_UPDATE[timer]))


def _update(timer: int) -> RoutineBuilder:
    """Routine(): bring the line in step with the registers, and arm or disarm the host timer."""

    def build(b: Builder) -> None:
        number = b.zext(b.get(TIMER_NUMBERS[timer]), Type.I64)
        ctl, cval = b.get(CTL[timer]), b.get(CVAL[timer])
        wanted = b.eq(b.and_(ctl, ENABLE | IMASK), ENABLE)
        met = b.and_(wanted, b.icmp(Condition.UGE, counter(b), cval))
        lines = b.get(TIMER_LINES)
        with b.if_(b.ne(b.bit(lines, timer), met)):
            b.call(native("big_lock"))
            b.set(TIMER_LINES, b.xor(lines, 1 << timer))
            b.call(routine("timer_line"), b.const(timer, Type.I64), b.zext(met, Type.I64))
            b.call(native("big_unlock"))
        with b.if_(b.and_(wanted, b.not_(met))):
            deadline = b.call(native("ticks_to_ns"), cval, b.const(FREQUENCY, Type.I64), type=Type.I64)
            b.call(native("timer_set"), number, deadline)
            b.ret()
        b.call(native("timer_cancel"), number)
        b.ret()

    return build


def _expire(timer: int) -> RoutineBuilder:
    """Routine(host timer): raise the line if the condition is met. Under the big lock.

    If the guest has written the timer since its host timer fired, that write has armed it again.
    """

    def build(b: Builder) -> None:
        wanted = b.eq(b.and_(b.get(CTL[timer]), ENABLE | IMASK), ENABLE)
        with b.if_(b.and_(wanted, b.icmp(Condition.UGE, counter(b), b.get(CVAL[timer])))):
            b.set(TIMER_LINES, b.or_(b.get(TIMER_LINES), 1 << timer))
            b.call(routine("timer_line"), b.const(timer, Type.I64), b.const(1, Type.I64))
        b.ret()

    return build


# -- the event stream --------------------------------------------------------------------------------------------------


def write_kernel_control(b: Builder, value: Value) -> None:
    """Emit a write of CNTKCTL: the stream begins with the next event."""
    b.set(KERNEL_CONTROL, b.and_(value, KERNEL_CONTROL_BITS))
    b.call(routine("event_stream_start"))


def expect_event(b: Builder) -> None:
    """Emit what WFE does first: check the event stream, and if no event has come, arm a timer for the next."""
    with b.if_(b.ne(b.and_(b.get(KERNEL_CONTROL), EVENT_ENABLE), 0)):
        b.call(routine("event_stream_expect"))


def _stream(b: Builder) -> tuple[Value, Value, Value]:
    """How many events the stream has had since the counter was 0 (I64), log2 of the ticks between two events (I32), and
    how many ticks less pass before the first one (I64).
    """
    control = b.get(KERNEL_CONTROL)
    bit = b.extract(control, 4, 4)
    falling = b.ne(b.and_(control, EVENT_FALLING), 0)
    early = b.select(falling, b.const(0, Type.I64), b.shl(b.const(1, Type.I64), bit))
    exponent = b.add(bit, 1)
    return b.shr(b.add(counter(b), early), exponent), exponent, early


def _start_stream(b: Builder) -> None:
    """Routine(): count the events until now as seen."""
    b.set(EVENTS_SEEN, _stream(b)[0])
    b.ret()


def _expect_event(b: Builder) -> None:
    """Routine(): set the event register if an event has come since the last WFE; else arm a timer for the next event.

    While the timer is armed, EVENTS_SEEN counts its event, too.
    """
    come, exponent, early = _stream(b)
    seen = b.get(EVENTS_SEEN)
    with b.if_(b.icmp(Condition.ULT, seen, come)):
        b.set(EVENTS_SEEN, come)
        b.set(COMMON["event"], 1)
        b.ret()
    with b.if_(b.or_(b.ne(b.get(COMMON["event"]), 0), b.ne(seen, come))):
        b.ret()
    following = b.add(come, 1)
    b.set(EVENTS_SEEN, following)
    tick = b.sub(b.shl(following, exponent), early)
    deadline = b.call(native("ticks_to_ns"), tick, b.const(FREQUENCY, Type.I64), type=Type.I64)
    b.call(native("timer_set"), b.zext(b.get(EVENT_TIMER), Type.I64), deadline)
    b.ret()


# -- the lines ---------------------------------------------------------------------------------------------------------


def _line(b: Builder) -> None:
    """Routine(timer, level): drive a timer's interrupt line. The big lock is held."""
    timer, level = argument(b, 0), argument(b, 1)
    b.call(python("board_timer_line", may_exit=False), timer, level)
    b.ret()


ROUTINES: Final[dict[str, RoutineBuilder]] = {
    **{name: _update(timer) for timer, name in enumerate(_UPDATE)},
    **{name: _expire(timer) for timer, name in enumerate(_EXPIRE)},
    "timer_line": _line,
    "event_stream_start": _start_stream,
    "event_stream_expect": _expect_event,
}


# -- the Python side ---------------------------------------------------------------------------------------------------

_LINES: Final = ("non-secure", "virtual")


def connect(engine: Any) -> None:
    """Make the host timers of an engine's vCPUs. Before the machine runs."""
    for cpu in engine.cpus:
        for timer, field in enumerate(TIMER_NUMBERS):
            cpu[field.name] = engine.routine_timer(cpu, _EXPIRE[timer]).number
        cpu[EVENT_TIMER.name] = engine.event_timer(cpu).number


def set_line(cpu: Any, timer: int, level: int) -> None:
    """Python helper: drive a timer's interrupt line. The big lock is held."""
    board = board_of(cpu)
    if board is not None:
        board.timer_line(cpu.index, _LINES[timer]).set(level)


def reset(cpu: Any) -> None:
    """Turn both timers off and lower their lines. If both lines are down, the CPU's reset does it all."""
    if not cpu[TIMER_LINES.name]:
        return
    with cpu.engine.big_lock:
        for timer in (PHYSICAL, VIRTUAL):
            cpu[CTL[timer].name] = 0
            if cpu[TIMER_LINES.name] & 1 << timer:
                set_line(cpu, timer, 0)
        cpu[TIMER_LINES.name] = 0
