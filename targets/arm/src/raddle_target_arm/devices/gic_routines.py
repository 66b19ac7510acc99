# SPDX-License-Identifier: Apache-2.0
"""The interrupt controller's hot registers and its input lines as IR routines, which need neither Python nor the GIL.

Each routine does the same to the controller's state as the method of its name in raddle_target_arm.devices.gic, under
the big lock. Routines serve 32-bit reads of IAR, HPPIR, their aliases, RPR and PMR, and writes of EOIR, AEOIR, DIR, PMR
and SGIR; they pass every other access on to the Python registers. Interface n's lines are vCPU n's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from raddle.devices.base import WRITE
from raddle.ir.builder import Builder, Operand, Value, native, routine
from raddle.ir.header import COMMON
from raddle.ir.types import Condition, Type
from raddle.translate.frontend import RoutineBuilder
from raddle_target_arm.devices.gic import FIQ, IRQ, Gic
from raddle_target_arm.devices.gic_layout import (
    ABPR,
    ACTIVE,
    APR,
    ASSERTED,
    BPR,
    CTLR,
    CTLR_ACKNOWLEDGE,
    CTLR_COMMON_POINT,
    CTLR_EOI_MODE,
    CTLR_FIQ,
    DISTRIBUTOR_CTLR,
    EDGE,
    ENABLED,
    GROUP,
    GROUP_ENABLES,
    IDLE_PRIORITY,
    INTERFACE,
    INTERFACE_WORDS,
    INTERRUPTS,
    LATCHED,
    LEVEL,
    MAX_CPUS,
    NSAPR,
    OTHER_GROUP,
    PMR,
    PRIORITY,
    READY,
    READY_SUMMARY,
    READY_WORDS,
    RUNNING,
    SGI_SOURCES,
    SGIS,
    SPURIOUS,
    TARGETED,
)
from raddle_target_arm.state import argument

__all__ = ["distributor", "drive_private", "interface", "routines"]

# Registers that routines serve: offsets from the starts of their regions.
PMR_OFFSET, IAR_OFFSET, EOIR_OFFSET, RPR_OFFSET, HPPIR_OFFSET, DIR_OFFSET = 0x04, 0x0C, 0x10, 0x14, 0x18, 0x1000
AIAR_OFFSET, AEOIR_OFFSET, AHPPIR_OFFSET = 0x20, 0x24, 0x28
SGIR_OFFSET: Final = 0xF00

READ_WORD: Final = 4
WRITE_WORD: Final = WRITE | 4
"""The second argument of a region's routine for accesses of 32 bits."""

NUMBER_MASK: Final = 0x3FF
PRIORITY_AT, PRIORITY_BITS, GROUP_AT = 16, 9, 28
NOTHING: Final = SPURIOUS | 0x100 << PRIORITY_AT
"""What `gic_forwarded` and `gic_to_take` return for no interrupt. For one, they return its number, with its priority
from PRIORITY_AT on, and its group in bit GROUP_AT.
"""

WORD, BYTE = 4, 1


class _Code:
    """Emits one routine: reads and writes of the block, and the parts of the rules. Values are I32."""

    def __init__(self, gic: Gic, b: Builder) -> None:
        self.b = b
        self.cpus = gic.cpus
        self._base = gic.memory.address

    # --- the block

    def _address(self, offset: int, index: Operand, scale: int) -> Value:
        b = self.b
        if isinstance(index, int):
            return b.const(self._base + offset + scale * index, Type.I64)
        assert isinstance(index, Value)
        scaled = b.shl(index, scale.bit_length() - 1) if scale > 1 else index
        return b.add(b.zext(scaled, Type.I64), self._base + offset)

    def load(self, offset: int, index: Operand = 0) -> Value:
        """Word `index` of an array."""
        return self.b.call(native("host_load32"), self._address(offset, index, WORD), type=Type.I32)

    def store(self, offset: int, index: Operand, value: Value) -> None:
        self.b.call(native("host_store32"), self._address(offset, index, WORD), value)

    def load_byte(self, offset: int, index: Operand) -> Value:
        return self.b.call(native("host_load8"), self._address(offset, index, BYTE), type=Type.I32)

    def store_byte(self, offset: int, index: Operand, value: Value) -> None:
        self.b.call(native("host_store8"), self._address(offset, index, BYTE), value)

    def set_bits(self, offset: int, index: Operand, bits: Value) -> None:
        self.store(offset, index, self.b.or_(self.load(offset, index), bits))

    def clear_bits(self, offset: int, index: Operand, bits: Value) -> None:
        self.store(offset, index, self.b.and_(self.load(offset, index), self.b.not_(bits)))

    # --- control

    @contextmanager
    def loop_while(self, condition: Callable[[], Value]) -> Iterator[None]:
        """Run the body as long as the emitted `condition` holds."""
        b = self.b
        again, body, end = b.label(), b.label(), b.label()
        b.bind(again)
        b.brcond(condition(), body, end)
        b.bind(body)
        yield
        b.br(again)
        b.bind(end)

    @contextmanager
    def loop_cpus(self) -> Iterator[Value]:
        """Run the body for each CPU. The CPU's number is valid up to the body's first branch."""
        b = self.b
        counter = b.local(Type.I32, 0)
        with self.loop_while(lambda: b.icmp(Condition.ULT, b.read(counter), self.cpus)):
            yield b.read(counter)
            b.assign(counter, b.add(b.read(counter), 1))

    def call(self, name: str, *arguments: Operand) -> Value:
        return self.b.call(routine(name), *(self.b.value(one, Type.I32) for one in arguments), type=Type.I32)

    def ret(self, value: Operand) -> None:
        """Return an I32 from the routine."""
        b = self.b
        b.ret(b.zext(b.value(value, Type.I32), Type.I64))

    # --- the rules' parts

    def lowest(self, bits: Value) -> Value:
        return self.b.ctz(bits)

    def without_lowest(self, bits: Value) -> Value:
        return self.b.and_(bits, self.b.sub(bits, 1))

    def one(self, number: Value) -> Value:
        """A word with bit `number` mod 32."""
        b = self.b
        return b.shl(b.const(1, Type.I32), b.and_(number, 31))

    def register(self, cpu: Value, number: int) -> tuple[int, Value]:
        """The offset and index of a register of a CPU's interface, for `load` and `store`."""
        return INTERFACE + WORD * number, self.b.mul(cpu, INTERFACE_WORDS)

    def number(self, taken: Value) -> Value:
        """The number in what `gic_to_take` returns."""
        return self.b.and_(taken, NUMBER_MASK)

    def priority(self, taken: Value) -> Value:
        return self.b.extract(taken, PRIORITY_AT, PRIORITY_BITS)

    def in_group_1(self, taken: Value) -> Value:
        """Whether the group in what `gic_to_take` returns is 1 (I1)."""
        return self.b.ne(self.b.and_(taken, 1 << GROUP_AT), 0)

    def group(self, cpu: Value, interrupt: Value) -> Value:
        """The group, 0 or 1, of an interrupt of a CPU."""
        b = self.b
        return b.and_(b.shr(self.load(GROUP, self.place(cpu, interrupt)), b.and_(interrupt, 31)), 1)

    def group_priority(self, cpu: Value, taken: Value) -> Value:
        """The bits of the interrupt's priority that decide about preemption."""
        b = self.b
        shift = b.local(Type.I32, b.add(self.load(*self.register(cpu, BPR)), 1), "shift")
        with b.if_(self.in_group_1(taken)):
            common = b.and_(self.load(*self.register(cpu, CTLR)), CTLR_COMMON_POINT)
            with b.if_(b.eq(common, 0)):
                b.assign(shift, self.load(*self.register(cpu, ABPR)))
        mask = b.and_(b.shl(b.const(0xFF, Type.I32), b.read(shift)), 0xFF)
        return b.and_(self.priority(taken), mask)

    def ret_unless_visible(self, cpu: Value, taken: Value, alias: Value) -> None:
        """Return 1022 or 1023 from the routine if IAR and HPPIR, or their aliases, do not show the interrupt."""
        b = self.b
        with b.if_(b.eq(taken, NOTHING)):
            self.ret(SPURIOUS)
        with b.if_(b.ne(alias, 0)), b.if_(b.not_(self.in_group_1(taken))):
            self.ret(SPURIOUS)
        with b.if_(b.and_(b.eq(alias, 0), self.in_group_1(taken))):
            acknowledges = b.and_(self.load(*self.register(cpu, CTLR)), CTLR_ACKNOWLEDGE)
            with b.if_(b.eq(acknowledges, 0)):
                self.ret(OTHER_GROUP)

    def place(self, cpu: Value, interrupt: Value) -> Value:
        """The word of the bit arrays that an interrupt of a CPU is in."""
        b = self.b
        word = b.shr(interrupt, 5)
        return b.select(b.eq(word, 0), cpu, b.add(word, 7))


_Body = Callable[[_Code], None]


def _best(c: _Code) -> None:
    """Routine(cpu) -> the most urgent ready interrupt | its priority << 16."""
    b = c.b
    cpu = argument(b, 0)
    best = b.local(Type.I32, NOTHING, "best")
    summary = b.local(Type.I32, c.load(READY_SUMMARY, cpu), "summary")
    bits = b.local(Type.I32, None, "bits")
    ready = b.mul(cpu, READY_WORDS)
    with c.loop_while(lambda: b.ne(b.read(summary), 0)):
        word = c.lowest(b.read(summary))
        b.assign(summary, c.without_lowest(b.read(summary)))
        b.assign(bits, c.load(READY, b.add(ready, word)))
        first = b.shl(word, 5)
        priorities = b.select(b.eq(word, 0), b.shl(cpu, 5), b.add(first, 0xE0))
        with c.loop_while(lambda: b.ne(b.read(bits), 0)):
            number = c.lowest(b.read(bits))
            b.assign(bits, c.without_lowest(b.read(bits)))
            priority = c.load_byte(PRIORITY, b.add(priorities, number))
            with b.if_(b.icmp(Condition.ULT, priority, b.shr(b.read(best), 16))):
                b.assign(best, b.or_(b.shl(priority, 16), b.add(first, number)))
    c.ret(b.read(best))


def _forwarded(c: _Code) -> None:
    """Routine(cpu) -> the interrupt that is forwarded, as NOTHING says."""
    b = c.b
    cpu = argument(b, 0)
    with b.if_(b.eq(c.load(READY_SUMMARY, cpu), 0)):
        c.ret(NOTHING)
    enables = b.and_(b.and_(c.load(*c.register(cpu, CTLR)), c.load(DISTRIBUTOR_CTLR)), GROUP_ENABLES)
    with b.if_(b.eq(enables, 0)):
        c.ret(NOTHING)
    best = c.call("gic_best", cpu)
    group = c.group(cpu, c.number(best))
    allowed = b.icmp(Condition.ULT, c.priority(best), c.load(*c.register(cpu, PMR)))
    forwards = b.and_(allowed, b.bit(enables, group))
    c.ret(b.select(forwards, b.or_(best, b.shl(group, GROUP_AT)), NOTHING))


def _to_take(c: _Code) -> None:
    """Routine(cpu) -> the interrupt that the CPU's lines signal, as NOTHING says."""
    b = c.b
    cpu = argument(b, 0)
    forwarded = c.call("gic_forwarded", cpu)
    with b.if_(b.eq(forwarded, NOTHING)):
        c.ret(NOTHING)
    running = c.load(RUNNING, cpu)
    with b.if_(b.eq(running, IDLE_PRIORITY)):
        c.ret(forwarded)
    preempts = b.icmp(Condition.ULT, c.group_priority(cpu, forwarded), running)
    c.ret(b.select(preempts, forwarded, NOTHING))


def _update_cpu(c: _Code) -> None:
    """Routine(cpu): set a CPU's lines as the state requires."""
    b = c.b
    cpu = argument(b, 0)
    taken = c.call("gic_to_take", cpu)
    wanted = b.local(Type.I32, 0, "wanted")
    with b.if_(b.ne(taken, NOTHING)):
        by_fiq = b.ne(b.and_(c.load(*c.register(cpu, CTLR)), CTLR_FIQ), 0)
        b.assign(wanted, b.select(b.and_(by_fiq, b.not_(c.in_group_1(taken))), FIQ, b.const(IRQ, Type.I32)))
    asserted = c.load(ASSERTED, cpu)
    with b.if_(b.eq(b.read(wanted), asserted)):
        b.ret()
    c.store(ASSERTED, cpu, b.read(wanted))
    with b.if_(b.ne(asserted, 0)):
        b.call(native("interrupt_clear"), cpu, asserted)
    with b.if_(b.ne(b.read(wanted), 0)):
        b.call(native("interrupt_set"), cpu, b.read(wanted))
    b.ret()


def _set_ready(c: _Code) -> None:
    """Routine(cpu, word, bits): change a word of READY, and update what depends on it."""
    b = c.b
    cpu, word, bits = (argument(b, n) for n in range(3))
    place = b.add(b.mul(cpu, READY_WORDS), word)
    with b.if_(b.eq(c.load(READY, place), bits)):
        b.ret()
    c.store(READY, place, bits)
    summary, chosen = c.load(READY_SUMMARY, cpu), c.one(word)
    kept = b.and_(summary, b.not_(chosen))
    c.store(READY_SUMMARY, cpu, b.select(b.ne(bits, 0), b.or_(summary, chosen), kept))
    c.call("gic_update_cpu", cpu)
    b.ret()


def _refresh(c: _Code) -> None:
    """Routine(index): bring READY and the CPUs' lines up to date after a word of the bit arrays has changed."""
    b = c.b
    index = argument(b, 0)
    pending = b.or_(c.load(LATCHED, index), b.and_(c.load(LEVEL, index), b.not_(c.load(EDGE, index))))
    bits = b.and_(b.and_(pending, c.load(ENABLED, index)), b.not_(c.load(ACTIVE, index)))
    with b.if_(b.icmp(Condition.ULT, index, MAX_CPUS)):
        with b.if_(b.icmp(Condition.ULT, index, c.cpus)):
            c.call("gic_set_ready", index, 0, bits)
        b.ret()
    word = b.sub(index, 7)
    with c.loop_cpus() as cpu:
        targeted = c.load(TARGETED, b.add(b.shl(cpu, 3), b.sub(word, 1)))
        c.call("gic_set_ready", cpu, word, b.and_(bits, targeted))
    b.ret()


def _drive(c: _Code) -> None:
    """Routine(index, bit, level): set the level of the input that is `bit` of a word of the bit arrays."""
    b = c.b
    index, bit, level = (argument(b, n) for n in range(3))
    levels = c.load(LEVEL, index)
    with b.if_(b.eq(b.ne(level, 0), b.ne(b.and_(levels, bit), 0))):
        b.ret()
    c.store(LEVEL, index, b.xor(levels, bit))
    with b.if_(b.ne(level, 0)):
        c.set_bits(LATCHED, index, b.and_(c.load(EDGE, index), bit))
    c.call("gic_refresh", index)
    b.ret()


def _acknowledge(c: _Code) -> None:
    """Routine(cpu, alias) -> what IAR, or AIAR, reads."""
    b = c.b
    cpu, alias = argument(b, 0), argument(b, 1)
    taken = c.call("gic_to_take", cpu)
    c.ret_unless_visible(cpu, taken, alias)
    interrupt = c.number(taken)
    index, bit = c.place(cpu, interrupt), c.one(interrupt)
    source = b.local(Type.I32, 0, "source")
    rest = b.local(Type.I32, 0, "rest")
    with b.if_(b.icmp(Condition.ULT, interrupt, SGIS)):
        place = b.add(b.mul(cpu, SGIS), interrupt)
        sources = c.load_byte(SGI_SOURCES, place)
        b.assign(source, c.lowest(sources))
        b.assign(rest, c.without_lowest(sources))
        c.store_byte(SGI_SOURCES, place, b.read(rest))
    with b.if_(b.eq(b.read(rest), 0)):
        c.clear_bits(LATCHED, index, bit)
    c.set_bits(ACTIVE, index, bit)
    running = c.group_priority(cpu, taken)
    active = b.local(Type.I32, 0, "active")
    with b.if_(c.in_group_1(taken)):
        b.assign(active, b.const(NSAPR - APR, Type.I32))
    offset, registers = c.register(cpu, APR)
    word = b.add(b.add(registers, b.shr(running, 6)), b.read(active))
    c.set_bits(offset, word, c.one(b.shr(running, 1)))
    c.store(RUNNING, cpu, running)
    c.call("gic_refresh", index)
    c.ret(b.or_(interrupt, b.shl(b.read(source), 10)))


def _clear_active(c: _Code) -> None:
    """Routine(cpu, interrupt)"""
    b = c.b
    cpu, interrupt = argument(b, 0), argument(b, 1)
    index = c.place(cpu, interrupt)
    c.clear_bits(ACTIVE, index, c.one(interrupt))
    c.call("gic_refresh", index)
    b.ret()


def _update_running(c: _Code) -> None:
    """Routine(cpu): bring the running priority up to date after APR or NSAPR has changed."""
    b = c.b
    cpu = argument(b, 0)
    for n in range(4):
        bits = b.or_(c.load(*c.register(cpu, APR + n)), c.load(*c.register(cpu, NSAPR + n)))
        with b.if_(b.ne(bits, 0)):
            c.store(RUNNING, cpu, b.add(b.shl(c.lowest(bits), 1), 64 * n))
            b.ret()
    c.store(RUNNING, cpu, b.const(IDLE_PRIORITY, Type.I32))
    b.ret()


def _end(c: _Code) -> None:
    """Routine(cpu, interrupt, alias): do what a write to EOIR, or AEOIR, does."""
    b = c.b
    cpu, interrupt, alias = (argument(b, n) for n in range(3))
    with b.if_(b.icmp(Condition.UGE, interrupt, INTERRUPTS)):
        b.ret()
    with b.if_(b.eq(c.load(RUNNING, cpu), IDLE_PRIORITY)):
        b.ret()  # nothing is active on this CPU
    group = c.group(cpu, interrupt)
    with b.if_(b.and_(b.ne(alias, 0), b.eq(group, 0))):
        b.ret()
    dropped = b.label("dropped")
    offset, registers = c.register(cpu, APR)
    first = b.add(registers, b.mul(group, NSAPR - APR))
    for n in range(4):
        place = b.add(first, n)
        bits = c.load(offset, place)
        with b.if_(b.ne(bits, 0)):
            c.store(offset, place, c.without_lowest(bits))
            b.br(dropped)
    b.br(dropped)
    b.bind(dropped)
    c.call("gic_update_running", cpu)
    with b.if_(b.eq(b.and_(c.load(*c.register(cpu, CTLR)), CTLR_EOI_MODE), 0)):
        c.call("gic_clear_active", cpu, interrupt)
    c.call("gic_update_cpu", cpu)
    b.ret()


def _pending(c: _Code) -> None:
    """Routine(cpu, alias) -> what HPPIR, or AHPPIR, reads."""
    b = c.b
    cpu, alias = argument(b, 0), argument(b, 1)
    forwarded = c.call("gic_forwarded", cpu)
    c.ret_unless_visible(cpu, forwarded, alias)
    interrupt = c.number(forwarded)
    with b.if_(b.icmp(Condition.UGE, interrupt, SGIS)):
        c.ret(interrupt)
    sources = c.load_byte(SGI_SOURCES, b.add(b.mul(cpu, SGIS), interrupt))
    c.ret(b.or_(interrupt, b.shl(c.lowest(sources), 10)))


def _deactivate(c: _Code) -> None:
    """Routine(cpu, interrupt): do what a write to DIR does."""
    b = c.b
    cpu, interrupt = argument(b, 0), argument(b, 1)
    with (
        b.if_(b.icmp(Condition.ULT, interrupt, INTERRUPTS)),
        b.if_(b.ne(b.and_(c.load(*c.register(cpu, CTLR)), CTLR_EOI_MODE), 0)),
    ):
        c.call("gic_clear_active", cpu, interrupt)
    b.ret()


def _send(c: _Code) -> None:
    """Routine(source, interrupt, targets): make an SGI pending on each CPU of a mask."""
    b = c.b
    source, interrupt, targets = (argument(b, n) for n in range(3))
    sender, bit = c.one(source), c.one(interrupt)
    with c.loop_cpus() as cpu, b.if_(b.bit(targets, cpu)):
        place = b.add(b.mul(cpu, SGIS), interrupt)
        c.store_byte(SGI_SOURCES, place, b.or_(c.load_byte(SGI_SOURCES, place), sender))
        c.set_bits(LATCHED, cpu, bit)
        c.call("gic_refresh", cpu)
    b.ret()


_RULES: Final[Mapping[str, _Body]] = {
    "gic_best": _best,
    "gic_forwarded": _forwarded,
    "gic_to_take": _to_take,
    "gic_update_cpu": _update_cpu,
    "gic_set_ready": _set_ready,
    "gic_refresh": _refresh,
    "gic_drive": _drive,
    "gic_acknowledge": _acknowledge,
    "gic_clear_active": _clear_active,
    "gic_update_running": _update_running,
    "gic_end": _end,
    "gic_pending": _pending,
    "gic_deactivate": _deactivate,
    "gic_send": _send,
}


def _bound(gic: Gic, body: _Body) -> RoutineBuilder:
    return lambda b: body(_Code(gic, b))


def routines(gic: Gic) -> dict[str, RoutineBuilder]:
    """The rules, for `AddressSpace.add_routines`; a machine has only one such controller."""
    return {name: _bound(gic, body) for name, body in _RULES.items()}


# --- the two regions of registers


class _Access:
    """An access to a region: the arguments of its routine, and how the routine serves a register."""

    def __init__(self, b: Builder) -> None:
        self.b = b
        self.arguments = [argument(b, n, Type.I64) for n in range(4)]
        self.offset, self.how = (b.trunc(one, Type.I32) for one in self.arguments[:2])
        self.value = b.trunc(self.arguments[2], Type.I32)
        self.cpu = b.get(COMMON["cpu_index"])

    @contextmanager
    def serve(self, how: int, offset: int) -> Iterator[None]:
        """The body serves accesses of this kind to this register, and returns from the routine."""
        b = self.b
        with b.if_(b.and_(b.eq(self.offset, offset), b.eq(self.how, how))):
            yield

    def pass_on(self) -> None:
        self.b.ret(self.b.call(native("io_python"), *self.arguments, type=Type.I64))


def _interface(c: _Code) -> None:
    b = c.b
    access = _Access(b)
    cpu = access.cpu
    with access.serve(READ_WORD, IAR_OFFSET):
        c.ret(c.call("gic_acknowledge", cpu, 0))
    with access.serve(WRITE_WORD, EOIR_OFFSET):
        c.call("gic_end", cpu, b.and_(access.value, NUMBER_MASK), 0)
        c.ret(0)
    with access.serve(READ_WORD, AIAR_OFFSET):
        c.ret(c.call("gic_acknowledge", cpu, 1))
    with access.serve(WRITE_WORD, AEOIR_OFFSET):
        c.call("gic_end", cpu, b.and_(access.value, NUMBER_MASK), 1)
        c.ret(0)
    with access.serve(READ_WORD, RPR_OFFSET):
        c.ret(c.load(RUNNING, cpu))
    with access.serve(READ_WORD, HPPIR_OFFSET):
        c.ret(c.call("gic_pending", cpu, 0))
    with access.serve(READ_WORD, AHPPIR_OFFSET):
        c.ret(c.call("gic_pending", cpu, 1))
    with access.serve(READ_WORD, PMR_OFFSET):
        c.ret(c.load(*c.register(cpu, PMR)))
    with access.serve(WRITE_WORD, PMR_OFFSET):
        c.store(*c.register(cpu, PMR), b.and_(access.value, 0xFF))
        c.call("gic_update_cpu", cpu)
        c.ret(0)
    with access.serve(WRITE_WORD, DIR_OFFSET):
        c.call("gic_deactivate", cpu, b.and_(access.value, NUMBER_MASK))
        c.ret(0)
    access.pass_on()


def _distributor(c: _Code) -> None:
    b = c.b
    access = _Access(b)
    with access.serve(WRITE_WORD, SGIR_OFFSET):
        value, me = access.value, c.one(access.cpu)
        kind = b.extract(value, 24, 2)
        others = b.and_(b.not_(me), (1 << c.cpus) - 1)
        by_kind = b.select(b.eq(kind, 0), b.extract(value, 16, 8), b.select(b.eq(kind, 1), others, me))
        targets = b.select(b.eq(kind, 3), 0, by_kind)
        c.call("gic_send", access.cpu, b.and_(value, 15), targets)
        c.ret(0)
    access.pass_on()


def interface(gic: Gic) -> RoutineBuilder:
    """The routine of the CPU interface's region, for `AddressSpace.add_io`."""
    return _bound(gic, _interface)


def distributor(gic: Gic) -> RoutineBuilder:
    """The routine of the distributor's region."""
    return _bound(gic, _distributor)


# --- lines that native code drives


def drive_private(interrupts: Sequence[int]) -> RoutineBuilder:
    """Routine(n, level): drive the calling vCPU's private interrupt `interrupts[n]` (16-31). The big lock is held."""

    def build(b: Builder) -> None:
        number, level = argument(b, 0), argument(b, 1)
        bit = b.const(1 << interrupts[-1], Type.I32)
        for n, interrupt in enumerate(interrupts[:-1]):
            bit = b.select(b.eq(number, n), 1 << interrupt, bit)
        b.call(routine("gic_drive"), b.get(COMMON["cpu_index"]), bit, level)
        b.ret()

    return build
