# SPDX-License-Identifier: Apache-2.0
"""The interrupt controller's compiled routines against its Python rules: the same random accesses and line changes to
two controllers must leave the same block of state, read the same values and raise the same lines.
"""

from collections import Counter
from pathlib import Path
from random import Random

import pytest
from raddle.runtime._native import ffi, lib
from tests.targets.arm.interrupt_lines import Lines

from raddle.accel import Decision, Mode
from raddle.errors import PluginError, UsageError
from raddle.ir.builder import Builder
from raddle.ir.verifier import verify
from raddle.machine.machine import Machine
from raddle.memory import AddressSpace
from raddle.plugins import registry
from raddle.runtime.helpers import NUMBER
from raddle.threads.engine import Engine
from raddle_target_arm.boards.virt import Virt
from raddle_target_arm.devices import gic_routines
from raddle_target_arm.devices.gic import FIQ, IRQ, Gic
from raddle_target_arm.devices.gic_registers import CpuInterface, Distributor
from raddle_target_arm.frontend import FRONT_END

DISTRIBUTOR, INTERFACE = 0x0800_0000, 0x0801_0000
CTLR, IGROUPR, ISENABLER, ISPENDR, ISACTIVER, IPRIORITYR = 0x000, 0x080, 0x100, 0x200, 0x300, 0x400
ITARGETSR, ICFGR, SGIR, SPENDSGIR = 0x800, 0xC00, 0xF00, 0xF20
C_CTLR, PMR, BPR, IAR, EOIR, RPR, HPPIR, APR, DIR = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x18, 0xD0, 0x1000
ABPR, AIAR, AEOIR, AHPPIR, NSAPR = 0x1C, 0x20, 0x24, 0x28, 0xE0
OTHER_GROUP, SPURIOUS = 1022, 1023
TIMERS = (30, 27)
STEPS = 4000


class Reference:
    """A controller as Python has it, and vCPUs that keep their lines."""

    def __init__(self, cpus):
        self.space = AddressSpace()
        self.gic = Gic(cpus, self.space)
        self.faces = {DISTRIBUTOR: Distributor(self.gic), INTERFACE: CpuInterface(self.gic)}
        self.cpus = [Lines() for _ in range(cpus)]
        self.gic.connect(self.cpus)

    def read(self, cpu, base, offset, size=4):
        self.space.initiator = cpu
        return self.faces[base].read(offset, size)

    def write(self, cpu, base, offset, value, size=4):
        self.space.initiator = cpu
        self.faces[base].write(offset, size, value)

    def timer(self, cpu, number, level):
        self.gic.ppi(cpu, TIMERS[number] - 16).set(level)

    def lines(self):
        return [cpu.lines for cpu in self.cpus]


class Compiled:
    """A controller on the runtime, as a machine has it."""

    def __init__(self, cpus):
        found = registry()
        try:
            backend = found.load(found.host_for())
        except (UsageError, PluginError) as error:
            pytest.skip(str(error))
        space = AddressSpace()
        self.gic = gic = Gic(cpus, space)
        space.add_routines(gic_routines.routines(gic))
        space.add_routines({"timer_line": gic_routines.drive_private(TIMERS)})
        space.add_io("distributor", DISTRIBUTOR, Distributor.SIZE, Distributor(gic), gic_routines.distributor(gic))
        space.add_io("interface", INTERFACE, CpuInterface.SIZE, CpuInterface(gic), gic_routines.interface(gic))
        self.engine = Engine(FRONT_END, backend, Decision(Mode.MULTI, ("a test",)), space, cpus)
        self.cpus = self.engine.cpus
        gic.connect(self.cpus)
        table, number = self.engine.callees.table, self.engine.callees.routine_number("timer_line")
        self._timer_line = ffi.cast("raddle_function", table[number])

    def _helper(self, cpu, name, *arguments):
        return int(lib.raddle_helper(self.cpus[cpu].env, NUMBER[name], *(*arguments, 0, 0, 0, 0)[:4]))

    def read(self, cpu, base, offset, size=4):
        return self._helper(cpu, f"phys_load{8 * size}", base + offset)

    def write(self, cpu, base, offset, value, size=4):
        self._helper(cpu, f"phys_store{8 * size}", base + offset, value)

    def timer(self, cpu, number, level):
        header = self.cpus[cpu].header
        header.arg0, header.arg1 = number, level
        with self.engine.big_lock:
            self._timer_line(self.cpus[cpu].env, number, level, 0, 0)

    def lines(self):
        return [cpu["interrupt_request"] for cpu in self.cpus]

    def calls(self):
        """Calls into Python so far."""
        return sum(cpu["count_python"] for cpu in self.cpus)


class Both:
    """Does everything to both, and compares."""

    def __init__(self, cpus):
        self.reference, self.compiled = Reference(cpus), Compiled(cpus)
        self.gics = (self.reference.gic, self.compiled.gic)
        self.seen = Counter()

    def close(self):
        self.compiled.engine.close()

    def check(self, what):
        expected, found = (bytes(gic.bytes) for gic in self.gics)
        assert found == expected, f"{what}: byte {next(n for n, b in enumerate(found) if b != expected[n]):#x}"
        assert self.compiled.lines() == self.reference.lines(), what

    def read(self, cpu, base, offset, size=4):
        value = self.reference.read(cpu, base, offset, size)
        assert self.compiled.read(cpu, base, offset, size) == value, f"read {base + offset:#x} on {cpu}"
        self.check(f"read {base + offset:#x} on {cpu}")
        return value

    def write(self, cpu, base, offset, value, size=4):
        self.reference.write(cpu, base, offset, value, size)
        self.compiled.write(cpu, base, offset, value, size)
        self.check(f"write {base + offset:#x} on {cpu}: {value:#x}")

    def timer(self, cpu, number, level):
        self.reference.timer(cpu, number, level)
        self.compiled.timer(cpu, number, level)
        self.check(f"timer {number} of {cpu}: {level}")

    def drive(self, find, level):
        """Change a line that Python drives; `find` gives it for a controller."""
        for gic in self.gics:
            find(gic).set(level)
        self.check("line")


@pytest.fixture(params=[1, 2, 3, 8])
def both(request):
    one = Both(request.param)
    yield one
    one.close()


GROUP_0, BOTH_GROUPS, EVERYTHING = (1, (1,)), (3, (3, 7, 0xB, 0xF)), (3, (1, 2, 3, 3, 7, 0xB, 0xF, 0x1B, 0x1F, 0x20F))
"""What a guest may write to the distributor's CTLR and to the interfaces'."""


def switch_on(both, random, cpus, groups):
    distributor, interfaces = groups
    both.write(0, DISTRIBUTOR, CTLR, distributor)
    for cpu in range(cpus):
        both.write(cpu, INTERFACE, C_CTLR, random.choice(interfaces))
        both.write(cpu, INTERFACE, PMR, 0xF0)


def power_up(both, random, cpus, groups=GROUP_0):
    """Everything on, as a guest would have it, with priorities that collide and preempt."""
    switch_on(both, random, cpus, groups)
    for word in range(1, 9):
        both.write(0, DISTRIBUTOR, ISENABLER + 4 * word, 0xFFFF_FFFF)
    if groups is not GROUP_0:
        for word in range(9):
            for cpu in range(cpus):
                both.write(cpu, DISTRIBUTOR, IGROUPR + 4 * word, random.getrandbits(32))
        for cpu in range(cpus):
            both.write(cpu, INTERFACE, ABPR, random.getrandbits(3))
    for interrupt in range(32, 288):
        both.write(0, DISTRIBUTOR, IPRIORITYR + interrupt, random.choice((0x00, 0x20, 0x80, 0x88, 0xA0)), 1)
        both.write(0, DISTRIBUTOR, ITARGETSR + interrupt, random.randrange(1, 256), 1)
    for cpu in range(cpus):
        both.write(cpu, DISTRIBUTOR, ISENABLER, 0xFFFF_0000)
        for word in range(8):
            both.write(cpu, DISTRIBUTOR, IPRIORITYR + 4 * word, random.getrandbits(32) & 0xE0E0_E0E0)


def hot(both, random, cpus, taken):
    """One of the accesses that guests make all the time."""
    cpu = random.randrange(cpus)
    match random.randrange(10):
        case 0 | 1 | 2:
            value = both.read(cpu, INTERFACE, random.choice((IAR, IAR, AIAR)))
            if value & SPURIOUS < OTHER_GROUP:
                taken[cpu].append(value)
                both.seen["SGI" if value & SPURIOUS < 16 else "PPI" if value & SPURIOUS < 32 else "SPI"] += 1
                both.seen["preempted"] += len(taken[cpu]) > 1
                both.seen["source"] += value >> 10 != 0
            both.seen["spurious"] += value == SPURIOUS
            both.seen["other group"] += value == OTHER_GROUP
        case 3 | 4 | 5:
            if taken[cpu] and random.random() < 0.95:
                value = taken[cpu].pop(random.choice((-1, -1, -1, 0)))
                in_group_1 = both.reference.gic.group(cpu, value & SPURIOUS)
                both.write(cpu, INTERFACE, random.choice((EOIR, AEOIR)) if in_group_1 else EOIR, value)
                if random.randrange(2):
                    both.write(cpu, INTERFACE, DIR, value)
            else:
                both.write(cpu, INTERFACE, random.choice((EOIR, AEOIR)), random.getrandbits(32))
        case 6:
            kind = random.choice((0, 0, 0, 1, 2, 3))
            both.write(cpu, DISTRIBUTOR, SGIR, kind << 24 | random.getrandbits(8) << 16 | random.getrandbits(4))
        case 7:
            both.timer(cpu, random.randrange(2), random.randrange(2))
        case 8:
            number, level = random.choice((0, 5, 31, 32, 70, 255)), random.randrange(2)
            both.drive(lambda gic: gic.spi(number), level)
        case _:
            both.read(cpu, INTERFACE, random.choice((RPR, HPPIR, AHPPIR, PMR)))
    both.seen["FIQ"] += any(lines & FIQ for lines in both.reference.lines())


def cold(both, random, cpus):
    """Any access at all, most of them to registers that are there."""
    cpu = random.randrange(cpus)
    match random.randrange(14):
        case 0:
            both.write(cpu, INTERFACE, C_CTLR, random.choice((0, 1, 1, 1, 0x201, random.getrandbits(10))))
        case 1:
            both.write(cpu, INTERFACE, PMR, random.choice((0, 0x80, 0xF0, 0xFF, random.getrandbits(32))))
        case 2:
            both.write(cpu, INTERFACE, BPR, random.getrandbits(3))
        case 3:
            both.write(cpu, INTERFACE, DIR, random.randrange(300))
        case 4:
            both.write(cpu, DISTRIBUTOR, CTLR, random.choice((0, 1, 1, 2, 3, 3)))
        case 5 | 6:
            array = random.choice((0x100, 0x180, 0x200, 0x280, 0x300, 0x380)) + 4 * random.randrange(9)
            both.write(cpu, DISTRIBUTOR, array, random.getrandbits(32) & random.getrandbits(32))
        case 7:
            both.write(cpu, DISTRIBUTOR, ICFGR + 4 * random.randrange(18), random.getrandbits(32))
        case 8:
            both.write(cpu, DISTRIBUTOR, IPRIORITYR + random.randrange(288), random.getrandbits(8), 1)
        case 9:
            both.write(cpu, DISTRIBUTOR, SPENDSGIR - 0x10 * random.randrange(2) + random.randrange(16), 0xFF, 1)
        case 10:
            both.write(cpu, DISTRIBUTOR, IGROUPR + 4 * random.randrange(9), random.getrandbits(32))
        case 11:
            register = random.choice((ABPR, APR + 4 * random.randrange(4), NSAPR + 4 * random.randrange(4)))
            both.write(cpu, INTERFACE, register, random.getrandbits(32) & random.getrandbits(32))
            both.read(cpu, INTERFACE, register)
        case 12:
            number, level = random.randrange(16), random.randrange(2)
            both.drive(lambda gic: gic.ppi(cpu, number), level)
        case _:
            size = random.choice((1, 2, 4, 8))
            base, offset = random.choice((DISTRIBUTOR, INTERFACE)), random.choice((0x20, 0x1010)) + random.randrange(16)
            offset = random.choice((offset, random.randrange(0x20), random.randrange(0x1000), EOIR, IAR, SGIR, DIR))
            both.read(cpu, base, offset, size)
            both.write(cpu, base, offset, random.getrandbits(8 * size), size)


@pytest.mark.parametrize("groups", [GROUP_0, BOTH_GROUPS, EVERYTHING], ids=["group0", "both", "everything"])
def test_compiled_routines_follow_the_rules(both, groups):
    cpus = len(both.compiled.cpus)
    random = Random(f"{cpus} {groups}")
    power_up(both, random, cpus, groups)
    taken = [[] for _ in range(cpus)]
    for step in range(STEPS):
        if random.random() < 0.1:
            cold(both, random, cpus)
        else:
            hot(both, random, cpus, taken)
        if step % 20 == 19:
            switch_on(both, random, cpus, groups)
        if step % 500 == 499:
            for gic in both.gics:
                gic.reset()
            both.check("reset")
            power_up(both, random, cpus, groups)
            taken = [[] for _ in range(cpus)]
    kinds = ["SGI", "PPI", "SPI", "preempted", "spurious", *(["source"] if cpus > 1 else [])]
    kinds += ["FIQ", "other group"] if groups is not GROUP_0 else []
    assert all(both.seen[kind] >= 3 for kind in kinds), both.seen


def test_routines_are_valid_ir():
    gic = Gic(2, AddressSpace())
    faces = [gic_routines.distributor(gic), gic_routines.interface(gic), gic_routines.drive_private(TIMERS)]
    for build in [*gic_routines.routines(gic).values(), *faces]:
        b = Builder(FRONT_END.word, FRONT_END.state.nzcv)
        build(b)
        verify(b, routine=True, layout=FRONT_END.state)


@pytest.mark.parametrize("groups", [GROUP_0, BOTH_GROUPS], ids=["group0", "both"])
def test_hot_registers_need_no_python(both, groups):
    cpus = len(both.compiled.cpus)
    random = Random(cpus)
    power_up(both, random, cpus, groups)
    before = both.compiled.calls()
    taken = [[] for _ in range(cpus)]
    for _ in range(500):
        hot(both, random, cpus, taken)
    both.write(0, INTERFACE, PMR, 0x80)
    both.write(0, INTERFACE, DIR, 40)
    assert both.compiled.calls() == before
    both.read(0, INTERFACE, APR)
    assert both.compiled.calls() == before + 1


def test_the_level_of_an_input_is_known_to_both_sides(both):
    both.write(0, DISTRIBUTOR, CTLR, 1)
    both.write(0, DISTRIBUTOR, ISENABLER, 1 << 27)
    both.write(0, INTERFACE, C_CTLR, 1)
    both.write(0, INTERFACE, PMR, 0xFF)
    both.timer(0, 1, 1)
    assert both.compiled.lines()[0] == IRQ
    assert both.compiled.gic.ppi(0, 11).level
    both.drive(lambda gic: gic.ppi(0, 11), 0)
    assert both.compiled.lines()[0] == 0
    assert not both.compiled.gic.ppi(0, 11).level


def test_a_difference_would_be_seen(both):
    """The control: one bit of one state is turned over behind the rules' back."""
    both.compiled.gic.words[0x240 // 4] ^= 1
    with pytest.raises(AssertionError, match="byte 0x240"):
        both.read(0, INTERFACE, IAR)


# --- on a machine


GUESTS = Path(__file__).resolve().parents[2] / "guests/arm/prebuilt"


def run(name, mode):
    """Run a guest; the machine's counters, and the calls of its paths into Python by name."""
    with Machine("virt", cpus=2, kernel=GUESTS / f"{name}.elf", **mode) as machine:
        machine.profile()
        machine.start()
        assert machine.wait(240) == 0
        assert f"PASS {name}" in machine.console.text
        stats = machine.stats()
    return stats, Counter({path["name"]: sum(path["calls"]) for path in stats["paths"]})


MODES = (
    {"accelerator": "tcg,thread=multi"},
    {"accelerator": "tcg,thread=single"},
    {"icount": "shift=auto"},
)


@pytest.mark.parametrize("mode", MODES, ids=["multi", "single", "icount"])
def test_timers_and_software_interrupts_need_no_python(mode):
    stats, calls = run("sleep", mode)
    assert stats["timers_fired"] > 10
    assert calls["board_timer_line"] == 0
    in_python = calls["gic cpu interface"] + calls["gic distributor"]
    native = sum(cpu["count_mmio"] for cpu in stats["cpus"]) - calls["pl011"] - in_python
    assert in_python < 100 < native, (in_python, native)
    assert calls["gic cpu interface"] < 10, "no more than setting it up"


@pytest.mark.parametrize("mode", MODES, ids=["multi", "single", "icount"])
def test_a_board_without_routines_has_them_in_python(mode, monkeypatch):
    def add_gic(board):
        gic = board.gic
        board.memory.add_io("gic distributor", DISTRIBUTOR, Distributor.SIZE, Distributor(gic))
        board.memory.add_io("gic cpu interface", INTERFACE, CpuInterface.SIZE, CpuInterface(gic))

    monkeypatch.setattr(Virt, "_add_gic", add_gic)
    _, calls = run("sleep", mode)
    assert calls["board_timer_line"] > 10
    assert calls["gic cpu interface"] > 100
