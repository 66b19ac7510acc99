# SPDX-License-Identifier: Apache-2.0
"""Output of a serial port that native code holds to the end of a line, or for a while, before Python writes it."""

from __future__ import annotations

from typing import ClassVar, Final

from raddle.devices.base import WORD
from raddle.ir.builder import Builder, Value, native
from raddle.ir.types import Condition, Type
from raddle.machine.chardev import CharDevice
from raddle.machine.clock import END_OF_TIME, Clock
from raddle.memory import HostMemory
from raddle.stateful import Stateful

__all__ = ["HOLD_NS", "HeldOutput"]

HOLD_NS: Final = 2_000_000
"""The longest time for which a byte is held, in nanoseconds of the machine's clock."""
HELD_SIZE: Final = 4096
HELD_END, HELD_LIMIT, HELD_START = 0, 1, 8
"""In the memory of held bytes: words with the offset after the last byte and the offset of the end of the room (0:
nothing may be held), and the offset of the first byte."""


class HeldOutput(Stateful):
    """A byte goes to the character device at once if nothing was sent for a while. Native code holds the following
    bytes, without Python, to the end of the line, or for at most HOLD_NS. Everything is called under the big lock.
    """

    STATE: ClassVar = ("_held", "_settled", "_timer")

    def __init__(self, console: CharDevice, clock: Clock, name: str) -> None:
        self._console = console
        self._clock = clock
        self._held = HostMemory(HELD_SIZE, name)
        self._held.words[HELD_END] = HELD_START
        self._settled = HELD_START
        """The offset of the first held byte."""
        self._timer = clock.timer(self._held_long_enough)

    def reset(self) -> None:
        """Send held bytes; nothing is held until a byte is sent."""
        self._timer.cancel()
        self._held.words[HELD_LIMIT] = 0
        self._flush()

    def settle(self) -> None:
        """Send held bytes. It changes nothing else, so that a pause does not change a run."""
        data = self._unsent()
        self._settled = self._held.words[HELD_END]
        if data:
            self._console.write(data)

    def send(self, byte: int) -> None:
        """Send held bytes, and one more; the following ones may be held for a while."""
        self._flush(byte)
        self._hold()

    def _unsent(self) -> bytes:
        return bytes(self._held.bytes[self._settled : self._held.words[HELD_END]])

    def _flush(self, *last: int) -> None:
        data = self._unsent() + bytes(last)
        self._held.words[HELD_END] = self._settled = HELD_START
        if data:
            self._console.write(data)

    def _hold(self) -> None:
        until = self._clock.clock_ns() + HOLD_NS
        self._held.words[HELD_LIMIT] = HELD_SIZE if until <= END_OF_TIME else 0
        self._timer.set(until)

    def _held_long_enough(self) -> None:
        if self._held.words[HELD_END] == HELD_START:
            self._held.words[HELD_LIMIT] = 0
        else:
            self._flush()
            self._hold()

    def hold(self, b: Builder, value: Value) -> None:
        """Emit code that holds the low byte of `value` (I64) and returns 0 from the routine, if there is room and the
        byte does not end a line; else it goes on.
        """
        byte = b.and_(value, 0xFF)
        held = self._held.address

        def load(address: int) -> Value:
            return b.call(native("host_load32"), b.const(address, Type.I64), type=Type.I64)

        end = load(held + WORD * HELD_END)
        room = b.icmp(Condition.ULT, end, load(held + WORD * HELD_LIMIT))
        with b.if_(b.and_(room, b.ne(byte, ord("\n")))):
            b.call(native("host_store8"), b.add(end, held), byte)
            b.call(native("host_store32"), b.const(held + WORD * HELD_END, Type.I64), b.add(end, 1))
            b.ret(b.const(0, Type.I64))
