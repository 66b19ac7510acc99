# SPDX-License-Identifier: Apache-2.0
"""Families: instruction words that differ only in registers and literals. With a family's description and the template
of one of its words, the runtime makes the templates of its other words without Python.

A word belongs to a family if it has the family's *fixed* bits and matches none of its exceptions. Its registers and
literals are linear functions of its other bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from struct import Struct
from typing import Final

from raddle.ir.types import LiteralKind
from raddle.runtime._native import lib
from raddle.translate.pattern import Operand
from raddle.translate.sharing import Sharing

_M32: Final = (1 << 32) - 1
_MOST_VALUES: Final = 64
"""A predicate is tried with all choices of registers if there are at most so many. Otherwise these registers are fixed
in its families."""


class Families:
    """Finds the families of the words of one pattern. Used under the translator's lock."""

    def __init__(self, sharing: Sharing, registers: int, kinds: Sequence[LiteralKind] = ()) -> None:
        """`registers` is how many registers can be renamed: 0 if the host renames none. `kinds` are the host's
        `BackEnd.literal_kinds`."""
        pattern = sharing.pattern
        self.sharing = sharing
        self._pattern = pattern
        self._names = sharing.names if registers else ()
        self._list = sharing.list_name if registers else ""
        self._verdicts: dict[tuple[int, int], bool] = {}
        self._linears: dict[tuple[str, int], bytes] = {}
        renamed = (*self._names, self._list) if self._list else self._names
        self._fixed = pattern.mask | _M32 << pattern.width & _M32 | pattern.key_mask_without(renamed)
        """Bits that are the same in all words of a family."""
        for name in (*renamed, *pattern.hole_names):
            self._fixed |= pattern.selector_bits(name)
        self._kinds = kinds
        varying = ((name, pattern.selector_bits(name)) for name in pattern.hole_names)
        self._varying = [(name, bits) for name, bits in varying if kinds and bits]
        """The literals that differ in kind between families, with the bits that the kind depends on."""
        self._known_kinds: dict[tuple[str, int], LiteralKind | None] = {}
        self._predicates = [self._parts(predicate) for predicate in pattern.predicates]

    def _parts(self, predicate: Operand) -> tuple[Operand, int, int]:
        """The predicate, the bits of its fields that are register numbers, and the bits of its other fields."""
        registers = others = 0
        for letter in predicate.letters:
            bits = self._pattern.letter_bits(letter)
            if letter in self._names:
                registers |= bits
            else:
                others |= bits
        return predicate, registers, others

    def fixed_bits(self, word: int, open_literal: bool) -> int:
        """The bits that are the same in all words of the family of `word`. The bits of an open literal are not."""
        fixed = self._fixed
        if open_literal:
            fixed &= self.sharing.literal_mask | ~self._pattern.key_mask
        for number, (_, registers, others) in enumerate(self._predicates):
            fixed |= others
            if not self._always_holds(number, word):
                fixed |= registers
        return fixed

    def _always_holds(self, number: int, word: int) -> bool:
        """Whether the predicate holds for all register numbers if the other fields are those of `word`."""
        predicate, _, others = self._predicates[number]
        pattern = self._pattern
        key = number, word & others
        verdict = self._verdicts.get(key)
        if verdict is None:
            choices = [
                range(1 << pattern.letter_width(letter)) if letter in self._names else (pattern.letter(letter, word),)
                for letter in predicate.letters
            ]
            verdict = prod(map(len, choices)) <= _MOST_VALUES and all(
                predicate.function(*values) for values in product(*choices)
            )
            self._verdicts[key] = verdict
        return verdict

    def literal_kinds(self, word: int) -> tuple[tuple[str, LiteralKind], ...]:
        """The literals that are of one of the host's kinds in all words of the family of `word`, while in other
        families they may not be: each with the first such kind."""
        if not self._varying:
            return ()
        found = ((name, self._kind(name, word, bits)) for name, bits in self._varying)
        return tuple((name, kind) for name, kind in found if kind is not None)

    def _kind(self, name: str, word: int, bits: int) -> LiteralKind | None:
        key = name, word & bits
        if key not in self._known_kinds:
            literals = self._pattern.literals_near(name, word)
            self._known_kinds[key] = next((kind for kind in self._kinds if kind.has(literals)), None)
        return self._known_kinds[key]

    def describe(self, word: int, decode_state: int, fixed: int, open_literal: bool) -> bytes | None:
        """The family of `word` as a struct raddle_family; None if it does not fit into one.

        `fixed` is the result of `fixed_bits`.
        """
        pattern, sharing = self._pattern, self.sharing
        exceptions = [*pattern.excluded, *((other.mask, other.value) for other in pattern.exceptions)]
        if open_literal:
            bits = pattern.letter_bits(sharing.literal)
            exceptions += [(bits, pattern.letter_bits(sharing.literal, v)) for v in sharing.closed(word) or ()]
        # No word of the family matches an exception that contradicts the fixed bits.
        exceptions = [(mask, value) for mask, value in exceptions if not (word ^ value) & mask & fixed]
        literals = [*pattern.hole_names, *([sharing.literal] if open_literal else ())]
        if len(exceptions) > _EXCEPTIONS or len(self._names) > _NAMES or len(literals) > _LITERALS:
            return None
        head = (
            fixed | _M32 << 32,
            word & fixed | decode_state << 32,
            len(exceptions),
            len(self._names),
            len(literals),
            0,
        )
        parts = [_HEAD(*head), *(_PAIR(*exception) for exception in exceptions)]
        parts.append(bytes(_PAIR_SIZE * (_EXCEPTIONS - len(exceptions))))
        for names, room in (([self._list] if self._list else [], 1), (self._names, _NAMES), (literals, _LITERALS)):
            packed = [self._linear(name, word) for name in names]
            if not all(packed):
                return None
            parts += packed
            parts.append(bytes(_LINEAR_SIZE * (room - len(packed))))
        return b"".join(parts)

    def _linear(self, name: str, word: int) -> bytes:
        """The operand as a struct raddle_linear; empty if it has too many terms."""
        key = name, word & self._pattern.selector_bits(name)
        packed = self._linears.get(key)
        if packed is None:
            base, terms = self._pattern.linear(name, word)
            fields = [value for shift, mask, factor in terms for value in (shift, mask.bit_length(), 0, factor)]
            fields += [0] * (4 * _TERMS - len(fields))
            packed = self._linears[key] = b"" if len(terms) > _TERMS else _LINEAR(base, len(terms), *fields)
        return packed


_EXCEPTIONS: Final = int(lib.RADDLE_FAMILY_EXCEPTIONS)
_NAMES: Final = int(lib.RADDLE_FAMILY_NAMES)
_LITERALS: Final = int(lib.RADDLE_FAMILY_LITERALS)
_TERMS: Final = int(lib.RADDLE_LINEAR_TERMS)
_HEAD: Final = Struct("<QQIIII").pack
_PAIR: Final = Struct("<II").pack
_PAIR_SIZE: Final = 8
_LINEAR: Final = Struct("<II" + _TERMS * "BBHI").pack
_LINEAR_SIZE: Final = 8 + 8 * _TERMS
