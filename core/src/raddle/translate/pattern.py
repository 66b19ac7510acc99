# SPDX-License-Identifier: Apache-2.0
"""Patterns: the lines of a decode table, and the operands of the words that match them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from inspect import signature
from operator import or_
from typing import Any, NamedTuple

from raddle.ir.types import ANY_LITERAL, Hole, LiteralKind, LiteralRange

UNDEFINED = "UNDEFINED"
"""The name of lines whose words are no instruction."""

Function = Callable[..., int]
"""Computes an operand from the values of fields, which are unsigned integers of the fields' widths."""


class Linear:
    """A function that is linear in most bits of its arguments. ``selectors`` has a mask for each argument, by its name,
    with the other bits: while these do not change, the function is a constant plus a multiple of each remaining bit.

    The runtime computes such operands by itself.
    """

    __slots__ = ("function", "selectors")

    def __init__(self, function: Function, **selectors: int) -> None:
        names = tuple(signature(function).parameters)
        assert selectors.keys() <= set(names)
        self.function = function
        self.selectors = tuple(selectors.get(name, 0) for name in names)


LinearTerms = tuple[int, tuple[tuple[int, int, int], ...]]
"""A linear function of a word: (base, terms); its value is base + the sum of ``(word >> shift & mask) * factor`` over
the terms (shift, mask, factor), modulo 2**32."""


class Fields:
    """The operands of one instruction word as attributes: integers, or a `Hole` for each literal hole."""

    __slots__ = ("__dict__",)

    def __getattr__(self, name: str) -> Any:
        """Called only if there is no such attribute."""
        raise AttributeError(f"the instruction has no operand {name!r}; it has {', '.join(self.__dict__) or 'none'}")

    def __contains__(self, name: str) -> bool:
        return name in self.__dict__

    def __repr__(self) -> str:
        return f"Fields({', '.join(f'{name}={value}' for name, value in self.__dict__.items())})"


class Operand(NamedTuple):
    """`name=function(letters)` or `name~function(letters)`; a predicate has no name."""

    name: str
    function: Function
    letters: str
    selectors: tuple[int, ...] | None = None
    """The selectors of a `Linear` function, a mask for each letter; None for another function."""


class Pattern:
    """One line of a table. Immutable to its users, and shared by all threads.

    A translation depends only on the pattern and on `word & key_mask`. Masked words of two patterns may be equal, so a
    key needs both: `key(word)` joins `index` and the masked word.

    Attributes: `name`, of the line and of its semantics function; `where`, file and line; `width`, bits of a word;
    `index`, its number in the decoder. A word of the line has `word & mask == value` for `mask` and `value`, and for
    none of the pairs in `excluded`; `exceptions` are lines that win over this one. `letters` are the positions of its
    fields; `constants`, `knowns`, `holes` and `predicates` are its operands. `matches` and `is_defined` check a word
    against all this, and `raddle.testing.differential.words` makes random words.
    """

    __slots__ = (
        "_ranges",
        "_rest",
        "always_defined",
        "constants",
        "exceptions",
        "excluded",
        "hole_names",
        "hole_values",
        "holes",
        "index",
        "key_mask",
        "knowns",
        "letters",
        "mask",
        "name",
        "predicates",
        "value",
        "where",
        "width",
    )

    def __init__(self, name: str, where: str, width: int, rest: Callable[[Pattern], None]) -> None:
        self.name = name
        self.where = where
        """File and line, for messages."""
        self.width = width
        self.index = -1
        """Number of the pattern in its decoder."""
        self.mask = 0
        self.value = 0
        """A word of the line has `word & mask == value`, and this for none of the pairs in `excluded`."""
        self.excluded: list[tuple[int, int]] = []
        self.exceptions: list[Pattern] = []
        """The lines that win over this one; empty before the table is compiled."""
        self._ranges: dict[str, LiteralRange] = {}
        """The results of `literal_range`, by operand."""
        self._rest: Callable[[Pattern], None] | None = rest
        """Reads the operands, which are the attributes below; None when it has. They are not used before."""
        self.letters: dict[str, list[tuple[int, int]]] = {}
        """Each field's pieces (lowest bit, width), from the highest to the lowest."""
        self.constants: dict[str, int] = {}
        self.knowns: list[Operand] = []
        self.holes: list[Operand] = []
        self.predicates: list[Operand] = []
        self.always_defined = name != UNDEFINED
        """Whether every matching word is an instruction."""
        self.key_mask = 0
        self.hole_names: tuple[str, ...] = ()
        self.hole_values: Callable[[int], tuple[int, ...]] = self._compile_hole_values
        """The values of the holes of a word, in the order of `hole_names`; each fits 32 bits, signed or unsigned."""

    def read(self) -> Pattern:
        """This pattern, with its operands read. Raises TableError. Threads may race to read them: the results are
        equal.
        """
        rest = self._rest
        if rest is not None:
            rest(self)
            self._rest = None
        return self

    def __repr__(self) -> str:
        return f"<Pattern {self.name} at {self.where}>"

    def key(self, word: int) -> int:
        """The key for a translation of `word`: the same for words with equal translations, unique in the decoder."""
        return self.index << 32 | word & self.key_mask

    def letter(self, name: str, word: int) -> int:
        """The value of the field `name` in `word`."""
        value = 0
        for shift, width in self.letters[name]:
            value = value << width | word >> shift & (1 << width) - 1
        return value

    def fields(self, word: int) -> Fields:
        """The operands of `word`: fields, constants, known operands, and holes as `Hole` objects."""
        fields = Fields()
        values = fields.__dict__
        values.update(self.constants)
        for letter, pieces in self.letters.items():
            if self.key_mask >> pieces[0][0] & 1:
                values[letter] = self.letter(letter, word)
        for known in self.knowns:
            values[known.name] = self._call(known, word)
        for index, name in enumerate(self.hole_names):
            values[name] = Hole(index, name, partial(self.literal_range, name))
        return fields

    def hole(self, name: str, kind: LiteralKind) -> Hole:
        """The literal hole `name` for words in which the literal is of this kind."""
        return Hole(self.hole_names.index(name), name, lambda: kind[:2], step=kind.step)

    def values(self, word: int) -> dict[str, int]:
        """All operands of `word` as integers, holes included: for disassembly and logs."""
        values = {name: value for name, value in self.fields(word).__dict__.items() if not isinstance(value, Hole)}
        values.update(zip(self.hole_names, self.hole_values(word), strict=True))
        return values

    def reader(self, names: Sequence[str]) -> Callable[[int], tuple[int, ...]]:
        """A function that returns the operands `names` (fields, constants, known operands) of a word, as a tuple."""
        knowns = {known.name: known for known in self.knowns}
        terms = []
        functions: dict[str, Function] = {}
        for number, name in enumerate(names):
            if name in self.letters:
                terms.append(self._expression(name))
            elif name in self.constants:
                terms.append(str(self.constants[name]))
            else:
                functions[f"f{number}"] = knowns[name].function
                terms.append(f"f{number}({', '.join(self._expression(letter) for letter in knowns[name].letters)})")
        read: Callable[[int], tuple[int, ...]] = eval(
            f"lambda w: ({''.join(f'{term}, ' for term in terms)})", functions
        )
        return read

    def key_mask_without(self, names: Sequence[str]) -> int:
        """`key_mask` without the bits that only the operands `names` use."""
        needed = {letter for known in self.knowns if known.name not in names for letter in known.letters}
        made = {letter for known in self.knowns if known.name in names for letter in known.letters}
        mask = self.key_mask
        for letter, pieces in self.letters.items():
            if (letter in names or letter in made) and letter not in needed:
                for shift, width in pieces:
                    mask &= ~((1 << width) - 1 << shift)
        return mask

    def letter_width(self, name: str) -> int:
        """The width of the field `name` in bits."""
        return sum(width for _, width in self.letters[name])

    def letter_bits(self, name: str, value: int = -1) -> int:
        """A word in which the field `name` has this value, and all other bits are 0. With -1, the field's mask."""
        bits = 0
        for shift, width in reversed(self.letters[name]):
            bits |= (value & (1 << width) - 1) << shift
            value >>= width
        return bits

    def selector_bits(self, name: str) -> int:
        """The bits of a word that must not change for the operand `name` to be linear in its other bits. If its
        function is not `Linear`, these are all bits of its fields."""
        operand = self._operand(name)
        if operand is None:
            return 0
        bits = 0
        for letter, selected in zip(operand.letters, _selectors(operand), strict=True):
            bits |= self.letter_bits(letter, selected)
        return bits

    def linear(self, name: str, word: int) -> LinearTerms:
        """The operand `name` (a field, a constant, a known operand or a hole) as a linear function of the words that
        have the same selector bits as `word`."""
        operand = self._operand(name)
        if operand is None:
            if name in self.constants:
                return self.constants[name] & _M32, ()
            operand = Operand(name, int, name, (0,))
        function, letters, selectors = operand.function, operand.letters, _selectors(operand)
        arguments = [self.letter(letter, word) & kept for letter, kept in zip(letters, selectors, strict=True)]
        base = function(*arguments)
        factors: dict[int, int] = {}
        for number, letter in enumerate(letters):
            done = 0
            for shift, width in reversed(self.letters[letter]):
                for bit in range(width):
                    value = 1 << done + bit
                    if not selectors[number] & value:
                        changed = arguments.copy()
                        changed[number] |= value
                        factor = function(*changed) - base
                        factors[shift + bit] = factors.get(shift + bit, 0) + factor & _M32
                done += width
        return base & _M32, _joined(factors)

    def literal_range(self, name: str) -> LiteralRange:
        """The least and greatest value that the operand `name` has in any word, as signed 32-bit numbers.

        They are known for fields, constants and `Linear` functions, and for other functions of few bits. For all others
        this is ANY_LITERAL.
        """
        found = self._ranges.get(name)
        if found is None:
            found = self._ranges[name] = self._find_range(name)
        return found

    def _find_range(self, name: str) -> LiteralRange:
        selectors = self.selector_bits(name)
        if selectors.bit_count() > _MOST_SELECTORS:
            return ANY_LITERAL
        word = selectors
        ranges: list[LiteralRange] = []
        while True:  # for all subsets of the selector bits
            ranges.append(self.literals_near(name, word)[:2])
            if not word:
                break
            word = word - 1 & selectors
        return min(low for low, _ in ranges), max(high for _, high in ranges)

    def literals_near(self, name: str, word: int) -> LiteralKind:
        """What the operand `name` is in the words that have the selector bits (`selector_bits`) of `word`."""
        base, terms = self.linear(name, word)
        most = [_signed(factor) * mask for _, mask, factor in terms]
        low = _signed(base) + sum(min(0, term) for term in most)
        high = _signed(base) + sum(max(0, term) for term in most)
        if not ANY_LITERAL[0] <= low <= high <= ANY_LITERAL[1]:
            low, high = ANY_LITERAL
        bits = reduce(or_, (factor for _, _, factor in terms), base) or 1 << 31
        return LiteralKind(low, high, bits & -bits)

    def _operand(self, name: str) -> Operand | None:
        return next((operand for operand in (*self.knowns, *self.holes) if operand.name == name), None)

    def operands(self) -> frozenset[str]:
        """The names of all operands except the holes."""
        return frozenset((*self.letters, *self.constants, *(known.name for known in self.knowns)))

    def matches(self, word: int) -> bool:
        """Whether `word` is one of this line's, defined or not. Does not check the line's exceptions."""
        return word & self.mask == self.value and not any(word & mask == value for mask, value in self.excluded)

    def is_defined(self, word: int) -> bool:
        """Whether `word`, which matches, is an instruction."""
        return self.name != UNDEFINED and all(self._call(predicate, word) for predicate in self.predicates)

    def set_predicates(self, predicates: list[Operand]) -> None:
        """For the parser: words for which one of `predicates` gives 0 are undefined."""
        self.predicates = predicates
        self.always_defined = self.name != UNDEFINED and not predicates

    def _call(self, operand: Operand, word: int) -> int:
        return operand.function(*(self.letter(letter, word) for letter in operand.letters))

    def _compile_hole_values(self, word: int) -> tuple[int, ...]:
        """Replaces itself with generated code at its first call. Both return the same, so threads may race here."""
        calls = "".join(
            f"f{number}({', '.join(self._expression(letter) for letter in hole.letters)}), "
            for number, hole in enumerate(self.holes)
        )
        functions = {f"f{number}": hole.function for number, hole in enumerate(self.holes)}
        self.hole_values = eval(f"lambda w: ({calls})", functions)
        return self.hole_values(word)

    def _expression(self, letter: str) -> str:
        terms = []
        done = sum(width for _, width in self.letters[letter])
        for shift, width in self.letters[letter]:
            done -= width
            terms.append(f"(w >> {shift} & {(1 << width) - 1}) << {done}")
        return " | ".join(terms)


_M32 = 0xFFFF_FFFF
_MOST_SELECTORS = 8
"""`literal_range` tries all values of the selector bits if there are at most so many."""


def _signed(value: int) -> int:
    """The signed value of a 32-bit number."""
    return value - ((value & 1 << 31) << 1)


def _selectors(operand: Operand) -> tuple[int, ...]:
    return (-1,) * len(operand.letters) if operand.selectors is None else operand.selectors


def _joined(factors: dict[int, int]) -> tuple[tuple[int, int, int], ...]:
    """The terms for bits with these factors. Neighbouring bits whose factors double from bit to bit are one term."""
    terms: list[tuple[int, int, int]] = []
    for bit, factor in sorted(factors.items()):
        if terms:
            shift, mask, first = terms[-1]
            width = mask.bit_length()
            if bit == shift + width and factor == first << width & _M32:
                terms[-1] = (shift, mask << 1 | 1, first)
                continue
        if factor:
            terms.append((bit, 1, factor))
    return tuple(terms)
