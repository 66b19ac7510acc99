# SPDX-License-Identifier: Apache-2.0
"""The time of day (`-rtc`): what is read of the option, what each clock follows, and the PL031 that shows it."""

import time

import pytest
from raddle.runtime._native import ffi

from raddle.cli.main import main
from raddle.devices.pl031 import PL031
from raddle.errors import UsageError
from raddle.ir.builder import Builder
from raddle.ir.interpreter import CpuState, interpret
from raddle.ir.verifier import verify
from raddle.machine.clock import END_OF_TIME
from raddle.machine.lines import Line
from raddle.machine.machine import Machine
from raddle.machine.time_of_day import RtcClock, RtcOptions, TimeOfDay, parse_rtc
from raddle.testing.device_bench import HandClock

HOST, RT, VM = RtcClock.HOST, RtcClock.RT, RtcClock.VM
DR, MR, LR, IMSC, RIS, ICR = 0x00, 0x04, 0x08, 0x10, 0x14, 0x1C
SECOND = 1_000_000_000
START = 1_150_560_081
"""2006-06-17T16:01:21"""
YEAR_2000 = 946_684_800


class Host:
    """The host's clocks, which a test moves."""

    def __init__(self):
        self.day, self.real = START * SECOND + 900_000_000, 5 * SECOND

    def move(self, seconds):
        self.day += int(seconds * SECOND)
        self.real += int(seconds * SECOND)


@pytest.fixture
def host(monkeypatch):
    one = Host()
    monkeypatch.setattr(time, "time_ns", lambda: one.day)
    monkeypatch.setattr(time, "monotonic_ns", lambda: one.real)
    return one


# --- the option -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (None, RtcOptions("utc", HOST)),
        ("base=utc", RtcOptions("utc", HOST)),
        ("base=localtime,clock=vm", RtcOptions("localtime", VM)),
        ("clock=rt", RtcOptions("utc", RT)),
        ("base=2006-06-17T16:01:21", RtcOptions(START, HOST)),
        ("clock=host,base=1970-01-01,driftfix=none", RtcOptions(0, HOST)),
        ("base=2106-02-07T06:28:15", RtcOptions((1 << 32) - 1, HOST)),
    ],
)
def test_what_the_option_says(text, options):
    assert parse_rtc(text, False) == options


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (None, RtcOptions(YEAR_2000, VM)),
        ("clock=vm", RtcOptions(YEAR_2000, VM)),
        ("base=utc", RtcOptions("utc", VM)),
        ("base=2006-06-17T16:01:21,clock=vm", RtcOptions(START, VM)),
    ],
)
def test_with_counted_instructions(text, options):
    assert parse_rtc(text, True) == options


REFUSED = [
    ("", False, "-rtc setting without a name"),
    ("base", False, "base needs a value"),
    ("base=", False, "base needs a value"),
    ("utc", False, "unknown -rtc setting"),
    ("base=utc,base=utc", False, "gives base twice"),
    ("base=\u0662\u0660\u0660\u0666-06-17", False, "must be utc, localtime, or a time such as"),
    ("base=now", False, "must be utc, localtime, or a time such as"),
    ("base=2006-02-30", False, "must be utc, localtime, or a time such as"),
    ("base=" + "9" * 1_000_000, False, "must be utc, localtime, or a time such as"),
    ("base=1969-12-31T23:59:59", False, "from 1970 to 2106"),
    ("base=2106-02-07T06:28:16", False, "from 1970 to 2106"),
    ("clock=sun", False, "unknown -rtc clock"),
    ("driftfix=slew", False, "driftfix=slew is not supported; the nearest that is: driftfix=none"),
    ("clock=host", True, "-icount does not; clock=vm does"),
    ("clock=rt", True, "-icount does not; clock=vm does"),
    (5, False, "rtc is a string"),
]


@pytest.mark.parametrize(("text", "counted", "fault"), REFUSED)
def test_what_is_refused(text, counted, fault):
    with pytest.raises(UsageError, match=fault) as error:
        parse_rtc(text, counted)
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("words", [["-rtc", "clock=sun"], ["-rtc", "clock=host", "-icount", "shift=1"]])
def test_the_command_refuses_with_one_line(words, capsys):
    assert main(["boot", "-M", "virt", *words, "-kernel", "/nonexistent"]) != 0
    shown = capsys.readouterr().err
    assert "-rtc clock" in shown
    assert shown.count("\n") == 1


# --- clocks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["utc", START])
def test_the_hosts_time_goes_on_while_the_machine_stands(host, base):
    machine = HandClock()
    time_of_day = TimeOfDay(RtcOptions(base, HOST), machine)
    start = time_of_day.now_ns()
    assert start == (host.day if base == "utc" else START * SECOND)
    host.move(7.25)
    assert time_of_day.now_ns() == start + 7_250_000_000
    host.day -= 3 * SECOND  # it is set
    assert time_of_day.now_ns() == start + 4_250_000_000


def test_real_time_goes_on_but_cannot_be_set(host):
    time_of_day = TimeOfDay(RtcOptions("utc", RT), HandClock())
    start = time_of_day.now_ns()
    assert start == host.day
    host.day -= 1000 * SECOND
    host.real += SECOND
    assert time_of_day.now_ns() == start + SECOND


def test_the_machines_clock_stands_with_it(host):
    machine = HandClock()
    time_of_day = TimeOfDay(RtcOptions("utc", VM), machine)
    start = time_of_day.now_ns()
    host.move(1000)
    assert time_of_day.now_ns() == start
    machine.move(2)
    assert time_of_day.now_ns() == start + 2 * SECOND


def test_it_begins_once_at_power_on(host):
    time_of_day = TimeOfDay(RtcOptions(START, RT), HandClock())
    host.move(50)  # built, but not started
    time_of_day.begin()
    host.move(3)
    time_of_day.begin()
    assert time_of_day.now_ns() == (START + 3) * SECOND


def test_local_time(host, monkeypatch):
    monkeypatch.setenv("TZ", "XXX-05:30")
    time.tzset()
    try:
        assert TimeOfDay(RtcOptions("localtime", HOST), HandClock()).now_ns() == host.day + 19_800 * SECOND
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()


# --- PL031 ------------------------------------------------------------------------------------------------------


class Rtc:
    def __init__(self, clock):
        self.clock, self.line = HandClock(), Line()
        self.device = PL031(self.clock, self.line, TimeOfDay(RtcOptions("utc", clock), self.clock))
        self.device.reset()
        self.put(IMSC, 1)

    def get(self, offset):
        return self.device.read(offset, 4)

    def put(self, offset, value):
        self.device.write(offset, 4, value)


@pytest.mark.parametrize("clock", list(RtcClock))
def test_a_second_ends_when_the_hosts_does(host, clock):
    """The machine was started at 0.9 of a second."""
    rtc = Rtc(clock)
    assert rtc.get(DR) == START
    for seconds, shown in ((0.05, START), (0.05, START + 1), (0.95, START + 1), (0.05, START + 2)):
        host.move(seconds)
        rtc.clock.move(seconds)
        assert rtc.get(DR) == shown


@pytest.mark.parametrize("clock", list(RtcClock))
def test_an_alarm_rings_as_its_second_begins(host, clock):
    rtc = Rtc(clock)
    rtc.put(MR, START + 3)
    rang = []
    for tenth in range(1, 26):
        host.move(0.1)
        rtc.clock.move(0.1)
        rang.append((tenth, rtc.line.level, rtc.get(DR)))
    assert next(one for one in rang if one[1]) == (21, True, START + 3)
    rtc.put(ICR, 1)
    assert not rtc.line.level


@pytest.mark.parametrize("clock", [HOST, RT])
def test_an_alarm_rings_soon_after_a_pause_in_which_its_time_came(host, clock):
    rtc = Rtc(clock)
    rtc.put(MR, START + 100)
    host.move(500)  # the machine stands
    assert not rtc.line.level
    rtc.clock.move(1)
    assert rtc.line.level


def test_an_alarm_waits_for_a_clock_that_was_set_back(host):
    rtc = Rtc(HOST)
    rtc.put(MR, START + 2)
    host.day -= 5 * SECOND
    for _ in range(7):
        assert not rtc.line.level
        host.move(1)
        rtc.clock.move(1)
    assert rtc.line.level


def test_what_the_guest_sets_lasts_with_whole_seconds(host):
    rtc = Rtc(HOST)
    rtc.put(LR, 1000)
    assert rtc.get(DR) == 1000
    host.move(0.1)
    assert rtc.get(DR) == 1001, "seconds end when they did before"
    rtc.device.reset()
    assert rtc.get(DR) == 1001
    rtc.put(LR, 0xFFFF_FFFF)
    host.move(1)
    assert rtc.get(DR) == 0


def test_an_alarm_in_the_past_waits_for_the_counter_to_come_round(host):
    rtc = Rtc(HOST)
    rtc.put(MR, START - 1)
    host.move(1000)
    rtc.clock.move(1000)
    assert not rtc.line.level


@pytest.mark.parametrize("base", [START, YEAR_2000, (1 << 32) - 2, "utc"])
def test_native_code_reads_what_python_does(host, base):
    clock, now = HandClock(), [0]
    device = PL031(clock, Line(), TimeOfDay(RtcOptions(base, VM), clock))
    b = Builder()
    device.routine(b)
    verify(b, routine=True)
    device.reset()
    callees = {
        "clock_ns": lambda cpu: now[0],
        "host_load32": lambda cpu, address: ffi.cast("uint32_t *", address)[0],
        "io_python": lambda cpu, offset, how, value, number: 0xBAD,
    }

    def read(size=4):
        cpu = CpuState(bytearray(), {"arg0": DR, "arg1": size, "arg2": 0, "arg3": 7})
        return interpret(b, cpu, None, callees=callees).value

    for value in (None, 12345, 0xFFFF_FFFF):
        if value is not None:
            device.write(LR, 4, value)
        for moment in (0, 99_999_999, 100_000_000, SECOND - 1, SECOND, 10 * SECOND + 1, 1 << 63, END_OF_TIME):
            clock.now = now[0] = moment
            assert read() == device.read(DR, 4)
    assert read(size=1) == 0xBAD


@pytest.mark.parametrize("clock", [HOST, RT])
def test_the_hosts_clocks_are_pythons(clock):
    assert not Rtc(clock).device.is_native


# --- a machine --------------------------------------------------------------------------------------------------


def test_a_machine_is_told_its_time(tmp_path):
    kernel = tmp_path / "kernel"
    kernel.write_bytes(b"\xfe\xff\xff\xea")  # b .
    with Machine("virt", kernel=kernel, rtc="base=2006-06-17T16:01:21,clock=vm") as machine:
        machine.start(paused=True)
        assert machine.board.rtc.read(DR, 4) == START
    with Machine("virt", kernel=kernel, icount="shift=auto") as machine:
        machine.start(paused=True)
        assert machine.board.rtc.read(DR, 4) == YEAR_2000
    with pytest.raises(UsageError, match="clock=vm does"):
        Machine("virt", kernel=kernel, rtc="clock=host", icount="shift=auto")
