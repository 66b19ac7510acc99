# SPDX-License-Identifier: Apache-2.0
"""8254: modes of the counters, latches, and port 0x61."""

import pytest

from raddle.devices.i8254 import FREQUENCY, I8254
from raddle.machine.lines import Line
from raddle.testing.device_bench import HandClock, Native

CONTROL, PORT = 3, 4
GATE, SPEAKER, OUTPUT = 1, 2, 0x20


class Timer:
    def __init__(self):
        self.clock = HandClock()
        self.rises = 0
        self.line = Line(self._edge)
        self.device = I8254(self.clock, self.line)

    def _edge(self, level):
        self.rises += level

    def get(self, offset):
        return self.device.read(offset, 1)

    def put(self, offset, *values):
        for value in values:
            self.device.write(offset, 1, value)

    def ticks(self, count):
        """Go to the nanosecond at which so many ticks more have passed."""
        target = self.clock.now * FREQUENCY // 10**9 + count
        self.clock.now = -(-target * 10**9 // FREQUENCY)
        self.clock.move(0)

    def output(self):
        return bool(self.get(PORT) & OUTPUT)

    def count(self, channel):
        self.put(CONTROL, channel << 6)
        return self.get(channel) | self.get(channel) << 8


@pytest.fixture
def timer():
    return Timer()


def test_the_calibration_of_a_kernel(timer):
    """Mode 0 of channel 2 with the gate open: the output rises when the count has ended."""
    timer.put(PORT, GATE)
    timer.put(CONTROL, 0xB0)
    assert not timer.output()
    timer.put(2, 0xFF, 0xFF)
    timer.ticks(0xFFFE)
    assert not timer.output()
    timer.ticks(1)
    assert timer.output()
    timer.ticks(1_000_000)
    assert timer.output()


def test_a_count_waits_for_the_gate(timer):
    timer.put(CONTROL, 0xB0)
    timer.put(2, 100, 0)
    timer.ticks(1000)
    assert not timer.output()
    timer.put(PORT, GATE)
    timer.ticks(60)
    timer.put(PORT, 0)
    timer.ticks(60)
    assert (timer.output(), timer.count(2)) == (False, 40)
    timer.put(PORT, GATE)
    timer.ticks(40)
    assert timer.output()


def test_one_shot_begins_with_the_gate(timer):
    timer.put(CONTROL, 0xB2)
    timer.put(2, 50, 0)
    assert timer.output()
    timer.put(PORT, GATE)
    assert not timer.output()
    timer.ticks(50)
    assert timer.output()


def test_a_square_wave(timer):
    timer.put(PORT, GATE)
    timer.put(CONTROL, 0xB6)
    timer.put(2, 10, 0)
    levels = []
    for _ in range(20):
        levels.append(timer.output())
        timer.ticks(1)
    assert levels == ([True] * 5 + [False] * 5) * 2


def test_channel_0_drives_its_line(timer):
    timer.put(CONTROL, 0x34)  # mode 2
    timer.put(0, 100, 0)
    for _ in range(1000):
        timer.ticks(1)
    assert timer.rises == 11  # it is high from the start
    timer.put(CONTROL, 0x30)  # mode 0: it rises once
    timer.put(0, 100, 0)
    assert not timer.line.level
    for _ in range(300):
        timer.ticks(1)
    assert timer.rises == 12
    timer.device.reset()
    assert not timer.line.level


@pytest.mark.parametrize(("access", "shown"), [(1, [0x34, 0x34]), (2, [0x12, 0x12]), (3, [0x34, 0x12])])
def test_bytes_of_a_count(timer, access, shown):
    timer.put(CONTROL, access << 4 | 4)
    if access & 1:
        timer.put(0, 0x34)
    if access & 2:
        timer.put(0, 0x12)
    assert [timer.get(0), timer.get(0)] == shown


def test_decimal_counts(timer):
    timer.put(CONTROL, 0x31 | 4)
    timer.put(0, 0x00, 0x10)
    timer.ticks(1)
    assert timer.count(0) == 0x0999


def test_a_latched_count_stays_until_it_is_read(timer):
    timer.put(CONTROL, 0x34)
    timer.put(0, 0x00, 0x10)
    timer.put(CONTROL, 0x00)
    timer.ticks(7)
    timer.put(CONTROL, 0x00)
    assert [timer.get(0), timer.get(0)] == [0x00, 0x10]
    assert timer.count(0) == 0x0FF9


def test_read_back(timer):
    timer.put(CONTROL, 0x34)
    timer.put(0, 0x00, 0x10)
    timer.put(CONTROL, 0xC2)
    assert [timer.get(0), timer.get(0), timer.get(0)] == [0xB4, 0x00, 0x10]


def test_the_refresh_bit_changes(timer):
    seen = set()
    for _ in range(4):
        seen.add(timer.get(PORT) & 0x10)
        timer.clock.now += 15_085
    assert seen == {0, 0x10}


def test_the_port_keeps_its_two_bits(timer):
    timer.put(PORT, 0xFF)
    assert timer.get(PORT) & 0xF == GATE | SPEAKER


def test_waiting_for_the_output_needs_no_python(timer):
    native = Native(timer.device, {"clock_ns": lambda cpu: timer.clock.now})
    timer.put(PORT, GATE)
    timer.put(CONTROL, 0xB0)
    timer.put(2, 0x00, 0x10)
    seen = set()
    for _ in range(300):
        assert native.read(PORT, 1) == timer.get(PORT)
        seen.add(timer.output())
        timer.ticks(17)
    assert seen == {False, True}
    assert native.passed == []


@pytest.mark.parametrize("control", [0xB6, 0xB4])
def test_outputs_that_fall_again_are_python_s(timer, control):
    native = Native(timer.device)
    timer.put(PORT, GATE)
    timer.put(CONTROL, control)
    timer.put(2, 0x00, 0x10)
    assert native.read(PORT, 1) == timer.get(PORT)
    assert native.passed == [(PORT, 1)]
