# SPDX-License-Identifier: Apache-2.0
"""The part of the target contract that is about interrupts: an instruction that lets one in must end its block."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from random import Random
from typing import Final

import pytest

from raddle.ir.interpreter import CpuState, InterpreterError
from raddle.ir.types import Field
from raddle.testing.guest_runs import CODE, Start, Surroundings, interpreted
from raddle.testing.guest_under_test import ALL_LINES, Encodings, GuestUnderTest
from raddle.testing.masks import Masks
from raddle.translate.decode import Pattern
from raddle.translate.frontend import FrontEnd

UNMASKING_DRAWS: Final = 100
"""How many words of each line of an instruction in `unmasking` are tried in each mode until one unmasks."""
UNMASKING_RUNS: Final = 16
"""How often words of a line run that write a field which masks interrupts; each one until it unmasks."""


class InterruptContract(GuestUnderTest):
    """The tests of instructions that unmask interrupts. A guest's tests inherit `TargetContract`."""

    @pytest.fixture(scope="class", name="masks")
    @classmethod
    def _masks(cls, surroundings: Surroundings) -> Masks:
        return cls().find_masks(surroundings)

    def test_unmasked_interrupts_are_taken(
        self, table: Encodings, pattern: Pattern, surroundings: Surroundings, masks: Masks
    ) -> None:
        """With random words, and with words whose IR writes a field that masks interrupts."""
        random = Random(f"unmasks {table.name} {pattern.where}")
        for number in range(max(self.fills, len(table.modes))):
            word, mode = self._random_word(random, table, pattern), table.modes[number % len(table.modes)]
            if masks.may_unmask(pattern, word, mode):
                self._unmasks(random, table, pattern, word, mode, surroundings)
        words = list(islice(masks.words(random, table.decoder, pattern, table.modes), UNMASKING_RUNS))
        for word, mode in words:
            starts = range(UNMASKING_RUNS // len(words))
            any(self._unmasks(random, table, pattern, word, mode, surroundings) for _ in starts)  # until one does

    def test_interrupts_are_unmasked(self, surroundings: Surroundings) -> None:
        """The instructions in `unmasking` do it, so that the test before this one cannot miss them."""
        for name in sorted(self.unmasking):
            random = Random(f"unmasks {name}")
            lines = [(table, line) for table in self.encodings for line in table.decoder.patterns if line.name == name]
            assert lines, f"{name} is among `unmasking`, but in no table"
            tries = (
                self._unmasks(random, table, pattern, self._random_word(random, table, pattern), mode, surroundings)
                for _ in range(UNMASKING_DRAWS)
                for table, pattern in lines
                for mode in table.modes
            )
            assert any(tries), f"{name} is among `unmasking`, but no word of it unmasks an interrupt"

    def _unmasks(
        self, random: Random, table: Encodings, pattern: Pattern, word: int, mode: int, surroundings: Surroundings
    ) -> bool:
        """Whether the word lets in an interrupt that is pending, from a random state. If so, the execution loop must
        come next, which takes it: blocks are chained, so otherwise the guest could run on for ever.
        """
        start = self._start_with_interrupts(random, surroundings.guest, mode)
        try:
            finish = interpreted(surroundings, start, mode, word, table.size, routines=True)
            after = self.takes_interrupt(surroundings, finish.pc, finish.state, finish.header)
            if not after or self.takes_interrupt(surroundings, CODE, start.state, start.header):
                return False
        except InterpreterError:
            return False
        assert finish.to_loop, (
            f"{pattern.name} {word:#x} in mode {mode:#x} lets in an interrupt that is pending, but the block goes on; "
            "end it with exit_main"
        )
        return True

    def find_masks(self, surroundings: Surroundings) -> Masks:
        """The fields that mask interrupts: those that `interrupt` reads and for which it takes an interrupt with one
        value, and none with another one.
        """
        guest, random = surroundings.guest, Random("masks")
        found: set[Field] = set()
        read: set[Field] = set()

        def takes(cpu: CpuState) -> bool | None:
            """Whether an interrupt is taken; None if the state makes no sense to the guest."""
            surroundings.asked.clear()
            try:
                taken = self.takes_interrupt(surroundings, CODE, bytes(cpu.state), cpu.header)
            except InterpreterError:
                return None
            if not taken:
                read.update(surroundings.asked)
            return taken

        for mode in self._all_modes() * 2:  # two random starts in each mode
            start = self._start_with_interrupts(random, guest, mode)
            before = takes(CpuState(bytearray(start.state), dict(start.header)))
            for field in sorted(surroundings.asked - found, key=lambda field: field.offset):
                for value in (0, (1 << field.type.bits) - 1, *self.small_fields.get(field.name, ())):
                    cpu = CpuState(bytearray(start.state), dict(start.header))
                    cpu.write(field, value)
                    if None not in (before, after := takes(cpu)) and before is not after:
                        found.add(field)
        small = {guest.state.fields[name] for name in self.small_fields if name in guest.state.fields}
        return Masks(guest, found, read, small - found, self.undefined_callees)

    def _start_with_interrupts(self, random: Random, front_end: FrontEnd, mode: int) -> Start:
        """A random start at which all interrupt lines are pending."""
        start = self.random_start(random, front_end, mode)
        return replace(start, header={**start.header, "interrupt_request": ALL_LINES})
