# SPDX-License-Identifier: Apache-2.0
"""Which words of a decode table write the fields that mask a guest's interrupts, found from the IR that they make."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random
from typing import Final

from raddle.ir.builder import Builder, Callee, CalleeKind
from raddle.ir.header import COMMON
from raddle.ir.opcodes import Op
from raddle.ir.types import Field, FieldArray
from raddle.testing.differential import random_word
from raddle.translate.decode import Decoder, Pattern
from raddle.translate.frontend import FrontEnd

FEW: Final = 8
"""How many words of each line are looked at."""
MANY: Final = 64
"""How many more, if the few differ in the system state that they write, until none writes other state than before."""
MOST_BITS: Final = 12
"""If the few are all undefined, and at most so many bits select what the instruction does, each of their values is
looked at."""


class Masks:
    """The fields that mask the interrupts of ``front_end``, and what writes them.

    ``read`` are fields that its ``interrupt`` reads when it takes none; empty if that is not known. ``ordinary`` are
    fields that are no system state, besides registers, arrays and flags. ``undefined`` are routines for undefined
    instructions: what they write does not count.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        fields: Iterable[Field],
        read: Iterable[Field],
        ordinary: Iterable[Field],
        undefined: frozenset[str],
    ) -> None:
        self.fields = frozenset(fields)
        self._read = frozenset(read) - _INPUTS
        self._front_end = front_end
        self._undefined = undefined
        self._of_routines: dict[str, frozenset[Field]] = dict.fromkeys(undefined, frozenset())
        state = front_end.state
        registers = {field for field in front_end.registers if field is not None}
        arrays = {field for array in state.arrays.values() for field in array}
        self._ordinary = registers | arrays | {*ordinary, *state.hot_fields, *(state.nzcv or ())}

    def words(
        self, random: Random, decoder: Decoder, pattern: Pattern, modes: tuple[int, ...]
    ) -> Iterator[tuple[int, int]]:
        """Words of a line, with a mode, whose IR writes one of the fields; no two that only differ in registers or
        literals.
        """
        if not self.fields:
            return
        seen: set[tuple[int, int]] = set()
        effects: set[frozenset[Field] | None] = set()
        """The system state that words write; None stands for an undefined word."""
        found = all_undefined = False
        last_new = 0
        for number, word in enumerate(self._candidates(random, decoder, pattern, modes[0])):
            if number == FEW:
                all_undefined = effects == {None}
                if not all_undefined and not found and len(effects - {None}) == 1:
                    return
            if number - last_new > MANY and not all_undefined:
                return
            for mode in modes:
                key = word & self._selecting(pattern, mode), mode
                if key in seen:
                    continue
                seen.add(key)
                b = self._translated(pattern, word, mode)
                written = self._written(b)
                effect = None if not written and self._is_undefined(b) else written - self._ordinary
                if effect not in effects:
                    last_new = number
                    effects.add(effect)
                if written & self.fields:
                    found = True
                    yield word, mode

    def may_unmask(self, pattern: Pattern, word: int, mode: int) -> bool:
        """Whether a word may let in an interrupt: it writes something on which that depends."""
        if not self._read or not self._read.isdisjoint(_NOT_MASKS):
            return True
        b = self._translated(pattern, word, mode)
        return self._is_undefined(b) or not self._read.isdisjoint(self._written(b))

    def _translated(self, pattern: Pattern, word: int, mode: int) -> Builder:
        front_end = self._front_end
        b = Builder(front_end.word, front_end.state.nzcv)
        front_end.instruction_set(mode).translate(b, pattern, word, front_end.initial_decode_state(mode), mode)
        return b

    def _selecting(self, pattern: Pattern, mode: int) -> int:
        """The bits of a word that select what the instruction does, without its registers."""
        sharing = self._front_end.instruction_set(mode).sharing(pattern)
        return pattern.key_mask if sharing is None else sharing.key_mask

    def _candidates(self, random: Random, decoder: Decoder, pattern: Pattern, mode: int) -> Iterator[int]:
        """Words with many values of the bits that select what the instruction does."""
        for _ in range(FEW):
            word = random_word(decoder, pattern, random)
            if word is not None:
                yield word
        free = self._selecting(pattern, mode) & ~pattern.mask
        bits = [bit for bit in range(decoder.width) if free >> bit & 1]
        if len(bits) > MOST_BITS:
            for _ in range(MANY):
                word = random_word(decoder, pattern, random)
                if word is not None:
                    yield word
            return
        for value in random.sample(range(1 << len(bits)), 1 << len(bits)):
            selected = sum(1 << bit for number, bit in enumerate(bits) if value >> number & 1)
            word = pattern.value | selected | random.getrandbits(decoder.width) & ~(pattern.mask | free)
            if decoder.decode(word) is pattern:
                yield word

    def _is_undefined(self, b: Builder) -> bool:
        return any(isinstance(i.aux, Callee) and i.aux.name in self._undefined for i in b.code)

    def _written(self, b: Builder) -> frozenset[Field]:
        """The fields that a function writes, and those that the routines write that it calls."""
        found: set[Field] = set()
        for instruction in b.code:
            aux = instruction.aux
            if instruction.op is Op.SET and isinstance(aux, Field):
                found.add(aux)
            elif instruction.op is Op.SET_AT and isinstance(aux, FieldArray):
                found.update(aux)
            elif instruction.op in (Op.SET_NZ, Op.SET_NZCV):
                found.update(self._front_end.state.nzcv or ())
            elif isinstance(aux, Callee) and aux.kind is CalleeKind.ROUTINE:
                found |= self._of_routine(aux.name)
        return frozenset(found - _NOT_MASKS)

    def _of_routine(self, name: str) -> frozenset[Field]:
        if name not in self._of_routines:
            # One that calls itself finds this; of two that call each other, one may lack some.
            self._of_routines[name] = frozenset()
            b = Builder(self._front_end.word, self._front_end.state.nzcv)
            self._front_end.routines[name](b)
            self._of_routines[name] = self._written(b)
        return self._of_routines[name]


_INPUTS: Final = frozenset(COMMON[name] for name in ("interrupt_request", "arg0"))
"""What `interrupt` is called with."""
_NOT_MASKS: Final = frozenset(field for field in COMMON.values() if field.name not in ("mode", "interrupt_mask"))
"""Common fields that nearly every instruction may write, or that are no state of the guest's."""
