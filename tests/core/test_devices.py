# SPDX-License-Identifier: Apache-2.0
"""The base class of devices, PL011 and PL031."""

from itertools import product
from random import Random
from typing import ClassVar

import pytest
from raddle.runtime._native import ffi

from raddle.devices import Device, Register
from raddle.devices.held_output import HOLD_NS
from raddle.devices.pl011 import PL011
from raddle.devices.pl031 import PL031
from raddle.errors import RaddleError
from raddle.ir.builder import Builder
from raddle.ir.interpreter import CpuState, interpret
from raddle.ir.verifier import verify
from raddle.machine.chardev import MemoryConsole
from raddle.machine.clock import END_OF_TIME, MachineClock
from raddle.machine.lines import Line
from raddle.machine.time_of_day import RtcClock, RtcOptions, TimeOfDay
from raddle.testing.device_bench import HandClock

ALL = 0xFFFF_FFFF


class Sample(Device):
    NAME = "sample"
    REGISTERS: ClassVar = (
        Register(0x00, "STORE", reset=0x1234_5678, writable=ALL),
        Register(0x04, "MASKED", readable=0xFF, writable=0x0F),
        Register(0x08, "FIXED", reset=0xCAFE),
        Register(0x10, "SET", count=3, writable=ALL),
        Register(0x20, "SECRET", reset=7, readable=0, writable=1),
    )

    def write_SET(self, index, value, mask):
        self.store("SET", self.value("SET", index) | value, index)


class Hot(Device):
    NAME = "hot"
    REGISTERS: ClassVar = (
        Register(0x00, "COLD", reset=0x1234_5678),
        Register(0x08, "MASKED", reset=0x1FF, readable=0xF0, hot=True),
        Register(0x10, "SET", count=3, writable=ALL, hot=True),
    )


class Widths(Device):
    NAME = "widths"
    REGISTERS: ClassVar = (
        Register(0x00, "DATA", size=1, writable=0xFF),
        Register(0x01, "FLAGS", size=1, reset=0x61, readable=0xF1, hot=True),
        Register(0x02, "SHORT", size=2, count=2, reset=0xBEEF, writable=0x0FFF, hot=True),
        Register(0x08, "COUNT", size=8, count=2, reset=0x1122_3344_5566_7788, writable=-1, hot=True),
        Register(0x18, "MASKED", size=8, reset=-1 & (1 << 64) - 1, readable=0xFF00_0000_0000_00FF, hot=True),
        Register(0x20, "WORD", writable=ALL, hot=True),
        Register(0x28, "COMPARE", size=8, writable=(1 << 64) - 1),
    )

    def __init__(self):
        super().__init__()
        self.written = []

    def write_COMPARE(self, index, value, mask):
        self.written.append((value, mask))
        self.store("COMPARE", self.value("COMPARE") & ~mask | value)

    def read_DATA(self, index):
        return 0x141


def test_hot_registers_are_read_by_the_routine_and_the_rest_is_passed_on():
    device = Hot()
    device.write(0x10, 4, 0x8000_0001)
    passed = compared_with_the_routine(
        device, 0x30, lambda offset, size: size <= 4 and offset in (0x08, 0x10, 0x14, 0x18)
    )
    assert passed[0] == (0, 1, 7)


def test_hot_registers_of_all_widths():
    device = Widths()
    device.write(0x10, 8, 0x0102_0304_8506_0708)

    def served(offset, size):
        if size == 8:
            return offset in (8, 0x10, 0x18)
        if size == 4 and offset in (8, 0xC, 0x10, 0x14, 0x18, 0x1C):
            return True
        return (offset, size) in ((1, 1), (2, 2), (4, 2)) or (size <= 4 and offset == 0x20)

    compared_with_the_routine(device, 0x34, served)


def compared_with_the_routine(device, span, served):
    """What a device's routine passes on; of what it serves itself, the same is read as from the device."""
    b = Builder()
    device.routine(b)
    verify(b, routine=True)
    passed = []

    def io_python(cpu, offset, how, value, number):
        passed.append((offset, how, number))
        return device.write(offset, how & 0xFF, value) if how >> 8 else device.read(offset, how)

    def host_load32(cpu, address):
        return ffi.cast("uint32_t *", address)[0]

    callees = {"io_python": io_python, "host_load32": host_load32}
    for offset, size, is_write in product(range(span), (1, 2, 4, 8), (0, 1)):
        how = size | is_write << 8
        cpu = CpuState(bytearray(), {"arg0": offset, "arg1": how, "arg2": 3, "arg3": 7})
        before = len(passed)
        value = interpret(b, cpu, None, callees=callees).value
        assert len(passed) - before == (is_write or not served(offset, size)), (offset, size)
        if not is_write:
            assert value & (1 << 8 * size) - 1 == device.read(offset, size), (offset, size)
    return passed


def test_a_hot_register_has_no_read_function():
    with pytest.raises(RaddleError, match="FAST is hot but has read_FAST"):

        class Wrong(Device):
            NAME = "wrong"
            REGISTERS: ClassVar = (Register(0, "FAST", hot=True),)

            def read_FAST(self, index):
                return 0


def test_registers_of_8_16_and_64_bits():
    device = Widths()
    assert device.read(0, 1) == 0x41
    assert device.read(1, 1) == 0x61
    assert device.read(0, 4) == 0xBEEF_6141, "a wide access reaches all that it covers"
    assert device.read(2, 4) == 0xBEEF_BEEF
    assert device.read(3, 1) == 0xBE
    device.write(2, 4, 0x1234_5678)
    assert [device.read(2, 2), device.read(4, 2)] == [0xB678, 0xB234]
    assert device.value("SHORT", 1) == 0xB234
    assert device.read(8, 8) == 0x1122_3344_5566_7788
    assert [device.read(8, 4), device.read(12, 4), device.read(13, 2)] == [0x5566_7788, 0x1122_3344, 0x2233]
    device.write(12, 4, 0xAABB_CCDD)
    device.write(9, 1, 0)
    assert device.value("COUNT") == device.read(8, 8) == 0xAABB_CCDD_5566_0088
    assert device.read(0x18, 8) == 0xFF00_0000_0000_00FF
    device.store("COUNT", 5, 1)
    assert device.read(0x10, 8) == 5
    device.reset()
    assert device.read(0x10, 8) == 0x1122_3344_5566_7788


def test_a_register_of_64_bits_is_written_whole_or_in_parts():
    device = Widths()
    device.write(0x28, 8, 0x8877_6655_4433_2211)
    device.write(0x2C, 4, 0x1111_2222)
    device.write(0x2F, 1, 0xEE)
    whole, upper, byte = (1 << 64) - 1, 0xFFFF_FFFF << 32, 0xFF << 56
    assert device.written == [(0x8877_6655_4433_2211, whole), (0x1111_2222 << 32, upper), (0xEE << 56, byte)]
    assert device.value("COMPARE") == 0xEE11_2222_4433_2211


def test_what_no_register_of_a_narrow_device_answers_is_logged_for_each(caplog):
    caplog.set_level("INFO", "raddle.devices")
    device = Widths()
    assert device.read(0x24, 4) == 0
    assert device.read(0x04, 4) == 0xBEEF
    assert [record.getMessage().rpartition(" ")[2] for record in caplog.records] == [
        "0x24", "0x25", "0x26", "0x27", "0x6", "0x7",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Register(0, "X", size=3), "X has 3 bytes; a register has 1, 2, 4 or 8"),
        (Register(4, "X", size=8), "no multiple of its 8 bytes"),
        (Register(0xFF8, "X", size=8, count=2), "lies outside the device"),
        (Register(0, "X", size=1, writable=0x100), "writable is 0x100, which has more bits than its 1 bytes"),
        (Register(0, "X", size=2, reset=-1), "reset is -0x1"),
    ],
)
def test_rows_that_no_device_can_have_are_refused(row, message):
    with pytest.raises(RaddleError, match=message):

        class Wrong(Device):
            NAME = "wrong"
            REGISTERS: ClassVar = (row,)


def test_registers_of_different_widths_overlap():
    with pytest.raises(RaddleError, match="registers LONG and BYTE overlap"):

        class Wrong(Device):
            NAME = "wrong"
            REGISTERS: ClassVar = (Register(0, "LONG", size=8), Register(5, "BYTE", size=1))


def test_storage_resets_and_keeps_its_writable_bits():
    device = Sample()
    assert device.read(0, 4) == 0x1234_5678
    device.write(0, 4, 0xFFFF_0000)
    device.write(4, 4, 0xFFFF_FFFF)
    assert device.read(0, 4) == 0xFFFF_0000
    assert device.read(4, 4) == 0x0F
    device.reset()
    assert device.read(0, 4) == 0x1234_5678


@pytest.mark.parametrize(
    ("offset", "size", "value"),
    [(0, 1, 0x78), (1, 1, 0x56), (2, 2, 0x1234), (3, 1, 0x12), (0, 8, 0x0000_0000_1234_5678)],
)
def test_narrow_and_wide_reads(offset, size, value):
    assert Sample().read(offset, size) == value


@pytest.mark.parametrize(
    ("offset", "size", "written", "after"),
    [
        (0, 1, 0xAA, 0x1234_56AA),
        (2, 1, 0xAA, 0x12AA_5678),
        (2, 2, 0xAABB, 0xAABB_5678),
        (1, 2, 0xAABB, 0x12AA_BB78),
        (0, 8, 0x5_0000_0001, 1),
    ],
)
def test_narrow_and_wide_writes_change_their_bytes_alone(offset, size, written, after):
    device = Sample()
    device.write(offset, size, written)
    assert device.read(0, 4) == after
    assert device.read(4, 4) == (5 if size == 8 else 0)


def test_an_access_across_two_registers_reaches_both():
    device = Sample()
    device.write(2, 4, 0x0003_4444)
    assert device.read(0, 4) == 0x4444_5678
    assert device.read(4, 4) == 3
    assert device.read(2, 4) == 0x0003_4444


def test_arrays_reach_the_function_with_their_index():
    device = Sample()
    device.write(0x14, 4, 1)
    device.write(0x15, 1, 0x80)
    device.write(0x18, 2, 0xFFFF)
    assert [device.read(0x10 + 4 * n, 4) for n in range(3)] == [0, 0x8001, 0xFFFF]


def test_what_the_guest_should_not_do_is_logged_once_and_changes_nothing(caplog):
    caplog.set_level("INFO", "raddle.devices")
    device = Sample()
    for _ in range(3):
        assert device.read(0x0C, 4) == 0
        device.write(0x40, 4, 1)
        device.write(0x08, 4, 1)
    assert device.read(0x08, 4) == 0xCAFE
    assert device.read(0x20, 4) == 0
    assert [record.getMessage() for record in caplog.records] == [
        "sample: guest reads unknown register 0xc",
        "sample: guest writes unknown register 0x40",
        "sample: guest writes read-only register 0x8",
    ]


@pytest.mark.parametrize(
    ("registers", "fault"),
    [
        ((Register(0, "A"), Register(0, "B")), "A and B overlap"),
        ((Register(0, "A", count=2), Register(4, "B")), "A and B overlap"),
        ((Register(0, "A"), Register(4, "A")), "in the table twice"),
        ((Register(2, "A"),), "no multiple of its 4 bytes"),
        ((Register(0x1000, "A"),), "outside the device"),
    ],
)
def test_tables_are_checked_when_the_class_is_made(registers, fault):
    with pytest.raises(RaddleError, match=fault):
        type("Broken", (Device,), {"NAME": "broken", "REGISTERS": registers})


def test_functions_must_belong_to_a_register():
    def function(self, *_):
        return 0

    with pytest.raises(RaddleError, match="read_B belong to no register"):
        type("Broken", (Device,), {"REGISTERS": (Register(0, "A"),), "read_B": function})
    with pytest.raises(RaddleError, match="write_A but no writable bits"):
        type("Broken", (Device,), {"REGISTERS": (Register(0, "A"),), "write_A": function})


# --- PL011 ------------------------------------------------------------------------------------------------------

DR, FR, LCR_H, CR, IMSC, RIS, MIS, ICR = 0x00, 0x18, 0x2C, 0x30, 0x38, 0x3C, 0x40, 0x44
RECEIVE, TRANSMIT, TIMEOUT = 0x10, 0x20, 0x40


class Uart:
    def __init__(self):
        self.console = MemoryConsole()
        self.line = Line()
        self.clock = HandClock()
        self.device = PL011(self.console, self.line, self.clock)
        self.console.on_input(self.device.receive)
        self.read, self.write = self.device.read, self.device.write


@pytest.fixture
def uart():
    return Uart()


def test_pl011_identifies_itself(uart):
    assert [uart.read(0xFE0 + 4 * n, 4) for n in range(8)] == [0x11, 0x10, 0x14, 0, 0x0D, 0xF0, 0x05, 0xB1]
    assert uart.read(CR, 4) == 0x300
    assert uart.read(FR, 4) == 0x90


@pytest.mark.parametrize("size", [1, 2, 4])
def test_pl011_prints(uart, size):
    for byte in b"Hi\r\n":
        uart.write(DR, size, byte)
    assert uart.console.read() == "Hi\r\n"
    assert uart.read(FR, size) & 0x20 == 0


def hold(uart, data):
    """What native code does with bytes that are sent while it may hold them."""
    held = uart.device._output._held
    end, limit = held.words[:2]
    assert end + len(data) <= limit
    held.bytes[end : end + len(data)] = data
    held.words[0] = end + len(data)


def test_pl011_holds_what_follows_a_byte(uart):
    uart.write(DR, 4, ord("a"))
    assert uart.console.read() == "a"
    hold(uart, b"bc")
    assert uart.console.read() == ""
    uart.write(DR, 4, ord("\n"))
    assert uart.console.read() == "bc\n"


def test_pl011_holds_nothing_for_long(uart):
    uart.write(DR, 4, ord("a"))
    hold(uart, b"bc")
    uart.clock.move(HOLD_NS / 1e9)
    assert uart.console.read() == "abc"
    hold(uart, b"d")
    uart.clock.move(HOLD_NS / 1e9)
    assert uart.console.read() == "d"
    uart.clock.move(HOLD_NS / 1e9)
    with pytest.raises(AssertionError):  # then the next byte goes out at once
        hold(uart, b"e")


def test_pl011_holds_nothing_and_loses_no_interrupt_at_the_end_of_time(uart):
    uart.clock.now = END_OF_TIME
    uart.write(DR, 4, ord("a"))
    assert uart.console.read() == "a"
    with pytest.raises(AssertionError):
        hold(uart, b"b")
    uart.console.send("x")
    uart.write(ICR, 4, RECEIVE | TIMEOUT)
    assert uart.read(RIS, 4) & RECEIVE  # at once: no timer comes any more


@pytest.mark.parametrize("bring_out", ["settle", "reset"])
def test_pl011_settles(uart, bring_out):
    uart.write(DR, 4, ord("a"))
    hold(uart, b"bc")
    for _ in range(2):
        getattr(uart.device, bring_out)()
        assert uart.console.text == "abc"


def test_pl011_goes_on_as_if_it_had_not_been_settled():
    histories = []
    for pauses in (False, True):
        uart, history = Uart(), []
        uart.write(DR, 4, ord("a"))
        for data in (b"bc", b"d", b"", b"ef"):
            if uart.device._output._held.words[1]:
                hold(uart, data)
            else:
                for byte in data:
                    uart.write(DR, 4, byte)
            if pauses:
                uart.device.settle()
            uart.clock.move(HOLD_NS / 1e9)
            history.append((list(uart.device._output._held.words[:2]), uart.clock.timers[0].deadline))
        histories.append((history, uart.console.text))
    assert histories[0] == histories[1]
    assert histories[0][1] == "abcdef"


def test_pl011_transmit_interrupt(uart):
    uart.write(IMSC, 4, TRANSMIT)
    assert not uart.line.level
    uart.write(DR, 4, ord("x"))
    assert uart.line.level
    assert uart.read(MIS, 4) == TRANSMIT
    uart.write(ICR, 4, TRANSMIT)
    assert not uart.line.level


def test_pl011_receives_one_byte_without_fifo(uart):
    uart.console.send("abc")
    assert uart.read(FR, 4) & 0x50 == 0x40
    assert bytes(uart.read(DR, 4) for _ in range(3)) == b"abc"
    assert uart.read(FR, 4) & 0x10


def test_pl011_fifo_holds_sixteen_and_the_rest_waits(uart):
    uart.write(LCR_H, 4, 0x70)
    uart.write(IMSC, 4, RECEIVE | TIMEOUT)
    text = bytes(range(65, 65 + 40))
    uart.console.send(text)
    assert uart.line.level
    assert uart.read(RIS, 4) & (RECEIVE | TIMEOUT)
    received = bytearray()
    while not uart.read(FR, 4) & 0x10:
        received.append(uart.read(DR, 1))
    assert bytes(received) == text
    assert not uart.line.level


def test_pl011_flags_follow_what_has_been_received(uart):
    random = Random(1)
    seen = set()
    for _ in range(3000):
        match random.randrange(14):
            case 0:
                uart.console.send("x" * random.choice((1, 1, 2, 18)))
            case 1:
                uart.write(random.choice((DR, CR)), 4, random.choice((0x301, 0x381)))
            case 2:
                uart.write(LCR_H, 4, random.choice((0x60, 0x70)))
            case _:
                uart.read(DR, 1)
        waiting, depth = len(uart.device._received), 16 if uart.read(LCR_H, 4) & 0x10 else 1
        flags = 0x80 | 0x10 * (waiting == 0) | 0x40 * (waiting >= depth)
        assert uart.read(FR, 4) == flags
        seen.add((depth, flags))
    assert len(seen) == 5, "full and empty at both depths, and in between"


def test_pl011_loops_back(uart):
    uart.write(CR, 4, 0x381)
    uart.write(DR, 4, 0x5A)
    assert uart.console.read() == ""
    assert uart.read(DR, 4) == 0x5A


def test_pl011_reset_forgets_what_has_come(uart):
    uart.write(IMSC, 4, RECEIVE)
    uart.console.send("x")
    assert uart.line.level
    uart.device.reset()
    assert not uart.line.level
    assert uart.read(FR, 4) & 0x10


def test_pl011_keeps_baud_rate_registers(uart):
    uart.write(0x24, 4, 0x1_FFFF)
    uart.write(0x28, 4, 0xFF)
    assert (uart.read(0x24, 4), uart.read(0x28, 4)) == (0xFFFF, 0x3F)


# --- PL031 ------------------------------------------------------------------------------------------------------


@pytest.fixture
def rtc():
    late, clock = MachineClock(), HandClock()
    device = PL031(late, Line(), TimeOfDay(RtcOptions(1000, RtcClock.VM), late))
    late.connect(clock)
    device.clock = clock
    return device


def test_pl031_counts_seconds(rtc):
    assert [rtc.read(0xFE0 + 4 * n, 4) for n in range(4)] == [0x31, 0x10, 0x14, 0]
    assert rtc.read(0, 4) == 1000
    rtc.clock.move(5)
    assert rtc.read(0, 4) == 1005


def test_pl031_can_be_set(rtc):
    rtc.clock.move(3)
    rtc.write(8, 4, 0xFFFF_FFFF)
    assert rtc.read(0, 4) == 0xFFFF_FFFF
    rtc.clock.move(2)
    assert rtc.read(0, 4) == 1


def test_pl031_alarm(rtc):
    rtc.write(0x10, 4, 1)
    rtc.write(4, 4, 1010)
    rtc.clock.move(9)
    assert rtc.read(0x14, 4) == 0
    rtc.clock.move(1)
    assert (rtc.read(0x14, 4), rtc.read(0x18, 4)) == (1, 1)
    assert rtc._line.level
    rtc.write(0x1C, 4, 1)
    assert not rtc._line.level


def test_pl031_starts_at_the_hosts_time():
    import time

    before = int(time.time())
    assert before <= PL031(MachineClock(), Line()).read(0, 4) <= before + 5


def test_lines_tell_changes_alone():
    seen = []
    line = Line(seen.append)
    for level in (0, 1, 1, True, 0, False):
        line.set(level)
    line.pulse()
    assert seen == [True, False, True, False]
