# SPDX-License-Identifier: Apache-2.0
"""PL011: when a receive interrupt comes, and comes again; FIFO levels; what an overrun leaves (ARM DDI 0183G)."""

import pytest

from raddle.devices.pl011 import PL011, RECEIVE_TIMEOUT_NS
from raddle.machine.chardev import MemoryConsole
from raddle.machine.lines import Line
from raddle.testing.device_bench import HandClock

DR, RSR, FR, LCR_H, CR, IFLS, IMSC, RIS, MIS, ICR = 0x00, 0x04, 0x18, 0x2C, 0x30, 0x34, 0x38, 0x3C, 0x40, 0x44
RECEIVE, TRANSMIT, TIMEOUT, OVERRUN = 0x10, 0x20, 0x40, 0x400
EMPTY, FULL = 0x10, 0x40
FIFO_ON, FIFO_OFF = 0x70, 0x60
LOOPBACK = 0x381


class Uart:
    def __init__(self):
        self.console = MemoryConsole()
        self.line = Line()
        self.clock = HandClock()
        self.device = PL011(self.console, self.line, self.clock)
        self.console.on_input(self.device.receive)

    def get(self, offset):
        return self.device.read(offset, 4)

    def put(self, offset, value):
        self.device.write(offset, 4, value)

    def wait(self):
        self.clock.move(RECEIVE_TIMEOUT_NS / 1e9)


@pytest.fixture
def uart():
    one = Uart()
    one.put(LCR_H, FIFO_ON)
    return one


def test_an_interrupt_that_is_cleared_with_a_full_fifo_comes_again(uart):
    """A driver drains the FIFO, more comes, and only then it clears the interrupt."""
    uart.put(IMSC, RECEIVE | TIMEOUT)
    uart.console.send("x" * 5)
    got = 0
    while not uart.get(FR) & EMPTY:
        uart.get(DR)
        got += 1
    uart.console.send("y" * 50)
    assert uart.get(FR) & FULL
    uart.put(ICR, RECEIVE | TIMEOUT)
    assert not uart.line.level, "cleared it is, for a moment"
    uart.wait()
    assert uart.line.level
    while not uart.get(FR) & EMPTY:
        uart.get(DR)
        got += 1
    assert got == 55
    assert not uart.line.level


@pytest.mark.parametrize(
    ("enabled", "fifo", "waiting"), [(RECEIVE, FIFO_ON, 8), (RECEIVE, FIFO_OFF, 1), (TIMEOUT, FIFO_ON, 1)]
)
def test_each_comes_again_for_its_own_condition_as_often_as_it_is_cleared(uart, enabled, fifo, waiting):
    uart.put(LCR_H, fifo)
    uart.put(IMSC, enabled)
    uart.console.send("x" * waiting)
    for _ in range(3):
        assert uart.line.level
        uart.put(ICR, enabled)
        assert not uart.line.level
        uart.wait()
    for _ in range(waiting):
        uart.get(DR)
    uart.wait()
    assert not uart.line.level


def test_nothing_comes_again_when_the_condition_has_ended(uart):
    uart.put(IMSC, RECEIVE | TIMEOUT)
    uart.console.send("x" * 9)
    uart.put(ICR, RECEIVE | TIMEOUT)
    uart.get(DR)
    uart.get(DR)
    uart.wait()
    assert uart.get(RIS) & (RECEIVE | TIMEOUT) == TIMEOUT, "seven wait, of the eight that IFLS asks for"


@pytest.mark.parametrize(("selected", "level"), [(0, 2), (1, 4), (2, 8), (3, 12), (4, 14)])
def test_the_receive_interrupt_waits_for_its_level(uart, selected, level):
    uart.put(IFLS, selected << 3)
    uart.put(IMSC, RECEIVE)
    for sent in range(1, level + 1):
        uart.console.send("x")
        assert uart.line.level == (sent >= level), sent
        assert uart.get(RIS) & TIMEOUT, "the line is idle"
    uart.get(DR)
    assert not uart.line.level
    assert uart.get(RIS) & (RECEIVE | TIMEOUT) == TIMEOUT
    for _ in range(level - 1):
        uart.get(DR)
    assert uart.get(RIS) == 0


def test_a_changed_level_counts_at_once(uart):
    uart.put(IMSC, RECEIVE)
    uart.console.send("x" * 6)
    assert not uart.line.level
    uart.put(IFLS, 1 << 3)
    assert uart.line.level
    uart.put(IFLS, 2 << 3)
    assert not uart.line.level


def test_without_the_fifo_one_byte_is_enough(uart):
    uart.put(LCR_H, FIFO_OFF)
    uart.put(IFLS, 4 << 3)
    uart.put(IMSC, RECEIVE)
    uart.console.send("xy")
    assert uart.line.level
    uart.put(IMSC, 0)
    assert bytes(uart.get(DR) for _ in range(2)) == b"xy"
    assert uart.get(RIS) == 0


@pytest.mark.parametrize(("fifo", "depth"), [(FIFO_ON, 16), (FIFO_OFF, 1)])
def test_an_overrun_is_reported_and_the_next_byte_says_so(uart, fifo, depth):
    uart.put(LCR_H, fifo)
    uart.put(CR, LOOPBACK)
    uart.put(IMSC, OVERRUN)
    for byte in range(depth):
        uart.put(DR, byte)
    assert (uart.get(RSR), uart.get(RIS) & OVERRUN, uart.line.level) == (0, 0, False)
    uart.put(DR, 0xEE)
    uart.put(DR, 0xEF)
    assert (uart.get(RSR), uart.get(MIS), uart.line.level) == (8, OVERRUN, True)
    uart.put(ICR, OVERRUN)
    assert not uart.line.level
    assert uart.get(RSR) == 8
    uart.put(RSR, 0)
    assert uart.get(RSR) == 0
    assert [uart.get(DR) for _ in range(depth)] == list(range(depth)), "what was there is kept, without a mark"
    uart.put(DR, 0x55)
    assert uart.get(DR) == 0x855
    uart.put(DR, 0x66)
    assert uart.get(DR) == 0x66


def test_input_waits_outside_and_overruns_nothing(uart):
    uart.console.send(bytes(range(200)))
    assert bytes(uart.get(DR) for _ in range(200)) == bytes(range(200))
    assert (uart.get(RSR), uart.get(RIS) & OVERRUN) == (0, 0)


def test_a_reset_forgets_an_overrun_and_what_would_come_again(uart):
    uart.put(CR, LOOPBACK)
    for byte in range(17):
        uart.put(DR, byte)
    uart.put(ICR, 0x7FF)
    uart.device.reset()
    uart.wait()
    assert (uart.get(RSR), uart.get(RIS)) == (0, 0)
    uart.put(CR, LOOPBACK)
    uart.put(DR, 0x55)
    assert uart.get(DR) == 0x55
