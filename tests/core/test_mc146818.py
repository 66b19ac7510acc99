# SPDX-License-Identifier: Apache-2.0
"""MC146818: formats of the time, setting it, update cycles, and the three interrupts."""

import calendar

import pytest

from raddle.devices.mc146818 import MC146818, UPDATE_NS
from raddle.machine.lines import Line
from raddle.machine.time_of_day import RtcClock, RtcOptions, TimeOfDay
from raddle.testing.device_bench import HandClock, Native

A, B, C, D = 10, 11, 12, 13
CENTURY = 0x32
SET, PERIODIC, ALARM, UPDATE, BINARY, HOURS_24 = 0x80, 0x40, 0x20, 0x10, 4, 2
START = calendar.timegm((2024, 2, 29, 23, 59, 57))


class Rtc:
    def __init__(self, start=START, first_year=None):
        self.clock, self.line, self.ticks = HandClock(), Line(), 0
        time_of_day = TimeOfDay(RtcOptions(start, RtcClock.VM), self.clock)
        time_of_day.begin()
        self.device = MC146818(self.clock, self.line, time_of_day, "tick", first_year)
        self.clock.routines, self.clock.callees["tick"] = self.device.routines(), self._tick

    def _tick(self, _, count):
        self.ticks += count

    def get(self, index):
        self.device.write(0, 1, index)
        return self.device.read(1, 1)

    def put(self, index, value):
        self.device.write(0, 1, index)
        self.device.write(1, 1, value)

    def date(self):
        return [self.get(index) for index in (CENTURY, 9, 8, 7, 6, 4, 2, 0)]


@pytest.fixture
def rtc():
    return Rtc()


def test_the_time_in_decimal_digits_and_in_binary(rtc):
    assert rtc.date() == [0x20, 0x24, 0x02, 0x29, 5, 0x23, 0x59, 0x57]
    rtc.put(B, BINARY | HOURS_24)
    assert rtc.date() == [20, 24, 2, 29, 5, 23, 59, 57]
    rtc.clock.move(3)
    assert rtc.date() == [20, 24, 3, 1, 6, 0, 0, 0]


def test_years_that_begin_elsewhere():
    """The century's byte is RAM then."""
    rtc = Rtc(first_year=1980)
    assert rtc.get(9) == 0x44
    rtc.put(CENTURY, 0x5A)
    assert (rtc.get(CENTURY), rtc.get(9)) == (0x5A, 0x44)
    rtc.put(9, 0x51)
    rtc.clock.move(2.5)
    assert rtc.date()[1:] == [0x51, 0x03, 0x01, 0x07, 0x23, 0x59, 0x59]


@pytest.mark.parametrize(("hour", "shown"), [(0, 0x12), (1, 0x01), (11, 0x11), (12, 0x92), (13, 0x81), (23, 0x91)])
def test_the_twelve_hour_format(rtc, hour, shown):
    rtc.put(4, int(f"{hour:02}", 16))
    rtc.put(B, 0)
    assert rtc.get(4) == shown
    rtc.put(4, 0x05)
    rtc.put(4, shown)
    rtc.put(B, HOURS_24)
    assert rtc.get(4) == int(f"{hour:02}", 16)


def test_the_guest_sets_the_time_while_it_stands_still(rtc):
    rtc.put(B, SET | HOURS_24)
    for index, value in ((CENTURY, 0x20), (9, 0x31), (8, 0x12), (7, 0x31), (4, 0x23), (2, 0x59), (0, 0x59)):
        rtc.put(index, value)
    rtc.clock.move(100)
    assert rtc.date() == [0x20, 0x31, 0x12, 0x31, 4, 0x23, 0x59, 0x59]
    rtc.put(B, HOURS_24)
    rtc.clock.move(1)
    assert rtc.date() == [0x20, 0x32, 0x01, 0x01, 5, 0, 0, 0]


def test_a_divider_that_is_held_stops_the_clock(rtc):
    rtc.put(A, 0x76)
    rtc.clock.move(10)
    assert rtc.get(0) == 0x57
    rtc.put(A, 0x26)
    rtc.clock.move(2)
    assert rtc.get(0) == 0x59


@pytest.mark.parametrize(("index", "value"), [(8, 0x00), (8, 0x99), (7, 0x00), (4, 0xFF), (0, 0xFF), (CENTURY, 0x00)])
def test_a_time_that_cannot_be_does_no_harm(rtc, index, value):
    rtc.put(index, value)
    rtc.date()


def test_an_update_is_in_progress_at_the_end_of_each_second_and_over_when_the_next_has_begun(rtc):
    update = UPDATE_NS / 1e9
    assert rtc.get(A) == 0x26
    rtc.clock.move(1 - update - 1e-6)
    assert rtc.get(A) == 0x26
    rtc.clock.move(2e-6)
    assert (rtc.get(A), rtc.get(0)) == (0xA6, 0x57)
    rtc.clock.move(update - 2e-6)
    assert rtc.get(A) == 0xA6
    rtc.clock.move(1e-6)
    assert (rtc.get(A), rtc.get(0)) == (0x26, 0x58)


def test_no_update_while_the_time_is_set(rtc):
    rtc.put(B, SET | HOURS_24)
    rtc.clock.move(0.999)
    assert rtc.get(A) == 0x26


@pytest.mark.parametrize(("rate", "hertz"), [(6, 1024), (3, 8192), (15, 2), (1, 256), (2, 128)])
def test_the_periodic_interrupt(rtc, rate, hertz):
    rtc.put(A, 0x20 | rate)
    rtc.put(B, PERIODIC | HOURS_24)
    for period in range(1, 4):
        due = -(-period * 10**9 // hertz)
        rtc.clock.now = due - 1
        rtc.clock.move(0)
        assert rtc.ticks == period - 1
        rtc.clock.now = due
        rtc.clock.move(0)
        assert rtc.ticks == period
        assert rtc.line.level
        assert rtc.get(C) == 0xC0
        assert not rtc.line.level


def test_ticks_go_on_though_nobody_acknowledges(rtc):
    rtc.put(B, PERIODIC | HOURS_24)
    for _ in range(2001):
        rtc.clock.move(1 / 2048)
    assert rtc.ticks == 1000
    assert rtc.line.level


def test_a_machine_that_was_held_up_is_told_how_many_ticks_it_missed(rtc):
    rtc.put(B, PERIODIC | HOURS_24)
    rtc.clock.move(10)
    assert rtc.ticks == 10240
    rtc.clock.move(1 / 1024 + 1e-6)
    assert rtc.ticks == 10241


@pytest.mark.parametrize("change", [(A, 0x20), (B, HOURS_24)])
def test_no_tick_comes_after_it_was_turned_off(rtc, change):
    rtc.put(B, PERIODIC | HOURS_24)
    rtc.put(*change)
    rtc.clock.move(1)
    assert rtc.ticks == 0


def test_the_end_of_an_update_interrupts(rtc):
    rtc.put(B, UPDATE | HOURS_24)
    rtc.clock.move(0.5)
    assert not rtc.line.level
    rtc.clock.move(0.5)
    assert rtc.line.level
    assert rtc.get(C) == 0x90
    assert not rtc.line.level
    rtc.clock.move(1)
    assert rtc.line.level


@pytest.mark.parametrize(
    ("alarm", "seconds"),
    [((0x59, 0x59, 0x23), 2), ((0x05, 0x00, 0x00), 8), ((0xFF, 0x00, 0xC0), 3), ((2, 0xFF, 0xFF), 5)],
)
def test_the_alarm(rtc, alarm, seconds):
    for index, value in zip((1, 3, 5), alarm, strict=True):
        rtc.put(index, value)
    rtc.put(B, ALARM | HOURS_24)
    for second in range(1, seconds + 1):
        rtc.clock.move(1)
        assert rtc.line.level == (second == seconds), second
    assert rtc.get(C) & 0xA0 == 0xA0
    assert not rtc.line.level


def test_ram_and_the_valid_bit(rtc):
    assert rtc.get(D) == 0x80
    rtc.put(0x40, 0x5A)
    assert rtc.get(0x40) == 0x5A
    rtc.put(C, 0xFF)
    assert rtc.get(C) == 0


def test_a_reset_turns_interrupts_off_and_keeps_time_and_ram(rtc):
    rtc.put(0x40, 0x5A)
    rtc.put(9, 0x30)
    rtc.put(B, PERIODIC | UPDATE | BINARY | HOURS_24)
    rtc.clock.move(1)
    assert rtc.line.level
    rtc.device.reset()
    assert not rtc.line.level
    rtc.clock.move(5)
    assert (rtc.line.level, rtc.ticks) == (False, 1024)
    assert rtc.get(B) == BINARY | HOURS_24
    assert (rtc.get(0x40), rtc.get(9)) == (0x5A, 30)


# --- without Python


@pytest.mark.parametrize("ahead", [0, 0.25, 0.999])
def test_waiting_for_an_update_needs_no_python(rtc, ahead):
    rtc.clock.now = round(ahead * 1e9)
    native = Native(rtc.device, {"clock_ns": lambda cpu: rtc.clock.now})
    rtc.put(B, SET | HOURS_24)
    rtc.clock.move(0.3)
    rtc.put(B, HOURS_24)
    seen = set()
    for _ in range(2000):
        native.write(0, 1, A)
        assert native.read(1, 1) == rtc.get(A)
        seen.add(rtc.get(A))
        rtc.clock.move(1.1e-3)
    assert seen == {0x26, 0xA6}
    assert native.passed == []


def test_a_clock_that_stands_still_is_python_s(rtc):
    native = Native(rtc.device, {"clock_ns": lambda cpu: rtc.clock.now})
    rtc.put(B, SET | HOURS_24)
    rtc.clock.move(0.999)
    native.write(0, 1, A)
    assert native.read(1, 1) == 0x26
    assert native.passed == [(1, 1)]


def test_the_host_s_time_of_day_is_python_s():
    device = MC146818(HandClock(), Line())
    native = Native(device)
    native.write(0, 1, A)
    assert native.read(1, 1) & 0x7F == 0x26
    native.write(0, 1, 0xFF)
    assert native.passed == [(1, 1)]
