# SPDX-License-Identifier: Apache-2.0
"""The decode-table language, its checks, and the decoder that a table compiles to.

A table has one line an encoding, a picture of its bits from the highest to the lowest:

    ADD_reg   cccc 0000 100S nnnn dddd iiiii tt0 mmmm
    ADD_imm   cccc 0010 1001 nnnn dddd rrrr vvvvvvvv      S=1 imm~a32_imm(r,v)
        HINT  cccc 0011 0010 0000 ---- 0000 vvvvvvvv      c!=15
    B         <cond> 1010 oooooooooooooooooooooooo        offset~branch24(o)

In the picture:

    0 1        fixed bits
    -          a bit that is ignored
    letter     a field; its bits need not touch, and are joined from the highest to the lowest
    <word>     a piece of picture given by whoever loads the table, so that two tables can share a text

After the picture, in any order:

    name=7             a constant
    name=word          a constant given by whoever loads the table
    name=function(a,b) a known operand: computed from fields when the instruction is translated
    name~function(a)   a literal hole: computed for each word, so that one translation serves all its values
    a==3  a!=15        the encoding is this line's only if the field has, or has not, that value
    ?function(a,b)     the words for which the function gives 0 are this line's, but undefined

Fields that only holes use are no part of the key under which a translation is kept. A name may have several lines. The
name UNDEFINED marks words that are no instruction. `%require c!=15` adds a condition to every following line that has
the field c. A `#` starts a comment.

Two lines must not match the same word, with one exception: a line indented under another one is an exception to
it and wins. Everything else that overlaps is an error when the table is compiled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from raddle.errors import RaddleError
from raddle.ir.types import Hole

__all__ = ["UNDEFINED", "Decoder", "Fields", "Function", "Hole", "Pattern", "Table", "TableError", "check_names"]

UNDEFINED = "UNDEFINED"
"""The name of lines whose words are no instruction."""

Function = Callable[..., int]
"""Computes an operand from the values of fields: non-negative integers of the field's width."""


class TableError(RaddleError):
    """A mistake in a decode table; the message starts with the file and line."""


class Fields:
    """The operands of one instruction word as attributes: integers, or a `Hole` for each literal hole."""

    __slots__ = ("__dict__",)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __contains__(self, name: str) -> bool:
        return name in self.__dict__

    def __repr__(self) -> str:
        return f"Fields({', '.join(f'{name}={value}' for name, value in self.__dict__.items())})"


@dataclass(frozen=True, slots=True)
class _Operand:
    """`name=function(letters)` or `name~function(letters)`; a predicate has no name."""

    name: str
    function: Function
    letters: str


class Pattern:
    """One line of a table. Immutable to its users, and shared by all threads.

    A translation depends on the pattern and on `word & key_mask`, and on nothing else of the word. Two patterns of a
    decoder may have equal masked words, so a key needs both: `key(word)` joins `index` and the masked word.
    """

    __slots__ = (
        "_predicates",
        "always_defined",
        "constants",
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
        "value",
        "where",
        "width",
    )

    def __init__(self, name: str, where: str, width: int) -> None:
        self.name = name
        self.where = where
        """File and line, for messages."""
        self.width = width
        self.index = -1
        """Number of the pattern in its decoder."""
        self.mask = 0
        self.value = 0
        """The pattern's words have `word & mask == value`, and none of `excluded`."""
        self.excluded: list[tuple[int, int]] = []
        self.letters: dict[str, list[tuple[int, int]]] = {}
        """Each field's pieces, from the highest: lowest bit and width."""
        self.constants: dict[str, int] = {}
        self.knowns: list[_Operand] = []
        self.holes: list[_Operand] = []
        self._predicates: list[_Operand] = []
        self.always_defined = name != UNDEFINED
        """Whether every matching word is an instruction."""
        self.key_mask = 0
        self.hole_names: tuple[str, ...] = ()
        self.hole_values: Callable[[int], tuple[int, ...]] = self._compile_hole_values
        """The values of the holes of a word, in the order of `hole_names`; each fits 32 bits, signed or unsigned."""

    def __repr__(self) -> str:
        return f"<Pattern {self.name} at {self.where}>"

    def key(self, word: int) -> int:
        """A key under which what is made of `word` can be kept, unique in the decoder."""
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
            values[name] = Hole(index, name)
        return fields

    def values(self, word: int) -> dict[str, int]:
        """All operands of `word` as integers, holes included: for disassembly and logs."""
        values = {name: value for name, value in self.fields(word).__dict__.items() if not isinstance(value, Hole)}
        values.update(zip(self.hole_names, self.hole_values(word), strict=True))
        return values

    def reader(self, names: Sequence[str]) -> Callable[[int], tuple[int, ...]]:
        """A function of the word that gives the operands `names` (fields, constants, known operands) as a tuple."""
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
        """`key_mask` less the bits that nothing but the operands `names` is made of."""
        needed = {letter for known in self.knowns if known.name not in names for letter in known.letters}
        made = {letter for known in self.knowns if known.name in names for letter in known.letters}
        mask = self.key_mask
        for letter, pieces in self.letters.items():
            if (letter in names or letter in made) and letter not in needed:
                for shift, width in pieces:
                    mask &= ~((1 << width) - 1 << shift)
        return mask

    def operands(self) -> frozenset[str]:
        """The names of all operands but the holes."""
        return frozenset((*self.letters, *self.constants, *(known.name for known in self.knowns)))

    def matches(self, word: int) -> bool:
        """Whether `word` is one of this line's, defined or not; exceptions to the line are not looked at."""
        return word & self.mask == self.value and not any(word & mask == value for mask, value in self.excluded)

    def is_defined(self, word: int) -> bool:
        """Whether `word`, which matches, is an instruction."""
        return self.name != UNDEFINED and all(self._call(predicate, word) for predicate in self._predicates)

    def add_predicate(self, predicate: _Operand) -> None:
        """For the parser: words for which `predicate` gives 0 are undefined."""
        self._predicates.append(predicate)
        self.always_defined = False

    def _call(self, operand: _Operand, word: int) -> int:
        return operand.function(*(self.letter(letter, word) for letter in operand.letters))

    def _compile_hole_values(self, word: int) -> tuple[int, ...]:
        """Replaces itself by generated code when it is first called; both give the same, so threads may race here."""
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


class _Node:
    """A step of the decoder: either looks `word >> shift & mask` up in `children`, or tries `leaf` in order."""

    __slots__ = ("children", "leaf", "mask", "shift")

    def __init__(self) -> None:
        self.shift = 0
        self.mask = 0
        self.children: list[_Node] | None = None
        self.leaf: list[Pattern] = []


class Decoder:
    """A compiled table. Immutable; may be used by any thread.

    `patterns` holds every line in order, the undefined ones included, each at its `index`.
    """

    __slots__ = ("_root", "patterns", "width")

    def __init__(self, patterns: Sequence[Pattern], width: int, root: _Node) -> None:
        self.patterns = tuple(patterns)
        self.width = width
        self._root = root

    def decode(self, word: int) -> Pattern | None:
        """The pattern of `word`, an unsigned integer of the table's width; None if it is no instruction."""
        node = self._root
        while node.children is not None:
            node = node.children[word >> node.shift & node.mask]
        for pattern in node.leaf:
            if word & pattern.mask == pattern.value:
                for mask, value in pattern.excluded:
                    if word & mask == value:
                        break
                else:
                    return pattern if pattern.always_defined or pattern.is_defined(word) else None
        return None

    @property
    def names(self) -> frozenset[str]:
        """The names of all instructions in the table."""
        return frozenset(pattern.name for pattern in self.patterns if pattern.name != UNDEFINED)


_NAME = re.compile(r"[A-Z]\w*")
_PIECE = re.compile(r"[01A-Za-z-]+|<(\w+)>")
_OPERAND = re.compile(r"(\w+)([=~])(\w+)\(([A-Za-z](?:,[A-Za-z])*)?\)")
_CONSTANT = re.compile(r"(\w+)=(-?(?:0[xX][0-9A-Fa-f]+|\d+)|[A-Za-z_]\w*)")
_CONDITION = re.compile(r"([A-Za-z])(==|!=)(0[xX][0-9A-Fa-f]+|\d+)")
_PREDICATE = re.compile(r"\?(\w+)\(([A-Za-z](?:,[A-Za-z])*)\)")


@dataclass
class Table:
    """A parsed table: its patterns, and which of them each is an exception to."""

    source_name: str
    width: int
    patterns: list[Pattern] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    """For each pattern the number of the one that it is an exception to, or -1."""

    @classmethod
    def parse(
        cls,
        text: str,
        source_name: str,
        width: int,
        functions: Mapping[str, Function],
        *,
        pictures: Mapping[str, str] | None = None,
        constants: Mapping[str, int] | None = None,
    ) -> Table:
        """Read a table of `width`-bit words.

        `functions` are those that operands may name, `pictures` what `<word>` stands for, `constants` what `name=word`
        may name. Raises TableError with file and line.
        """
        table = cls(source_name, width)
        parser = _Parser(width, functions, pictures or {}, constants or {})
        open_lines: list[tuple[int, int]] = []
        for number, line in enumerate(text.splitlines(), 1):
            code = line.partition("#")[0].rstrip()
            if not code:
                continue
            where = f"{source_name}:{number}"
            if "\t" in code:
                raise TableError(f"{where}: a tab; indent with spaces")
            if code.startswith("%"):
                parser.directive(code, where)
                continue
            indent = len(code) - len(code.lstrip())
            while open_lines and open_lines[-1][0] >= indent:
                open_lines.pop()
            if indent and not open_lines:
                raise TableError(f"{where}: indented, but there is no line that this one could be an exception to")
            pattern = parser.line(code, where)
            table.parents.append(open_lines[-1][1] if open_lines else -1)
            open_lines.append((indent, len(table.patterns)))
            table.patterns.append(pattern)
        return table

    def extend(self, other: Table) -> Table:
        """This table with the lines of `other` after it, as one table whose overlaps are checked together.

        The lines belong to the new table: do not compile the two old ones any more.
        """
        if other.width != self.width:
            raise TableError(f"{other.source_name}: {other.width}-bit words cannot join {self.width}-bit ones")
        base = len(self.patterns)
        parents = [parent if parent < 0 else parent + base for parent in other.parents]
        return Table(self.source_name, self.width, self.patterns + other.patterns, self.parents + parents)

    def compile(self) -> Decoder:
        """Check the table for overlaps, and build its decoder. Raises TableError."""
        for index, pattern in enumerate(self.patterns):
            pattern.index = index
            if self.parents[index] >= 0 and not _overlap(pattern, parent := self.patterns[self.parents[index]]):
                raise TableError(f"{pattern.where}: {pattern.name} has no word in common with {_cite(parent)} above it")
        depths: list[int] = []
        for parent_index in self.parents:
            depths.append(depths[parent_index] + 1 if parent_index >= 0 else 0)
        inner_first = sorted(self.patterns, key=lambda pattern: -depths[pattern.index])
        return Decoder(self.patterns, self.width, self._build(inner_first, 0, set()))

    def check_names(self, semantic_names: Iterable[str]) -> None:
        """Raise TableError unless the table's names are exactly `semantic_names`."""
        check_names([self], semantic_names)

    def _build(self, patterns: list[Pattern], tested: int, checked: set[tuple[int, int]]) -> _Node:
        node = _Node()
        window = _window(patterns, ((1 << self.width) - 1) & ~tested) if len(patterns) > 2 else None
        if window is None:
            self._check_overlaps(patterns, checked)
            node.leaf = patterns
            return node
        shift, width = window
        node.shift = shift
        node.mask = (1 << width) - 1
        selected = node.mask << shift
        kept: dict[tuple[int, ...], _Node] = {}
        node.children = []
        for choice in range(1 << width):
            bits = choice << shift
            matching = [
                pattern
                for pattern in patterns
                if not (pattern.value ^ bits) & pattern.mask & selected
                and not any(mask & ~selected == 0 and bits & mask == value for mask, value in pattern.excluded)
            ]
            same = tuple(pattern.index for pattern in matching)
            if same not in kept:
                kept[same] = self._build(matching, tested | selected, checked)
            node.children.append(kept[same])
        return node

    def _check_overlaps(self, patterns: list[Pattern], checked: set[tuple[int, int]]) -> None:
        """Words that two patterns share end in a common leaf, so it is enough to look at pairs in each leaf."""
        for number, one in enumerate(patterns):
            for other in patterns[:number]:
                pair = (one.index, other.index)
                if pair in checked:
                    continue
                checked.add(pair)
                if not (self._is_exception(other, one) or self._is_exception(one, other)) and _overlap(one, other):
                    first, second = sorted((one, other), key=lambda pattern: pattern.index)
                    raise TableError(
                        f"{second.where}: {second.name} and {_cite(first)} match the same words;"
                        " an exception must be indented under its rule"
                    )

    def _is_exception(self, pattern: Pattern, to: Pattern) -> bool:
        index = pattern.index
        while index > to.index:
            index = self.parents[index]
        return index == to.index


def check_names(tables: Iterable[Table], semantic_names: Iterable[str]) -> None:
    """Check the names of all tables of a guest against those of its semantics functions.

    Raises TableError for a name without a function and for a function without a name.
    """
    first_use: dict[str, str] = {}
    sources = []
    for table in tables:
        sources.append(table.source_name)
        for pattern in table.patterns:
            if pattern.name != UNDEFINED:
                first_use.setdefault(pattern.name, pattern.where)
    semantic = set(semantic_names)
    for name, where in first_use.items():
        if name not in semantic:
            raise TableError(f"{where}: there is no semantics function {name}")
    unused = sorted(semantic - first_use.keys())
    if unused:
        raise TableError(f"{', '.join(sources)}: no line for the semantics functions {', '.join(unused)}")


class _Parser:
    """Reads the lines of one table."""

    def __init__(
        self, width: int, functions: Mapping[str, Function], pictures: Mapping[str, str], constants: Mapping[str, int]
    ) -> None:
        self.width = width
        self.functions = functions
        self.pictures = pictures
        self.constants = constants
        self.required: list[str] = []

    def directive(self, code: str, where: str) -> None:
        word, *conditions = code.split()
        if word != "%require" or not conditions or not all(_CONDITION.fullmatch(item) for item in conditions):
            raise TableError(f"{where}: cannot read {code!r}; the one directive is %require with conditions like c!=15")
        self.required += conditions

    def line(self, code: str, where: str) -> Pattern:
        name, *words = code.split()
        if not _NAME.fullmatch(name):
            raise TableError(f"{where}: {name!r} is no name of an instruction; names start with a capital letter")
        pattern = Pattern(name, where, self.width)
        rest = self._picture(pattern, words)
        for word in rest:
            self._trailer(pattern, word)
        for condition in self.required:
            if condition[0] in pattern.letters:
                self._condition(pattern, condition)
        self._finish(pattern)
        return pattern

    def _picture(self, pattern: Pattern, words: list[str]) -> list[str]:
        """Reads the picture, and returns the words after it."""
        picture = ""
        count = 0
        for word in words:
            piece = _PIECE.fullmatch(word)
            if not piece:
                break
            if piece[1] and piece[1] not in self.pictures:
                raise TableError(f"{pattern.where}: nothing is given for {word}")
            picture += self.pictures[piece[1]] if piece[1] else word
            count += 1
        if len(picture) != self.width:
            raise TableError(f"{pattern.where}: the picture of {pattern.name} has {len(picture)} bits of {self.width}")
        previous = ""
        for index, character in enumerate(picture):
            bit = self.width - 1 - index
            if character in "01":
                pattern.mask |= 1 << bit
                pattern.value |= int(character) << bit
            elif character != "-":
                pieces = pattern.letters.setdefault(character, [])
                if character == previous:
                    pieces[-1] = (bit, pieces[-1][1] + 1)
                else:
                    pieces.append((bit, 1))
            previous = character
        return words[count:]

    def _trailer(self, pattern: Pattern, word: str) -> None:
        if match := _OPERAND.fullmatch(word):
            operands = pattern.knowns if match[2] == "=" else pattern.holes
            self._claim(pattern, match[1])
            operands.append(self._operand(pattern, match[1], match[3], match[4] or ""))
        elif match := _PREDICATE.fullmatch(word):
            pattern.add_predicate(self._operand(pattern, "", match[1], match[2]))
        elif _CONDITION.fullmatch(word):
            self._condition(pattern, word)
        elif match := _CONSTANT.fullmatch(word):
            self._claim(pattern, match[1])
            if match[2][0].isalpha() and match[2] not in self.constants:
                raise TableError(f"{pattern.where}: no value is given for the constant {match[2]}")
            constant = self.constants.get(match[2])
            pattern.constants[match[1]] = int(match[2], 0) if constant is None else constant
        else:
            raise TableError(f"{pattern.where}: cannot read {word!r}")

    def _claim(self, pattern: Pattern, name: str) -> None:
        """Each operand has one origin."""
        if name in pattern.letters:
            raise TableError(f"{pattern.where}: {name} is a field of the picture and cannot be given a value")
        if name in pattern.constants or any(name == operand.name for operand in pattern.knowns + pattern.holes):
            raise TableError(f"{pattern.where}: {name} is given twice")

    def _operand(self, pattern: Pattern, name: str, function: str, arguments: str) -> _Operand:
        if function not in self.functions:
            raise TableError(f"{pattern.where}: unknown function {function}")
        letters = arguments.replace(",", "")
        for letter in letters:
            if letter not in pattern.letters:
                raise TableError(f"{pattern.where}: {function} is given {letter}, which is no field of the picture")
        called = self.functions[function]
        code = getattr(called, "__code__", None)
        if code is not None and code.co_argcount != len(letters):
            raise TableError(
                f"{pattern.where}: {function} takes {code.co_argcount} fields, and is given {len(letters)}"
            )
        return _Operand(name, called, letters)

    def _condition(self, pattern: Pattern, text: str) -> None:
        letter, sign, number = text[0], text[1:3], int(text[3:], 0)
        if letter not in pattern.letters:
            raise TableError(f"{pattern.where}: the condition {text} is about no field of the picture")
        mask = value = 0
        rest = number
        for shift, width in reversed(pattern.letters[letter]):
            ones = (1 << width) - 1
            mask |= ones << shift
            value |= (rest & ones) << shift
            rest >>= width
        if rest:
            raise TableError(f"{pattern.where}: {number} in {text} is wider than the field")
        if sign == "!=":
            if (mask, value) not in pattern.excluded:
                pattern.excluded.append((mask, value))
        elif (pattern.value ^ value) & pattern.mask & mask:
            raise TableError(f"{pattern.where}: the condition {text} is never true")
        else:
            pattern.mask |= mask
            pattern.value |= value

    def _finish(self, pattern: Pattern) -> None:
        if pattern.name == UNDEFINED and (pattern.constants or pattern.knowns or pattern.holes):
            raise TableError(f"{pattern.where}: {UNDEFINED} has no operands")
        if any(mask & ~pattern.mask == 0 and pattern.value & mask == value for mask, value in pattern.excluded):
            raise TableError(f"{pattern.where}: the conditions of {pattern.name} exclude all its words")
        known = {letter for operand in pattern.knowns for letter in operand.letters}
        hole = {letter for operand in pattern.holes for letter in operand.letters} - known
        for letter, pieces in pattern.letters.items():
            if letter not in hole:
                for shift, width in pieces:
                    pattern.key_mask |= (1 << width) - 1 << shift
        pattern.hole_names = tuple(operand.name for operand in pattern.holes)
        if not pattern.holes:
            pattern.hole_values = _no_holes


def _no_holes(word: int) -> tuple[int, ...]:
    return ()


def _cite(pattern: Pattern) -> str:
    return f"{pattern.name} at {pattern.where}"


def _overlap(one: Pattern, other: Pattern) -> bool:
    """Whether some word matches both patterns."""
    if (one.value ^ other.value) & one.mask & other.mask:
        return False
    return _any_word(one.mask | other.mask, one.value | other.value, one.excluded + other.excluded)


def _any_word(mask: int, value: int, excluded: list[tuple[int, int]]) -> bool:
    """Whether a word with `word & mask == value` exists that is in none of `excluded`."""
    for index, (other_mask, other_value) in enumerate(excluded):
        if (value ^ other_value) & mask & other_mask:
            continue
        rest = excluded[index + 1 :]
        # Look at the words that differ in the lowest open bit, then in the next but not in that one, ...
        for bit in _bits(other_mask & ~mask):
            if _any_word(mask | bit, value | ~other_value & bit, rest):
                return True
            mask |= bit
            value |= other_value & bit
        return False
    return True


def _bits(mask: int) -> Iterator[int]:
    while mask:
        bit = mask & -mask
        yield bit
        mask ^= bit


_WIDEST_WINDOW = 8
_MOST = 0.7
"""Bits beside the best one join its window if they are fixed in at least this share of the patterns in which it is:
more makes a deeper decoder, less a larger one that takes longer to build."""


def _window(patterns: list[Pattern], open_bits: int) -> tuple[int, int] | None:
    """The bits to branch on, as lowest bit and width: where most patterns are fixed, and not all alike."""
    ones = zeros = 0
    for pattern in patterns:
        ones |= pattern.mask & pattern.value
        zeros |= pattern.mask & ~pattern.value
    candidates = list(_bits(ones & zeros & open_bits))
    if not candidates:
        return None
    counts = {bit: sum(1 for pattern in patterns if pattern.mask & bit) for bit in candidates}
    most = max(counts.values())
    best = (0, 0, 0)
    for low in candidates:
        width = total = 0
        while width < _WIDEST_WINDOW and counts.get(low << width, 0) >= _MOST * most:
            total += counts[low << width]
            width += 1
        best = max(best, (total, low.bit_length() - 1, width))
    return best[1], best[2]
