# SPDX-License-Identifier: Apache-2.0
"""Two 8259A interrupt controllers, the second one cascaded to input 2 of the first (Intel, 8259A data sheet), and the
edge and level registers of the bridges that contain them (ELCR).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Final

from raddle.devices.base import Device, Register
from raddle.machine.lines import Line
from raddle.stateful import Stateful

__all__ = ["I8259Pair"]

INPUTS: Final = 8
CASCADE: Final = 2
SPURIOUS: Final = 7

ICW1, ICW1_LEVEL, ICW1_SINGLE, ICW1_ICW4 = 0x10, 0x08, 0x02, 0x01
ICW4_AUTO_EOI, ICW4_NESTED = 0x02, 0x10
OCW3, OCW3_MASK, OCW3_SPECIAL, OCW3_POLL, OCW3_READ, OCW3_ISR = 0x08, 0x40, 0x20, 0x04, 0x02, 0x01
OCW2_ROTATE, OCW2_SPECIFIC, OCW2_EOI = 0x80, 0x40, 0x20

LEVEL_CAPABLE: Final = (0xF8, 0xDE)
"""Inputs that ELCR can make level-triggered: not timer, keyboard, cascade, clock and coprocessor."""


class _Chip(Stateful):
    """One controller."""

    STATE: ClassVar = (
        *("levels", "elcr", "requests", "in_service", "mask", "base", "lowest", "words"),
        *("auto_end", "rotates", "special_mask", "shows_service", "polls", "nested", "_output"),
    )

    def __init__(self, second: bool, output: Line) -> None:
        self._second = second
        self._output = output
        self.levels = 0
        """The inputs that are high."""
        self.elcr = 0
        self.reset()

    def reset(self) -> None:
        """Also the effect of ICW1, which leaves ELCR and the inputs alone."""
        self.requests = self.levels & self.elcr
        self.in_service = self.mask = self.base = 0
        self.lowest = INPUTS - 1
        """The input with the lowest priority; the next one has the highest."""
        self.auto_end = self.rotates = self.special_mask = self.shows_service = self.polls = self.nested = False
        self.words: list[str] = []
        """The initialization words that the data port expects, the next one last."""

    def start(self, word: int) -> None:
        """ICW1."""
        self.reset()
        self.words = (["icw4"] if word & ICW1_ICW4 else []) + ([] if word & ICW1_SINGLE else ["icw3"]) + ["icw2"]

    def set(self, number: int, level: bool) -> None:
        """An input changes."""
        bit = 1 << number
        if self.elcr & bit:
            self.requests = self.requests | bit if level else self.requests & ~bit
        elif level:
            if not self.levels & bit:
                self.requests |= bit
        else:
            self.requests &= ~bit
        self.levels = self.levels | bit if level else self.levels & ~bit
        self.update()

    def _rank(self, bits: int) -> int:
        """The place in the order of priorities, 0 the highest, of the first input that is set; INPUTS for none."""
        for rank in range(INPUTS):
            if bits >> (self.lowest + 1 + rank) % INPUTS & 1:
                return rank
        return INPUTS

    def pending(self) -> int | None:
        """The input that interrupts; None if there is none."""
        rank = self._rank(self.requests & ~self.mask)
        serving = self.in_service & ~self.mask if self.special_mask else self.in_service
        if self.nested and not self._second:  # the second controller may have something more urgent than what it had
            serving &= ~(1 << CASCADE)
        if rank == INPUTS or rank >= self._rank(serving):
            return None
        return (self.lowest + 1 + rank) % INPUTS

    def update(self) -> None:
        self._output.set(self.pending() is not None)

    def acknowledge(self, number: int) -> None:
        """`number` is served from now on."""
        bit = 1 << number
        if not self.elcr & bit:
            self.requests &= ~bit
        if not self.auto_end:
            self.in_service |= bit
        elif self.rotates:
            self.lowest = number
        self.update()

    def end(self, word: int) -> None:
        """OCW2: an end of interrupt, a rotation of priorities, or both."""
        number = word & 7
        if word & OCW2_EOI:
            if not word & OCW2_SPECIFIC:
                rank = self._rank(self.in_service & ~self.mask if self.special_mask else self.in_service)
                if rank == INPUTS:
                    return
                number = (self.lowest + 1 + rank) % INPUTS
            self.in_service &= ~(1 << number)
            if word & OCW2_ROTATE:
                self.lowest = number
        elif word & OCW2_SPECIFIC:
            if word & OCW2_ROTATE:
                self.lowest = number
        else:
            self.rotates = bool(word & OCW2_ROTATE)
        self.update()

    def command(self, word: int) -> None:
        """A write of the first port."""
        if word & ICW1:
            self.start(word)
        elif not word & OCW3:
            self.end(word)
        else:
            self.polls = bool(word & OCW3_POLL)
            if word & OCW3_READ:
                self.shows_service = bool(word & OCW3_ISR)
            if word & OCW3_MASK:
                self.special_mask = bool(word & OCW3_SPECIAL)
        self.update()

    def data(self, word: int) -> None:
        """A write of the second port: a word that is expected, or the mask."""
        match self.words.pop() if self.words else "ocw1":
            case "icw2":
                self.base = word & 0xF8
            case "icw4":
                self.auto_end, self.nested = bool(word & ICW4_AUTO_EOI), bool(word & ICW4_NESTED)
            case "ocw1":
                self.mask = word
        self.update()

    def status(self) -> int:
        """A read of the first port, when it is no poll."""
        return self.in_service if self.shows_service else self.requests

    def set_elcr(self, value: int) -> None:
        """Choose which inputs are level-triggered."""
        self.elcr = value
        self.requests = self.requests & ~value | self.levels & value
        self.update()


class I8259Pair(Device):
    """Both controllers. The registers are the ports of the first one, of the second one, and ELCR of both."""

    NAME = "i8259"
    SIZE = 6
    REGISTERS: ClassVar = (
        Register(0, "COMMAND", size=1, writable=0xFF),
        Register(1, "DATA", size=1, writable=0xFF),
        Register(2, "COMMAND2", size=1, writable=0xFF),
        Register(3, "DATA2", size=1, writable=0xFF),
        Register(4, "ELCR", size=1, writable=LEVEL_CAPABLE[0]),
        Register(5, "ELCR2", size=1, writable=LEVEL_CAPABLE[1]),
    )
    STATE: ClassVar = ("_chips",)

    def __init__(self, output: Line) -> None:
        """`output` is the first controller's interrupt request."""
        super().__init__()
        first = _Chip(False, output)
        self._chips = (first, _Chip(True, Line(partial(first.set, CASCADE))))
        self.inputs = tuple(Line(self._input(number)) for number in range(2 * INPUTS))
        """By interrupt number; input 2 is the second controller's, and nobody else's."""

    def _input(self, number: int) -> Callable[[bool], None]:
        return partial(self._chips[number // INPUTS].set, number % INPUTS)

    def reset(self) -> None:
        super().reset()
        for chip in self._chips:
            chip.elcr = 0
            chip.reset()
        for chip in reversed(self._chips):
            chip.update()

    def acknowledge(self) -> int:
        """The processor's acknowledge cycle: the vector of what is most urgent, which is served from now on. If nothing
        is, the vector of input 7.
        """
        return self._acknowledge(0)

    def _acknowledge(self, which: int) -> int:
        chip = self._chips[which]
        number = chip.pending()
        if number is None:
            return chip.base + SPURIOUS
        if which == 0 and number == CASCADE:
            vector = self._acknowledge(1)
            chip.acknowledge(number)
            return vector
        chip.acknowledge(number)
        return chip.base + number

    def _poll(self, which: int) -> int:
        """A read after the poll command is an acknowledge cycle whose result says whether there is an interrupt."""
        chip = self._chips[which]
        chip.polls = False
        number = chip.pending()
        if number is None:
            return 0
        chip.acknowledge(number)
        return 0x80 | number

    # --- registers

    def _status(self, which: int) -> int:
        chip = self._chips[which]
        return self._poll(which) if chip.polls else chip.status()

    def _mask(self, which: int) -> int:
        chip = self._chips[which]
        return self._poll(which) if chip.polls else chip.mask

    def read_COMMAND(self, _: int) -> int:
        return self._status(0)

    def read_COMMAND2(self, _: int) -> int:
        return self._status(1)

    def read_DATA(self, _: int) -> int:
        return self._mask(0)

    def read_DATA2(self, _: int) -> int:
        return self._mask(1)

    def write_COMMAND(self, _: int, value: int, mask: int) -> None:
        self._chips[0].command(value)

    def write_COMMAND2(self, _: int, value: int, mask: int) -> None:
        self._chips[1].command(value)

    def write_DATA(self, _: int, value: int, mask: int) -> None:
        self._chips[0].data(value)

    def write_DATA2(self, _: int, value: int, mask: int) -> None:
        self._chips[1].data(value)

    def read_ELCR(self, _: int) -> int:
        return self._chips[0].elcr

    def read_ELCR2(self, _: int) -> int:
        return self._chips[1].elcr

    def write_ELCR(self, _: int, value: int, mask: int) -> None:
        self._chips[0].set_elcr(value)

    def write_ELCR2(self, _: int, value: int, mask: int) -> None:
        self._chips[1].set_elcr(value)
