# SPDX-License-Identifier: Apache-2.0
"""UART 16550A (National Semiconductor, PC16550D). It sends and receives at once: baud rates are stored and change
nothing."""

from __future__ import annotations

from collections import deque
from typing import ClassVar, Final

from raddle.devices.base import WRITE, Device, Register
from raddle.devices.held_output import HeldOutput
from raddle.ir.builder import Builder, Value, native
from raddle.ir.types import Type
from raddle.machine.chardev import CharDevice
from raddle.machine.clock import Clock
from raddle.machine.lines import Line

__all__ = ["UART16550"]

FIFO_DEPTH: Final = 16
RECEIVE_LEVELS: Final = (1, 4, 8, 14)
"""By FCR bits 7:6."""

IER_RECEIVE, IER_TRANSMIT, IER_LINE, IER_MODEM = 1, 2, 4, 8

IIR_NONE, IIR_MODEM, IIR_TRANSMIT, IIR_RECEIVE, IIR_LINE, IIR_TIMEOUT = 1, 0, 2, 4, 6, 0xC
IIR_FIFOS: Final = 0xC0

FCR_ENABLE, FCR_CLEAR_RECEIVER = 1, 2
LCR_DIVISOR: Final = 0x80
"""DLAB: the first two registers are the divisor."""
MCR_DTR, MCR_RTS, MCR_OUT1, MCR_OUT2, MCR_LOOPBACK = 1, 2, 4, 8, 0x10
LSR_READY, LSR_OVERRUN, LSR_EMPTY = 1, 2, 0x60
MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD = 0x10, 0x20, 0x40, 0x80
MSR_CONNECTED: Final = MSR_CTS | MSR_DSR | MSR_DCD
LOOPED: Final = ((MCR_RTS, MSR_CTS), (MCR_DTR, MSR_DSR), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD))


class UART16550(Device):
    """A UART on a character device.

    The line is idle whenever a byte waits, so the time-out of the receiver's FIFO has always passed: waiting data
    raises the time-out interrupt at once, and the receive interrupt when as many bytes wait as FCR asks for.

    Input waits in the character device until there is room, so nothing is lost. The receiver can be overrun only by the
    guest's own sending, in loopback mode.

    The transmitter is empty again as soon as a byte is written, so it interrupts after each write while IER allows it.
    """

    NAME = "uart16550"
    SIZE = 8
    REGISTERS: ClassVar = (
        Register(0, "DATA", size=1, writable=0xFF),
        Register(1, "IER", size=1, writable=0xFF),
        Register(2, "IIR", size=1, writable=0xFF),
        Register(3, "LCR", size=1, writable=0xFF, hot=True),
        Register(4, "MCR", size=1, readable=0x1F, writable=0x1F, hot=True),
        Register(5, "LSR", size=1, reset=LSR_EMPTY),
        Register(6, "MSR", size=1, reset=MSR_CONNECTED),
        Register(7, "SCR", size=1, writable=0xFF, hot=True),
    )
    STATE: ClassVar = ("_line", "_received", "_output", "_divisor", "_control", "_transmitted")

    def __init__(self, console: CharDevice, line: Line, clock: Clock) -> None:
        super().__init__()
        self._console = console
        self._line = line
        self._received: deque[int] = deque()
        self._output = HeldOutput(console, clock, self.NAME)
        self._divisor = 0
        self._control = 0
        """FCR."""
        self._transmitted = False
        """The transmitter is empty, and IIR has not said so since it became so."""

    def reset(self) -> None:
        super().reset()
        self._output.reset()
        self._received.clear()
        self._divisor = self._control = 0
        self._transmitted = False
        self._update()
        self.receive()  # input that waited for room: there will be no other call for it

    def settle(self) -> None:
        """Send held bytes. It changes nothing else, so that a pause does not change a run."""
        self._output.settle()

    def receive(self) -> None:
        """Take input that waits in the character device, as far as there is room. Called when there is new input."""
        if self.value("MCR") & MCR_LOOPBACK:
            return
        room = self._depth() - len(self._received)
        if room > 0 and (data := self._console.take(room)):
            self._received.extend(data)
            self._update()

    def _depth(self) -> int:
        return FIFO_DEPTH if self._control & FCR_ENABLE else 1

    # --- registers

    def read_DATA(self, _: int) -> int:
        if self.value("LCR") & LCR_DIVISOR:
            return self._divisor & 0xFF
        if not self._received:
            return 0
        byte = self._received.popleft()
        self._update()
        self.receive()
        return byte

    def write_DATA(self, _: int, value: int, mask: int) -> None:
        if self.value("LCR") & LCR_DIVISOR:
            self._divisor = self._divisor & 0xFF00 | value
            return
        self._transmitted = False
        self._update()
        if not self.value("MCR") & MCR_LOOPBACK:
            self._output.send(value)
        elif len(self._received) < self._depth():
            self._received.append(value)
        else:
            self.store("LSR", self.value("LSR") | LSR_OVERRUN)
        self._transmitted = True
        self._update()

    def read_IER(self, _: int) -> int:
        return self._divisor >> 8 if self.value("LCR") & LCR_DIVISOR else self.value("IER")

    def write_IER(self, _: int, value: int, mask: int) -> None:
        if self.value("LCR") & LCR_DIVISOR:
            self._divisor = self._divisor & 0xFF | value << 8
            return
        if value & ~self.value("IER") & IER_TRANSMIT:  # whoever allows it is told that the transmitter is empty
            self._transmitted = True
        self.store("IER", value & 0xF)
        self._update()

    def read_IIR(self, _: int) -> int:
        cause = self._cause()
        if cause == IIR_TRANSMIT:
            self._transmitted = False
            self._update()
        return cause | (IIR_FIFOS if self._control & FCR_ENABLE else 0)

    def write_IIR(self, _: int, value: int, mask: int) -> None:
        """This is FCR."""
        if (value ^ self._control) & FCR_ENABLE or value & FCR_CLEAR_RECEIVER:
            self._received.clear()
        self._control = value
        self._update()
        self.receive()

    def write_MCR(self, _: int, value: int, mask: int) -> None:
        self.store("MCR", value)
        shown = MSR_CONNECTED
        if value & MCR_LOOPBACK:
            shown = sum(modem for control, modem in LOOPED if value & control)
        old = self.value("MSR")
        changes = (old ^ shown) >> 4 & 0xB  # the third bit counts only falling edges
        if old & ~shown & MSR_RI:
            changes |= MSR_RI >> 4
        self.store("MSR", shown | old & 0xF | changes)
        self._update()
        self.receive()

    def read_LSR(self, _: int) -> int:
        status = self.value("LSR")
        self.store("LSR", status & ~LSR_OVERRUN)
        self._update()
        return status

    def read_MSR(self, _: int) -> int:
        status = self.value("MSR")
        self.store("MSR", status & 0xF0)
        self._update()
        return status

    # --- interrupts

    def _cause(self) -> int:
        """The interrupt of the highest priority that IER allows, as IIR shows it."""
        enabled, waiting = self.value("IER"), len(self._received)
        if enabled & IER_LINE and self.value("LSR") & LSR_OVERRUN:
            return IIR_LINE
        if enabled & IER_RECEIVE and waiting:
            level = RECEIVE_LEVELS[self._control >> 6] if self._control & FCR_ENABLE else 1
            return IIR_RECEIVE if waiting >= level else IIR_TIMEOUT
        if enabled & IER_TRANSMIT and self._transmitted:
            return IIR_TRANSMIT
        if enabled & IER_MODEM and self.value("MSR") & 0xF:
            return IIR_MODEM
        return IIR_NONE

    def _update(self) -> None:
        """Show what has changed, and drive the line. OUT2 is the gate of the interrupt on the boards that have it; this
        line has none.
        """
        ready = LSR_READY if self._received else 0
        self.store("LSR", self.value("LSR") & ~LSR_READY | ready)
        self._line.set(self._cause() != IIR_NONE)

    # --- without Python

    def serve(self, b: Builder, offset: Value, how: Value, value: Value) -> None:
        """Read LSR while it has no error, which a read would clear, and hold bytes that do not end a line, while a byte
        that is sent interrupts nobody.
        """

        def stored(name: str) -> Value:
            return b.call(native("host_load32"), b.const(self.address(name), Type.I64), type=Type.I64)

        with b.if_(b.and_(b.eq(offset, 5), b.eq(how, 1))):
            status = stored("LSR")
            with b.if_(b.eq(b.and_(status, LSR_OVERRUN), 0)):
                b.ret(status)
        with b.if_(b.and_(b.eq(offset, 0), b.eq(how, WRITE | 1))):
            busy = b.or_(b.and_(stored("IER"), IER_TRANSMIT), b.and_(stored("LCR"), LCR_DIVISOR))
            with b.if_(b.eq(b.or_(busy, b.and_(stored("MCR"), MCR_LOOPBACK)), 0)):
                self._output.hold(b, value)
