# SPDX-License-Identifier: Apache-2.0
"""UART 16550A: registers, FIFOs, interrupts, loopback, and what native code holds."""

import pytest

from raddle.devices.held_output import HOLD_NS
from raddle.devices.uart16550 import UART16550
from raddle.machine.chardev import MemoryConsole
from raddle.machine.lines import Line
from raddle.testing.device_bench import HandClock, Native

DATA, IER, IIR, FCR, LCR, MCR, LSR, MSR, SCR = 0, 1, 2, 2, 3, 4, 5, 6, 7
RECEIVE, TRANSMIT, LINE, MODEM = 1, 2, 4, 8
NONE, CAUSE_TRANSMIT, CAUSE_RECEIVE, CAUSE_LINE, CAUSE_TIMEOUT, CAUSE_MODEM = 1, 2, 4, 6, 0xC, 0
LOOPBACK = 0x10


class Uart:
    def __init__(self):
        self.console = MemoryConsole()
        self.edges = 0
        self.line = Line(self._edge)
        self.clock = HandClock()
        self.device = UART16550(self.console, self.line, self.clock)
        self.console.on_input(self.device.receive)
        self.native = Native(self.device)

    def _edge(self, level):
        self.edges += level

    def get(self, offset):
        return self.device.read(offset, 1)

    def put(self, offset, value):
        self.device.write(offset, 1, value)


@pytest.fixture
def uart():
    return Uart()


def test_after_a_reset_it_is_ready_to_send_and_has_nothing_received(uart):
    assert [uart.get(offset) for offset in range(8)] == [0, 0, NONE, 0, 0, 0x60, 0xB0, 0]


def test_it_prints_and_receives(uart):
    for byte in b"Hi\r\n":
        uart.put(DATA, byte)
    assert uart.console.read() == "Hi\r\n"
    uart.console.send("ab")
    assert uart.get(LSR) == 0x61
    assert [uart.get(DATA), uart.get(DATA)] == [ord("a"), ord("b")]
    assert uart.get(LSR) == 0x60


def test_the_divisor_hides_data_and_interrupt_enable(uart):
    uart.put(IER, 5)
    uart.put(LCR, 0x83)
    uart.put(DATA, 0x34)
    uart.put(IER, 0x12)
    assert (uart.get(DATA), uart.get(IER)) == (0x34, 0x12)
    uart.put(LCR, 3)
    assert uart.get(IER) == 5
    assert uart.console.read() == ""


def test_a_probe_finds_scratch_register_fifos_and_loopback(uart):
    uart.put(SCR, 0xA5)
    assert uart.get(SCR) == 0xA5
    uart.put(FCR, 1)
    assert uart.get(IIR) >> 6 == 3
    uart.put(MCR, LOOPBACK | 0x0A)  # RTS and OUT2
    assert uart.get(MSR) & 0xF0 == 0x90
    uart.put(MCR, 0)
    assert uart.get(MSR) & 0xF0 == 0xB0


def test_the_transmitter_interrupts_when_it_is_allowed_to_and_after_each_byte(uart):
    uart.put(IER, TRANSMIT)
    assert uart.line.level
    assert uart.get(IIR) == CAUSE_TRANSMIT
    assert not uart.line.level
    assert uart.get(IIR) == NONE
    for sent in range(1, 3):
        before = uart.edges
        uart.put(DATA, ord("x"))
        assert uart.line.level
        assert uart.edges == before + 1, f"byte {sent}"
    uart.put(IER, 0)
    assert not uart.line.level


def test_a_transmit_interrupt_that_was_seen_comes_again_when_it_is_allowed_anew(uart):
    uart.put(IER, TRANSMIT)
    uart.get(IIR)
    uart.put(IER, TRANSMIT)
    assert not uart.line.level
    uart.put(IER, 0)
    uart.put(IER, TRANSMIT)
    assert uart.line.level


@pytest.mark.parametrize(("fcr", "level"), [(0x01, 1), (0x41, 4), (0x81, 8), (0xC1, 14), (0x00, 1)])
def test_the_receive_interrupt_waits_for_its_level_and_the_time_out_for_nothing(uart, fcr, level):
    uart.put(FCR, fcr)
    uart.put(IER, RECEIVE)
    fifos = 0xC0 if fcr else 0
    for sent in range(1, level + 1):
        uart.console.send("x")
        assert uart.line.level
        assert uart.get(IIR) == fifos | (CAUSE_RECEIVE if sent >= level else CAUSE_TIMEOUT)
    for _ in range(level):
        uart.get(DATA)
    assert not uart.line.level


def test_what_has_no_room_waits_and_nothing_is_lost(uart):
    uart.put(FCR, 1)
    uart.console.send("x" * 40)
    got = 0
    while uart.get(LSR) & 1:
        assert uart.get(DATA) == ord("x")
        got += 1
    assert got == 40


def test_the_receiver_can_be_emptied(uart):
    uart.put(FCR, 1)
    uart.console.send("abc")
    uart.put(FCR, 3)
    assert uart.get(LSR) == 0x60
    uart.console.send("d")
    assert uart.get(DATA) == ord("d")


def test_loopback_returns_what_is_sent_and_can_be_overrun(uart):
    uart.put(MCR, LOOPBACK)
    uart.put(IER, RECEIVE | LINE)
    uart.put(DATA, ord("a"))
    assert uart.get(IIR) == CAUSE_RECEIVE
    uart.put(DATA, ord("b"))
    assert uart.get(IIR) == CAUSE_LINE
    assert uart.get(LSR) == 0x63
    assert uart.get(LSR) == 0x61
    assert uart.get(IIR) == CAUSE_RECEIVE
    assert uart.get(DATA) == ord("a")
    assert uart.console.text == ""


def test_input_waits_during_loopback(uart):
    uart.put(MCR, LOOPBACK)
    uart.console.send("z")
    assert uart.get(LSR) == 0x60
    uart.put(MCR, 0)
    assert uart.get(DATA) == ord("z")


def test_modem_changes_interrupt_and_reading_them_ends_that(uart):
    uart.put(IER, MODEM)
    uart.put(MCR, LOOPBACK)
    assert uart.get(IIR) == CAUSE_MODEM
    assert uart.get(MSR) & 0xF == 0xB
    assert uart.get(IIR) == NONE


def test_a_reset_lowers_the_line_and_takes_waiting_input(uart):
    uart.put(IER, RECEIVE | TRANSMIT)
    uart.console.send("xy")
    assert uart.line.level
    uart.device.reset()
    assert not uart.line.level
    assert uart.get(DATA) == ord("y")


# --- without Python


def test_the_routine_reads_status_and_holds_bytes(uart):
    uart.put(DATA, ord("a"))
    for byte in b"bc":
        uart.native.write(DATA, 1, byte)
    assert uart.native.read(LSR, 1) == 0x60
    assert uart.native.passed == []
    assert uart.console.read() == "a"
    uart.native.write(DATA, 1, ord("\n"))
    assert uart.console.read() == "bc\n"
    uart.native.write(DATA, 1, ord("d"))
    uart.clock.move(HOLD_NS / 1e9)
    assert uart.console.read() == "d"


@pytest.mark.parametrize(("offset", "value"), [(IER, TRANSMIT), (LCR, 0x80), (MCR, LOOPBACK)])
def test_the_routine_passes_on_bytes_that_do_more_than_go_out(uart, offset, value):
    uart.put(DATA, ord("a"))
    uart.put(offset, value)
    uart.native.write(DATA, 1, ord("b"))
    assert uart.native.passed == [(DATA, 0x101)]


def test_the_routine_passes_on_a_status_with_an_error(uart):
    uart.put(MCR, LOOPBACK)
    uart.put(DATA, 1)
    uart.put(DATA, 2)
    assert uart.native.read(LSR, 1) == 0x63
    assert uart.native.read(LSR, 1) == 0x61
    assert uart.native.passed == [(LSR, 1)]


def test_it_settles(uart):
    uart.put(DATA, ord("a"))
    uart.native.write(DATA, 1, ord("b"))
    for _ in range(2):
        uart.device.settle()
        assert uart.console.text == "ab"
