# SPDX-License-Identifier: Apache-2.0
"""GICv2's interrupt groups without Security Extensions: enables, FIQ, IAR and its alias, preemption, ends; and register
by register against QEMU's.
"""

import random
from contextlib import closing

import pytest
from tests.core.qtest import Qtest
from tests.targets.arm.gic_rig import (
    ABPR,
    AEOIR,
    AHPPIR,
    AIAR,
    APR,
    BPR,
    C_CTLR,
    CTLR,
    DIR,
    DISTRIBUTOR,
    EOIR,
    HPPIR,
    IAR,
    ICACTIVER,
    ICENABLER,
    ICPENDR,
    IGROUPR,
    INTERFACE,
    INTERRUPTS,
    IPRIORITYR,
    ISACTIVER,
    ISENABLER,
    ISPENDR,
    NSAPR,
    OTHER_GROUP,
    PMR,
    PRIORITIES,
    RPR,
    SGIR,
    SPURIOUS,
    Pair,
    Rig,
)

from raddle_target_arm.devices.gic import FIQ, IRQ

ENABLE_0, ENABLE_1, BOTH = 1, 2, 3
ACKNOWLEDGE, BY_FIQ, COMMON_POINT, EOI_MODE = 1 << 2, 1 << 3, 1 << 4, 1 << 9
TO_SELF = 2 << 24


class Groups(Rig):
    """A controller with both groups on, group 0 by FIQ, interrupt 40 in group 0 and 41 in group 1."""

    def __init__(self):
        super().__init__(2)
        self.d(CTLR, BOTH)
        self.c(C_CTLR, BOTH | BY_FIQ)
        self.d(IGROUPR + 4, 1 << 9)
        self.enable(40)
        self.enable(41)

    @property
    def lines(self):
        return self.cpus[0].lines

    def pend(self, *interrupts):
        for interrupt in interrupts:
            self.d(ISPENDR + 4 * (interrupt // 32), 1 << interrupt % 32)


@pytest.fixture
def rig():
    return Groups()


def test_group_registers_keep_what_is_written_and_are_banked(rig):
    rig.d(IGROUPR, 0xFFFF_FFF7)
    rig.d(IGROUPR + 32, 0x1234_5678)
    assert (rig.d(IGROUPR), rig.d(IGROUPR, cpu=1), rig.d(IGROUPR + 32)) == (0xFFFF_FFF7, 0, 0x1234_5678)
    rig.d(IGROUPR + 1, 0, size=1)
    assert rig.d(IGROUPR) == 0xFFFF_00F7
    rig.gic.reset()
    assert (rig.d(IGROUPR), rig.d(IGROUPR + 32), rig.c(ABPR)) == (0, 0, 1)


def test_control_registers_have_the_bits_of_both_groups(rig):
    rig.d(CTLR, 0xFFFF_FFFF)
    rig.c(C_CTLR, 0xFFFF_FFFF)
    assert (rig.d(CTLR), rig.c(C_CTLR)) == (BOTH, BOTH | ACKNOWLEDGE | BY_FIQ | COMMON_POINT | EOI_MODE)


@pytest.mark.parametrize(("interrupt", "by_fiq", "line"), [(40, 1, FIQ), (40, 0, IRQ), (41, 1, IRQ), (41, 0, IRQ)])
def test_which_line_an_interrupt_raises(rig, interrupt, by_fiq, line):
    rig.c(C_CTLR, BOTH | ACKNOWLEDGE | BY_FIQ * by_fiq)
    rig.pend(interrupt)
    assert rig.lines == line
    assert rig.c(IAR) == interrupt
    assert rig.lines == 0


@pytest.mark.parametrize("place", ["distributor", "interface"])
@pytest.mark.parametrize(("interrupt", "other", "own"), [(40, ENABLE_1, ENABLE_0), (41, ENABLE_0, ENABLE_1)])
def test_each_group_has_its_own_enables(rig, place, interrupt, other, own):
    def enable(groups):
        if place == "distributor":
            rig.d(CTLR, groups)
        else:
            rig.c(C_CTLR, groups | ACKNOWLEDGE)

    enable(other)
    rig.pend(interrupt)
    assert (rig.lines, rig.c(IAR), rig.c(AIAR), rig.c(HPPIR)) == (0, SPURIOUS, SPURIOUS, SPURIOUS)
    enable(own)
    assert rig.lines
    rig.c(C_CTLR, BOTH | ACKNOWLEDGE)
    assert rig.c(IAR) == interrupt


def test_the_most_urgent_decides_the_line_whatever_its_group(rig):
    rig.d(IPRIORITYR + 41, 0x40, size=1)
    rig.pend(40)
    assert rig.lines == FIQ
    rig.pend(41)
    assert rig.lines == IRQ
    rig.d(ICPENDR + 4, 1 << 9)
    assert rig.lines == FIQ
    rig.d(IGROUPR + 4, 3 << 8)
    assert rig.lines == IRQ


def test_a_disabled_group_hides_what_is_less_urgent(rig):
    rig.d(IPRIORITYR + 40, 0x40, size=1)
    rig.pend(40, 41)
    rig.c(C_CTLR, ENABLE_1 | ACKNOWLEDGE)
    assert (rig.lines, rig.c(IAR)) == (0, SPURIOUS)
    rig.d(ICPENDR + 4, 1 << 8)
    assert (rig.lines, rig.c(IAR)) == (IRQ, 41)


def test_iar_shows_group_1_only_with_ackctl(rig):
    rig.pend(41)
    assert rig.c(HPPIR) == rig.c(IAR) == OTHER_GROUP
    assert (rig.lines, rig.d(ISPENDR + 4), rig.d(ISACTIVER + 4), rig.c(RPR)) == (IRQ, 1 << 9, 0, 0xFF), "not taken"
    rig.c(C_CTLR, BOTH | ACKNOWLEDGE)
    assert rig.c(HPPIR) == rig.c(IAR) == 41
    assert (rig.lines, rig.d(ISPENDR + 4), rig.d(ISACTIVER + 4), rig.c(RPR)) == (0, 0, 1 << 9, 0xA0)
    rig.c(EOIR, 41)
    assert (rig.d(ISACTIVER + 4), rig.c(RPR)) == (0, 0xFF)


def test_the_alias_registers_are_for_group_1(rig):
    rig.pend(40)
    assert rig.c(AHPPIR) == rig.c(AIAR) == SPURIOUS
    assert rig.c(IAR) == 40
    rig.c(AEOIR, 40)
    assert rig.d(ISACTIVER + 4) == 1 << 8, "ignored"
    rig.c(EOIR, 40)
    rig.pend(41)
    assert rig.c(AHPPIR) == rig.c(AIAR) == 41
    assert (rig.d(ISACTIVER + 4), rig.c(APR + 8), rig.c(NSAPR + 8), rig.c(RPR)) == (1 << 9, 0, 1 << 16, 0xA0)
    rig.c(AEOIR, 41)
    assert (rig.d(ISACTIVER + 4), rig.c(NSAPR + 8), rig.c(RPR)) == (0, 0, 0xFF)
    assert rig.c(AIAR) == SPURIOUS


def test_an_insufficient_priority_is_spurious_in_both(rig):
    rig.pend(40)
    assert rig.c(IAR) == 40
    rig.pend(41)
    assert (rig.lines, rig.c(IAR), rig.c(AIAR)) == (0, SPURIOUS, SPURIOUS)
    assert (rig.c(HPPIR), rig.c(AHPPIR)) == (OTHER_GROUP, 41)


def test_software_interrupts_go_by_the_receivers_group(rig):
    """NSATT (bit 15) is there with Security Extensions only."""
    rig.d(IGROUPR, 1 << 4)
    rig.d(SGIR, TO_SELF | 4)
    assert rig.lines == IRQ
    assert rig.c(AIAR) == 4
    rig.c(AEOIR, 4)
    rig.d(SGIR, TO_SELF | 1 << 15 | 3)
    assert rig.lines == FIQ
    assert rig.c(IAR) == 3
    rig.c(EOIR, 3)
    rig.d(SGIR, 1 << 16 | 4, cpu=1)
    assert (rig.c(AHPPIR), rig.c(AIAR)) == (1 << 10 | 4,) * 2


@pytest.mark.parametrize(
    ("point", "alias", "common", "active", "urgent", "preempts"),
    [
        (0, 4, 0, 0x88, 0x84, False),  # bits 7:4 of group 1's priorities count
        (0, 4, 0, 0x98, 0x88, True),
        (0, 3, 0, 0x88, 0x84, True),  # bits 7:3
        (3, 1, 0, 0x88, 0x86, True),  # bits 7:1, whatever BPR is
        (3, 1, 1, 0x88, 0x86, False),  # BPR's 7:4
        (3, 1, 1, 0x98, 0x86, True),
        (0, 7, 1, 0x88, 0x86, True),
    ],
)
def test_group_1_preempts_by_its_own_binary_point(rig, point, alias, common, active, urgent, preempts):
    rig.d(IGROUPR + 4, 3 << 8)
    rig.c(C_CTLR, BOTH | ACKNOWLEDGE | COMMON_POINT * common)
    rig.c(BPR, point)
    rig.c(ABPR, alias)
    rig.d(IPRIORITYR + 40, active, size=1)
    rig.d(IPRIORITYR + 41, urgent, size=1)
    rig.pend(40)
    assert rig.c(IAR) == 40
    rig.pend(41)
    assert (rig.lines, rig.c(IAR)) == ((IRQ, 41) if preempts else (0, SPURIOUS))


def test_group_0_keeps_bprs_point(rig):
    rig.c(BPR, 3)
    rig.c(ABPR, 1)
    rig.d(IGROUPR + 4, 0)
    rig.d(IPRIORITYR + 40, 0x8E, size=1)
    rig.d(IPRIORITYR + 41, 0x82, size=1)
    rig.pend(40)
    assert (rig.c(IAR), rig.c(RPR)) == (40, 0x80)
    rig.pend(41)
    assert rig.lines == 0


def test_the_alias_point_is_never_0(rig):
    for written, kept in ((0, 1), (1, 1), (7, 7), (8, 1)):
        rig.c(ABPR, written)
        assert rig.c(ABPR) == kept


def test_a_fiq_preempts_an_irq_and_both_end(rig):
    rig.d(IPRIORITYR + 40, 0x20, size=1)
    rig.pend(41)
    assert rig.c(AIAR) == 41
    rig.pend(40)
    assert rig.lines == FIQ
    assert (rig.c(IAR), rig.c(RPR), rig.c(APR), rig.c(NSAPR + 8)) == (40, 0x20, 1 << 16, 1 << 16)
    rig.c(EOIR, 40)
    assert (rig.c(RPR), rig.c(APR), rig.c(NSAPR + 8)) == (0xA0, 0, 1 << 16)
    rig.c(AEOIR, 41)
    assert (rig.c(RPR), rig.d(ISACTIVER + 4)) == (0xFF, 0)


def test_ends_in_two_steps_hold_for_both_groups(rig):
    rig.c(C_CTLR, BOTH | BY_FIQ | EOI_MODE)
    rig.pend(41)
    assert rig.c(AIAR) == 41
    rig.c(AEOIR, 41)
    assert (rig.c(RPR), rig.d(ISACTIVER + 4)) == (0xFF, 1 << 9)
    rig.c(DIR, 41)
    assert rig.d(ISACTIVER + 4) == 0


def test_written_active_priorities_are_the_running_ones(rig):
    rig.c(NSAPR + 4, 1 << 3)
    assert rig.c(RPR) == 0x46
    rig.c(APR, 1 << 31)
    assert rig.c(RPR) == 0x3E
    rig.c(APR, 0)
    rig.c(NSAPR + 4, 0)
    assert rig.c(RPR) == 0xFF


# --- against QEMU -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def peer():
    with closing(Qtest(0)) as peer:
        yield peer


@pytest.mark.peer("qemu-system-arm")
@pytest.mark.parametrize("seed", range(5))
def test_random_accesses_with_groups_agree(peer, seed):
    """But for the alias registers, which QEMU has not. It acknowledges what is most urgent though its group is
    disabled, says 1022 where no priority suffices (4.4.4: 1023), and compares a whole priority with a group priority,
    which is the same while both groups have one binary point.
    """
    chance = random.Random(seed)
    pair = Pair(peer)
    pair.clean()
    pair.write(INTERFACE + PMR, 0xF0)
    pair.write(DISTRIBUTOR + CTLR, BOTH)
    pair.write(INTERFACE + C_CTLR, BOTH | ACKNOWLEDGE)
    active = []
    seen = set()
    for _ in range(800):
        interrupt = chance.choice(INTERRUPTS)
        word, bit = 4 * (interrupt // 32), 1 << interrupt % 32
        match chance.randrange(16):
            case 0 | 1:
                pair.write(DISTRIBUTOR + chance.choice((ISENABLER, ISENABLER, ICENABLER)) + word, bit)
            case 2 | 3:
                pair.write(DISTRIBUTOR + chance.choice((ISPENDR, ISPENDR, ICPENDR)) + word, bit)
            case 4:
                pair.write(DISTRIBUTOR + chance.choice((ISACTIVER, ICACTIVER)) + word, bit)
            case 5:
                pair.write(DISTRIBUTOR + IPRIORITYR + interrupt, chance.choice(PRIORITIES), 1)
            case 6:
                pair.write(DISTRIBUTOR + IGROUPR + word, chance.getrandbits(32))
            case 7:
                pair.write(DISTRIBUTOR + SGIR, TO_SELF | chance.randrange(2) << 15 | chance.randrange(16))
            case 8 if not active:
                point = chance.randrange(7)
                pair.write(INTERFACE + BPR, point)
                pair.write(INTERFACE + ABPR, point + 1)
            case 9:
                pair.write(DISTRIBUTOR + CTLR, BOTH)
                pair.write(INTERFACE + C_CTLR, BOTH | chance.getrandbits(3) << 2)
            case 10 | 14 | 15 if active:
                pair.write(INTERFACE + EOIR, active.pop())
            case 11 if chance.random() < 0.1:
                pair.write(DISTRIBUTOR + CTLR, chance.randrange(4))
                pair.write(INTERFACE + C_CTLR, chance.randrange(4))
            case _:
                if pair.gic.forwarded(0) == pair.gic.to_take(0) and not hidden(pair.gic):
                    taken = pair.read(INTERFACE + IAR)
                    seen.add(min(taken, OTHER_GROUP))
                    if taken < OTHER_GROUP:
                        active.append(taken)
        if not hidden(pair.gic):
            pair.read(INTERFACE + HPPIR)
        for register in (RPR, ABPR, *(start + 4 * n for start in (APR, NSAPR) for n in range(4))):
            pair.read(INTERFACE + register)
        for register in (IGROUPR, ISENABLER, ISPENDR, ISACTIVER):
            pair.read(DISTRIBUTOR + register + word)
        assert pair.read(INTERFACE + C_CTLR) < 0x20
    assert OTHER_GROUP in seen
    assert len(seen) > 3


def hidden(gic):
    """Whether an interrupt is pending whose group is disabled."""
    return gic.best(0)[0] != SPURIOUS and gic.forwarded(0)[0] == SPURIOUS
