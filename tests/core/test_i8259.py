# SPDX-License-Identifier: Apache-2.0
"""A pair of 8259A interrupt controllers: priorities, edges and levels, acknowledge, ends of interrupt."""

import pytest

from raddle.devices.i8259 import I8259Pair
from raddle.machine.lines import Line

COMMAND, DATA, COMMAND2, DATA2, ELCR, ELCR2 = range(6)
READ_IRR, READ_ISR, POLL = 0x0A, 0x0B, 0x0C
EOI = 0x20


class Pair:
    def __init__(self):
        self.output = Line()
        self.device = I8259Pair(self.output)

    def put(self, offset, *values):
        for value in values:
            self.device.write(offset, 1, value)

    def get(self, offset):
        return self.device.read(offset, 1)

    def status(self, which, command):
        self.put(2 * which, command)
        return self.get(2 * which)

    def pulse(self, number):
        self.device.inputs[number].set(True)
        self.device.inputs[number].set(False)

    def up(self, number):
        self.device.inputs[number].set(True)

    def down(self, number):
        self.device.inputs[number].set(False)


@pytest.fixture
def pair():
    """Vectors 0x20 and 0x28 on, as personal computers have them; nothing is masked."""
    one = Pair()
    one.put(COMMAND, 0x11)
    one.put(DATA, 0x20, 0x04, 0x01, 0)
    one.put(COMMAND2, 0x11)
    one.put(DATA2, 0x28, 0x02, 0x01, 0)
    return one


def test_before_anything_is_programmed_vectors_are_numbers():
    pair = Pair()
    pair.up(4)
    assert pair.output.level
    assert pair.device.acknowledge() == 4
    assert not pair.output.level


def test_an_edge_is_served_once(pair):
    pair.up(4)
    assert pair.device.acknowledge() == 0x24
    assert pair.status(0, READ_ISR) == 0x10
    assert pair.status(0, READ_IRR) == 0
    pair.put(COMMAND, EOI)
    assert not pair.output.level
    pair.down(4)
    pair.up(4)
    assert pair.output.level


def test_an_edge_that_ends_before_it_is_acknowledged_is_spurious(pair):
    pair.pulse(4)
    assert not pair.output.level
    assert pair.device.acknowledge() == 0x27
    assert pair.status(0, READ_ISR) == 0


def test_a_level_interrupts_until_it_ends(pair):
    pair.put(ELCR2, 0x02)
    assert pair.get(ELCR2) == 0x02
    pair.up(9)
    assert pair.device.acknowledge() == 0x29
    pair.put(COMMAND2, EOI)
    pair.put(COMMAND, EOI)
    assert pair.output.level
    pair.down(9)
    assert not pair.output.level


def test_elcr_leaves_alone_what_must_be_edges(pair):
    pair.put(ELCR, 0xFF)
    pair.put(ELCR2, 0xFF)
    assert (pair.get(ELCR), pair.get(ELCR2)) == (0xF8, 0xDE)


def test_the_second_controller_is_between_one_and_three(pair):
    for number in (3, 8, 1):
        pair.up(number)
    served = []
    for _ in range(3):
        vector = pair.device.acknowledge()
        served.append(vector)
        pair.put(COMMAND2, EOI)
        pair.put(COMMAND, EOI)
    assert served == [0x21, 0x28, 0x23]
    assert not pair.output.level


def test_only_what_is_more_urgent_interrupts_a_service(pair):
    pair.up(4)
    pair.device.acknowledge()
    pair.up(5)
    assert not pair.output.level
    pair.up(0)
    assert pair.output.level
    assert pair.device.acknowledge() == 0x20
    pair.put(COMMAND, EOI)  # of 0
    assert pair.status(0, READ_ISR) == 0x10
    pair.put(COMMAND, EOI)  # of 4
    assert pair.device.acknowledge() == 0x25


def test_the_mask_hides_requests_and_keeps_them(pair):
    pair.put(DATA, 0x10)
    pair.up(4)
    assert not pair.output.level
    assert pair.status(0, READ_IRR) == 0x10
    pair.put(DATA, 0)
    assert pair.output.level
    assert pair.get(DATA) == 0


def test_a_specific_end_names_its_interrupt_and_may_make_it_the_least_urgent(pair):
    for number in (3, 4):
        pair.up(number)
        pair.put(DATA, 0x08 if number == 3 else 0)
    pair.device.acknowledge()
    pair.put(COMMAND, 0xE3)  # end of 3, which is the least urgent now
    assert pair.status(0, READ_ISR) == 0
    pair.down(3)
    pair.up(3)
    assert pair.device.acknowledge() == 0x24


def test_rotation_without_an_end(pair):
    pair.put(COMMAND, 0xC4)  # 4 is the least urgent
    for number in (3, 5):
        pair.up(number)
    assert pair.device.acknowledge() == 0x25


def test_automatic_ends(pair):
    pair.put(COMMAND, 0x11)
    pair.put(DATA, 0x20, 0x04, 0x03, 0)
    pair.up(4)
    assert pair.device.acknowledge() == 0x24
    assert pair.status(0, READ_ISR) == 0


def test_the_special_mask_lets_everything_else_in(pair):
    pair.up(1)
    pair.device.acknowledge()
    pair.up(4)
    assert not pair.output.level
    pair.put(COMMAND, 0x68)
    pair.put(DATA, 0x02)
    assert pair.output.level
    assert pair.device.acknowledge() == 0x24


def test_special_full_nesting_lets_the_second_controller_interrupt_itself(pair):
    for nested, again in ((0x01, False), (0x11, True)):
        pair.put(COMMAND, 0x11)
        pair.put(DATA, 0x20, 0x04, nested, 0)
        pair.put(COMMAND2, 0x11)
        pair.put(DATA2, 0x28, 0x02, 0x01, 0)
        pair.up(12)
        assert pair.device.acknowledge() == 0x2C
        pair.up(8)
        assert pair.output.level == again
        pair.down(8)
        pair.down(12)


def test_a_poll_acknowledges(pair):
    pair.up(4)
    assert pair.status(0, POLL) == 0x84
    assert pair.status(0, READ_ISR) == 0x10
    pair.put(COMMAND, EOI)
    assert pair.status(0, POLL) == 0


def test_a_reset_forgets_all_but_the_inputs(pair):
    pair.put(ELCR, 0x20)
    pair.up(5)
    assert pair.output.level
    pair.device.reset()
    assert not pair.output.level
    assert pair.get(ELCR) == 0
    pair.down(5)
    pair.up(5)
    assert pair.device.acknowledge() == 5
