# SPDX-License-Identifier: Apache-2.0
"""GICv2: rules of acknowledging, priorities, preemption, SGIs, banking; and register by register against QEMU's."""

import random
from contextlib import closing

import pytest
from tests.core.qtest import Qtest
from tests.targets.arm.gic_rig import (
    ABPR,
    APR,
    BPR,
    C_CTLR,
    CPENDSGIR,
    CTLR,
    DIR,
    DISTRIBUTOR,
    EOIR,
    HPPIR,
    IAR,
    ICACTIVER,
    ICENABLER,
    ICFGR,
    ICPENDR,
    IGROUPR,
    IIDR,
    INTERFACE,
    INTERRUPTS,
    IPRIORITYR,
    ISACTIVER,
    ISENABLER,
    ISPENDR,
    ITARGETSR,
    NSAPR,
    PMR,
    PRIORITIES,
    RPR,
    SGIR,
    SPENDSGIR,
    SPURIOUS,
    TYPER,
    Pair,
    Rig,
)


@pytest.fixture
def rig():
    return Rig(4)


def test_identity(rig):
    assert rig.d(TYPER) == 3 << 5 | 8
    assert rig.d(0x008) == 0x43B
    assert rig.d(0xFE8) == 0x2B
    assert rig.c(IIDR) == 0x0002_043B
    assert rig.d(IGROUPR) == 0
    assert rig.c(ABPR) == 1


def test_level_interrupt_stays_until_its_line_falls(rig):
    line = rig.gic.spi(1)
    rig.enable(33)
    line.set(1)
    assert rig.asserted() == [1, 0, 0, 0]
    assert rig.c(HPPIR) == rig.c(IAR) == 33
    assert rig.asserted() == [0, 0, 0, 0]
    assert rig.d(ISACTIVER + 4) == rig.d(ISPENDR + 4) == 2
    assert (rig.c(IAR), rig.c(RPR)) == (SPURIOUS, 0xA0)
    rig.c(EOIR, 33)
    assert rig.asserted() == [1, 0, 0, 0]
    line.set(0)
    assert rig.asserted() == [0, 0, 0, 0]
    assert (rig.c(IAR), rig.c(RPR)) == (SPURIOUS, 0xFF)


def test_edge_interrupt_is_remembered_once(rig):
    rig.d(ICFGR + 8, 2 << 2)
    line = rig.gic.spi(1)
    rig.enable(33)
    line.pulse()
    line.pulse()
    assert rig.c(IAR) == 33
    line.pulse()  # comes while it is active: pending again
    assert rig.asserted()[0] == 0
    rig.c(EOIR, 33)
    assert rig.c(IAR) == 33
    rig.c(EOIR, 33)
    assert rig.c(IAR) == SPURIOUS


def test_clearing_pending_does_not_silence_a_line(rig):
    line = rig.gic.spi(1)
    rig.enable(33)
    line.set(1)
    rig.d(ISPENDR + 4, 2)
    rig.d(ICPENDR + 4, 2)
    assert rig.asserted()[0] == 1
    line.set(0)
    assert rig.asserted()[0] == 0
    rig.d(ISPENDR + 4, 2)
    assert rig.asserted()[0] == 1
    rig.d(ICPENDR + 4, 2)
    assert rig.asserted()[0] == 0


@pytest.mark.parametrize("off", ["distributor", "interface", "enable", "mask", "target"])
def test_what_keeps_an_interrupt_away(rig, off):
    rig.enable(40)
    rig.gic.spi(8).set(1)
    assert rig.asserted()[0] == 1
    match off:
        case "distributor":
            rig.d(CTLR, 0)
        case "interface":
            rig.c(C_CTLR, 0)
        case "enable":
            rig.d(ICENABLER + 4, 1 << 8)
        case "mask":
            rig.c(PMR, 0xA0)
        case "target":
            rig.d(ITARGETSR + 40, 0, size=1)
    assert rig.asserted()[0] == 0
    assert rig.c(IAR) == SPURIOUS


def test_the_most_urgent_first_then_the_lowest_number(rig):
    for interrupt, priority in ((50, 0x80), (60, 0x40), (61, 0x40), (27, 0x80)):
        rig.enable(interrupt, priority)
        rig.d(ISPENDR + 4 * (interrupt // 32), 1 << interrupt % 32)
    order = []
    for _ in range(4):
        order.append(rig.c(IAR))
        rig.c(EOIR, order[-1])
    assert order == [60, 61, 27, 50]


def test_preemption_and_running_priority(rig):
    for interrupt, priority in ((50, 0x80), (60, 0x40), (61, 0x40)):
        rig.enable(interrupt, priority)
    rig.d(ISPENDR + 4, 1 << 18)
    assert rig.c(IAR) == 50
    rig.d(ISPENDR + 4, 1 << 28 | 1 << 29)
    assert rig.c(IAR) == 60
    assert rig.c(RPR) == 0x40
    assert rig.c(IAR) == SPURIOUS  # 61 is no more urgent than 60
    rig.c(EOIR, 60)
    assert rig.c(IAR) == 61
    rig.c(EOIR, 61)
    assert rig.c(RPR) == 0x80
    rig.c(EOIR, 50)
    assert rig.c(RPR) == 0xFF
    assert [rig.c(APR + 4 * n) for n in range(4)] == [0, 0, 0, 0]


@pytest.mark.parametrize(("point", "preempts"), [(0, True), (3, True), (4, False), (7, False)])
def test_binary_point_joins_priorities_to_groups(rig, point, preempts):
    rig.c(BPR, point)
    rig.enable(50, 0x90)
    rig.enable(51, 0x80)
    rig.d(ISPENDR + 4, 1 << 18)
    assert rig.c(IAR) == 50
    rig.d(ISPENDR + 4, 1 << 19)
    assert rig.asserted()[0] == preempts


def test_sgi_has_its_sources(rig):
    rig.d(SGIR, 0b0110 << 16 | 5, cpu=0)
    rig.d(SGIR, 0b0100 << 16 | 5, cpu=3)
    assert rig.asserted() == [0, 1, 1, 0]
    assert rig.d(SPENDSGIR + 5, cpu=2, size=1) == 0b1001
    first = rig.c(IAR, cpu=2)
    assert first == 5
    assert rig.c(IAR, cpu=2) == SPURIOUS  # the same SGI is active
    rig.c(EOIR, first, cpu=2)
    second = rig.c(IAR, cpu=2)
    assert second == 3 << 10 | 5
    rig.c(EOIR, second, cpu=2)
    assert rig.c(IAR, cpu=2) == SPURIOUS
    assert rig.c(IAR, cpu=1) == 5


@pytest.mark.parametrize(
    ("filter_", "reached"), [(0, [0, 1, 0, 1]), (1, [1, 0, 1, 1]), (2, [0, 1, 0, 0]), (3, [0] * 4)]
)
def test_sgi_target_filters(rig, filter_, reached):
    rig.d(SGIR, filter_ << 24 | 0b11111010 << 16 | 7, cpu=1)
    assert rig.asserted() == reached


def test_pending_sgis_can_be_set_and_cleared(rig):
    rig.d(SPENDSGIR + 4, 0b0010, cpu=1, size=1)
    assert rig.c(HPPIR, cpu=1) == 1 << 10 | 4
    assert rig.d(ISPENDR, cpu=1) == 1 << 4
    rig.d(ICPENDR, 1 << 4, cpu=1)
    assert rig.d(ISPENDR, cpu=1) == 1 << 4
    rig.d(CPENDSGIR + 4, 0b0010, cpu=1, size=1)
    assert rig.asserted() == [0, 0, 0, 0]


def test_private_interrupts_are_banked(rig):
    rig.enable(27, 0x20, cpu=2)
    rig.gic.ppi(2, 11).set(1)
    rig.gic.ppi(3, 11).set(1)
    assert rig.asserted() == [0, 0, 1, 0]
    assert rig.d(ISENABLER, cpu=2) == 1 << 27 | 0xFFFF
    assert rig.d(ISENABLER, cpu=3) == 0xFFFF
    assert rig.d(ISPENDR, cpu=3) == 1 << 27
    assert rig.d(IPRIORITYR + 24, cpu=2) == 0x2000_0000
    assert rig.d(IPRIORITYR + 24, cpu=3) == 0
    assert [rig.d(ITARGETSR, cpu=cpu, size=1) for cpu in range(4)] == [1, 2, 4, 8]
    assert rig.c(IAR, cpu=2) == 27


def test_shared_interrupt_is_taken_by_one_of_its_targets(rig):
    rig.enable(70, targets=0b1010)
    rig.d(ISPENDR + 8, 1 << 6)
    assert rig.asserted() == [0, 1, 0, 1]
    assert rig.c(IAR, cpu=3) == 70
    assert rig.asserted() == [0, 0, 0, 0]
    assert rig.c(IAR, cpu=1) == SPURIOUS


def test_targets_that_do_not_exist_read_as_zero(rig):
    rig.d(ITARGETSR + 40, 0xFF, size=1)
    assert rig.d(ITARGETSR + 40, size=1) == 0x0F


def test_byte_and_word_accesses_agree(rig):
    rig.d(IPRIORITYR + 0x40, 0x4030_2010)
    assert [rig.d(IPRIORITYR + 0x40 + n, size=1) for n in range(4)] == [0x10, 0x20, 0x30, 0x40]
    rig.d(IPRIORITYR + 0x42, 0xEE, size=1)
    assert rig.d(IPRIORITYR + 0x40) == 0x40EE_2010
    rig.d(ITARGETSR + 0x20, 0x0804_0201)
    rig.d(ITARGETSR + 0x21, 0x01, size=1)
    assert rig.d(ITARGETSR + 0x20) == 0x0804_0101


def test_end_of_interrupt_in_two_steps(rig):
    rig.c(C_CTLR, 1 | 1 << 9)
    rig.enable(33)
    rig.gic.spi(1).set(1)
    assert rig.c(IAR) == 33
    rig.c(EOIR, 33)
    assert rig.c(RPR) == 0xFF
    assert rig.d(ISACTIVER + 4) == 2
    assert rig.asserted()[0] == 0
    rig.c(DIR, 33)
    assert rig.d(ISACTIVER + 4) == 0
    assert rig.asserted()[0] == 1


def test_ending_what_is_not_active_does_nothing(rig):
    rig.enable(33)
    rig.c(EOIR, 33)
    rig.c(EOIR, SPURIOUS)
    rig.gic.spi(1).set(1)
    assert rig.c(IAR) == 33


def test_uniprocessor_has_no_targets():
    rig = Rig(1)
    rig.d(ITARGETSR + 33, 1, size=1)
    assert rig.d(ITARGETSR + 33, size=1) == rig.d(ITARGETSR) == 0
    rig.enable(33, targets=0)
    rig.gic.spi(1).set(1)
    assert rig.asserted() == [1]


def test_reset_keeps_the_input_lines(rig):
    rig.enable(33)
    rig.gic.spi(1).set(1)
    rig.c(IAR)
    rig.gic.reset()
    assert rig.asserted() == [0, 0, 0, 0]
    assert rig.d(CTLR) == 0
    assert rig.d(ISACTIVER + 4) == 0
    assert rig.d(ISPENDR + 4) == 2


# --- against QEMU -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def peer():
    with closing(Qtest(0)) as peer:
        yield peer


@pytest.mark.peer("qemu-system-arm")
def test_registers_after_reset_agree(peer):
    pair = Pair(peer)
    pair.clean()
    for offset in range(0, 0x1000, 4):
        pair.read(DISTRIBUTOR + offset)
    for offset in (C_CTLR, BPR, ABPR, RPR, HPPIR, APR, APR + 12, NSAPR, NSAPR + 12, IIDR):
        pair.read(INTERFACE + offset)


@pytest.mark.peer("qemu-system-arm")
@pytest.mark.parametrize("seed", range(5))
def test_random_accesses_agree(peer, seed):
    chance = random.Random(seed)
    pair = Pair(peer)
    pair.clean()
    pair.write(DISTRIBUTOR + CTLR, 1)
    pair.write(INTERFACE + C_CTLR, 1)
    pair.write(INTERFACE + PMR, 0xF0)
    active = []
    for _ in range(600):
        interrupt = chance.choice(INTERRUPTS)
        word, bit = 4 * (interrupt // 32), 1 << interrupt % 32
        match chance.randrange(14):
            case 0 | 1:
                pair.write(DISTRIBUTOR + chance.choice((ISENABLER, ISENABLER, ICENABLER)) + word, bit)
            case 2:
                pair.write(DISTRIBUTOR + chance.choice((ISPENDR, ISPENDR, ICPENDR)) + word, bit)
            case 3:
                pair.write(DISTRIBUTOR + chance.choice((ISACTIVER, ICACTIVER)) + word, bit)
            case 4:
                pair.write(DISTRIBUTOR + IPRIORITYR + interrupt, chance.choice(PRIORITIES), 1)
            case 5:
                pair.write(DISTRIBUTOR + ITARGETSR + interrupt, chance.randrange(4), 1)
            case 6:
                pair.write(DISTRIBUTOR + ICFGR + 4 * (interrupt // 16), chance.getrandbits(32))
            case 7:
                pair.write(
                    DISTRIBUTOR + SGIR, chance.randrange(3) << 24 | chance.randrange(2) << 16 | chance.randrange(16)
                )
            case 8:
                pair.write(INTERFACE + PMR, chance.choice((0xF0, 0xFF, 0x80, 0)))
            case 9:
                pair.write(INTERFACE + BPR, chance.randrange(8))
            case 10 | 11:
                taken = pair.read(INTERFACE + IAR)
                if taken != SPURIOUS:
                    active.append(taken)
            case 12 if active:
                pair.write(INTERFACE + EOIR, active.pop())
            case 13 if chance.random() < 0.3:
                pair.write(chance.choice((DISTRIBUTOR, INTERFACE)), chance.choice((1, 1, 0)))
            case _:
                pair.write(DISTRIBUTOR + chance.choice((CPENDSGIR, SPENDSGIR)) + chance.randrange(16), 1, 1)
        for offset in (RPR, HPPIR, APR, APR + 4, APR + 8, APR + 12):
            pair.read(INTERFACE + offset)
        for register in (ISENABLER, ISPENDR, ISACTIVER):
            pair.read(DISTRIBUTOR + register + word)
        pair.read(DISTRIBUTOR + IPRIORITYR + interrupt, 1)
        pair.read(DISTRIBUTOR + SPENDSGIR + chance.randrange(16), 1)
