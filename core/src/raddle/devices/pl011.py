# SPDX-License-Identifier: Apache-2.0
"""PrimeCell UART PL011 (manual: DDI 0183G). It sends and receives at once: baud rates are stored and change nothing."""

from __future__ import annotations

from collections import deque
from typing import ClassVar, Final

from raddle.devices.base import WRITE, Device, Register
from raddle.devices.held_output import HeldOutput
from raddle.ir.builder import Builder, Value, native
from raddle.ir.types import Type
from raddle.machine.chardev import CharDevice
from raddle.machine.clock import END_OF_TIME, Clock
from raddle.machine.lines import Line

__all__ = ["PL011"]

PERIPHERAL_ID: Final = (0x11, 0x10, 0x14, 0x00, 0x0D, 0xF0, 0x05, 0xB1)

FIFO_DEPTH: Final = 16
LCR_FIFO_ENABLE: Final = 1 << 4
CR_LOOPBACK: Final = 1 << 7
FLAG_RECEIVE_EMPTY: Final = 1 << 4
FLAG_RECEIVE_FULL: Final = 1 << 6
FLAG_TRANSMIT_EMPTY: Final = 1 << 7
INTERRUPT_RECEIVE: Final = 1 << 4
INTERRUPT_TRANSMIT: Final = 1 << 5
INTERRUPT_TIMEOUT: Final = 1 << 6
INTERRUPT_OVERRUN: Final = 1 << 10
INTERRUPTS: Final = 0x7FF
RECEIVE_INTERRUPTS: Final = INTERRUPT_RECEIVE | INTERRUPT_TIMEOUT
DATA_OVERRUN: Final = 1 << 11
"""In DR: bytes were lost before this one."""
STATUS_OVERRUN: Final = 1 << 3
"""In RSR."""
RECEIVE_LEVELS: Final = (2, 4, 8, 12, 14, 14, 14, 14)
"""By IFLS bits 5:3: how full the FIFO is when it asks to be read. The last three are reserved."""
RECEIVE_TIMEOUT_NS: Final = 32 * 1_000_000_000 // 115_200
"""Nanoseconds (32 bits at a common speed) after which a cleared interrupt comes again if its condition still holds."""


class PL011(Device):
    """A UART on a character device.

    The line is idle whenever a byte waits, so the receive time-out has always passed: waiting data raises the time-out
    interrupt at once, and the receive interrupt when as many bytes wait as IFLS asks for. Clearing them (ICR) silences
    them for RECEIVE_TIMEOUT_NS: so a driver that clears them after its last look at the FIFO misses nothing, and one
    that clears them and reads the FIFO later makes progress.

    Input waits in the character device until there is room, so nothing is lost. The receiver can be overrun only by the
    guest's own sending, in loopback mode.

    Native code holds bytes that the guest sends, without Python, to the end of the line or for a while. After the vCPUs
    were stopped, the machine calls `settle`.
    """

    NAME = "pl011"
    REGISTERS: ClassVar = (
        Register(0x000, "DR", readable=0xFFF, writable=0xFF),
        Register(0x004, "RSR", readable=0xF, writable=0xFF),
        Register(0x018, "FR", reset=FLAG_TRANSMIT_EMPTY | FLAG_RECEIVE_EMPTY, hot=True),
        Register(0x020, "ILPR", readable=0xFF, writable=0xFF),
        Register(0x024, "IBRD", readable=0xFFFF, writable=0xFFFF),
        Register(0x028, "FBRD", readable=0x3F, writable=0x3F),
        Register(0x02C, "LCR_H", readable=0xFF, writable=0xFF),
        Register(0x030, "CR", reset=0x300, readable=0xFF87, writable=0xFF87),
        Register(0x034, "IFLS", reset=0x12, readable=0x3F, writable=0x3F),
        Register(0x038, "IMSC", readable=INTERRUPTS, writable=INTERRUPTS),
        Register(0x03C, "RIS"),
        Register(0x040, "MIS"),
        Register(0x044, "ICR", readable=0, writable=INTERRUPTS),
        Register(0x048, "DMACR", readable=7, writable=7),
        *(Register(0xFE0 + 4 * n, f"ID{n}", reset=value) for n, value in enumerate(PERIPHERAL_ID)),
    )
    STATE: ClassVar = ("_line", "_received", "_output", "_overrun", "_again_timer")

    def __init__(self, console: CharDevice, line: Line, clock: Clock) -> None:
        super().__init__()
        self._console = console
        self._line = line
        self._clock = clock
        self._received: deque[int] = deque()
        self._output = HeldOutput(console, clock, self.NAME)
        self._overrun = False
        """A byte was lost; the next received byte will say so."""
        self._again_timer = clock.timer(self._look_again)

    def reset(self) -> None:
        super().reset()
        self._again_timer.cancel()
        self._output.reset()
        self._received.clear()
        self._overrun = False
        self._update()
        self.receive()  # input that waited for room: there will be no other call for it

    def settle(self) -> None:
        """Send held bytes. It changes nothing else, so that a pause does not change a run."""
        self._output.settle()

    def receive(self) -> None:
        """Take input that waits in the character device, as far as there is room. Called when there is new input."""
        room = self._depth() - len(self._received)
        if room <= 0:
            return
        data = self._console.take(room)
        if data:
            self._accept(data)

    def _accept(self, data: bytes) -> None:
        """Fill the FIFO as far as it has room."""
        self._received.extend(data)
        if self._overrun:
            self._received[-len(data)] |= DATA_OVERRUN
            self._overrun = False
        self._show_flags()
        self._raise(self._conditions())

    def _conditions(self) -> int:
        """The receive interrupts whose conditions hold."""
        waiting = len(self._received)
        level = RECEIVE_LEVELS[self.value("IFLS") >> 3] if self.value("LCR_H") & LCR_FIFO_ENABLE else 1
        return (INTERRUPT_RECEIVE if waiting >= level else 0) | (INTERRUPT_TIMEOUT if waiting else 0)

    def _look_again(self) -> None:
        """An interrupt was cleared a while ago."""
        self._raise(self._conditions())

    def _show_flags(self) -> None:
        """Update FR after a change of the received bytes, or of the FIFO's depth."""
        flags = FLAG_TRANSMIT_EMPTY
        if not self._received:
            flags |= FLAG_RECEIVE_EMPTY
        elif len(self._received) >= self._depth():
            flags |= FLAG_RECEIVE_FULL
        self.store("FR", flags)

    def _depth(self) -> int:
        return FIFO_DEPTH if self.value("LCR_H") & LCR_FIFO_ENABLE else 1

    # --- registers

    def read_DR(self, _: int) -> int:
        if not self._received:
            return 0
        byte = self._received.popleft()
        self._show_flags()
        self._clear(RECEIVE_INTERRUPTS & ~self._conditions())
        self.receive()
        return byte

    def write_DR(self, _: int, value: int, mask: int) -> None:
        if self.value("CR") & CR_LOOPBACK:
            if len(self._received) < self._depth():
                self._accept(bytes((value,)))
            else:
                self._overrun = True
                self.store("RSR", STATUS_OVERRUN)
                self._raise(INTERRUPT_OVERRUN)
        else:
            self._output.send(value)
        self._raise(INTERRUPT_TRANSMIT)

    def write_RSR(self, _: int, value: int, mask: int) -> None:
        """This is ECR: any write clears the errors."""
        self.store("RSR", 0)

    def write_LCR_H(self, _: int, value: int, mask: int) -> None:
        old = self.value("LCR_H")
        self.store("LCR_H", old & ~mask | value)
        if (old ^ self.value("LCR_H")) & LCR_FIFO_ENABLE:
            self._received.clear()
            self._show_flags()
            self._clear(RECEIVE_INTERRUPTS)
            self.receive()

    def write_IFLS(self, _: int, value: int, mask: int) -> None:
        self.store("IFLS", self.value("IFLS") & ~mask | value)
        self._clear(RECEIVE_INTERRUPTS & ~self._conditions())
        self._raise(self._conditions())

    def write_IMSC(self, _: int, value: int, mask: int) -> None:
        self.store("IMSC", self.value("IMSC") & ~mask | value)
        self._update()

    def read_MIS(self, _: int) -> int:
        return self.value("RIS") & self.value("IMSC")

    def write_ICR(self, _: int, value: int, mask: int) -> None:
        self._clear(value)
        if value & self._conditions():
            again = self._clock.clock_ns() + RECEIVE_TIMEOUT_NS
            if again < END_OF_TIME:
                self._again_timer.set(again)
            else:  # no timer comes there any more
                self._look_again()

    # --- sending

    def serve(self, b: Builder, offset: Value, how: Value, value: Value) -> None:
        """Hold bytes that do not end a line, and for which `write_DR` would only send them, because the transmit
        interrupt is already pending.
        """

        def stored(name: str) -> Value:
            return b.call(native("host_load32"), b.const(self.address(name), Type.I64), type=Type.I64)

        with b.if_(b.and_(b.eq(offset, 0), b.and_(b.ne(b.and_(how, WRITE), 0), b.ne(how, WRITE | 8)))):
            pending = b.ne(b.and_(stored("RIS"), INTERRUPT_TRANSMIT), 0)
            sends = b.eq(b.and_(stored("CR"), CR_LOOPBACK), 0)
            with b.if_(b.and_(pending, sends)):
                self._output.hold(b, value)

    # --- interrupts

    def _raise(self, bits: int) -> None:
        self.store("RIS", self.value("RIS") | bits)
        self._update()

    def _clear(self, bits: int) -> None:
        self.store("RIS", self.value("RIS") & ~bits)
        self._update()

    def _update(self) -> None:
        self._line.set(self.read_MIS(0))
