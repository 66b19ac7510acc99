# SPDX-License-Identifier: Apache-2.0
"""The language of decode tables, its checks, and the decoder that a table compiles to.

A table has one line for each encoding: a picture of its bits, from the highest to the lowest:

    ADD_reg   cccc 0000 100S nnnn dddd iiiii tt0 mmmm
    ADD_imm   cccc 0010 1001 nnnn dddd rrrr vvvvvvvv      S=1 imm~a32_imm(r,v)
        HINT  cccc 0011 0010 0000 ---- 0000 vvvvvvvv      c!=15
    B         <cond> 1010 oooooooooooooooooooooooo        offset~branch24(o)

In the picture:

    0 1        fixed bits
    -          a bit that is ignored
    letter     a field; its bits need not touch, and are joined from the highest to the lowest
    <word>     a piece of picture that the caller of `Table.parse` gives, so that two tables can share a text

After the picture, in any order:

    name=7             a constant
    name=word          a constant that the caller of `Table.parse` gives
    name=function(a,b) a known operand: computed from fields when the instruction is translated
    name~function(a)   a literal hole: computed for each word, so that one translation serves all its values
    a==3  a!=15        the line matches only words whose field has, or does not have, this value
    ?function(a,b)     words for which the function returns 0 match the line, but are undefined

Fields that only holes use do not belong to the key of a translation. A name may have several lines. The name UNDEFINED
marks words that are no instruction. `%require c!=15` adds a condition to every following line that has the field c. A
`#` starts a comment.

Two lines must not match the same word, with one exception: a line that is indented under another one is an exception to
it, and wins. All other overlaps are errors when the table is compiled.

A table is read and checked in full, unless the caller of `Table.parse` calls it *trusted*. Of a trusted table, the
mask, value and conditions of each line are read at once, and its operands when the decoder meets the line's first word;
overlaps are not checked. This makes starts faster, because a run uses few of a guest's lines. Tests read and check
whole tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pkgutil import get_data

from raddle.errors import RaddleError
from raddle.ir.types import Hole
from raddle.translate.decoder import Decoder, Node, each_bit
from raddle.translate.pattern import UNDEFINED, Fields, Function, Linear, Operand, Pattern

__all__ = [
    "UNDEFINED",
    "Decoder",
    "Fields",
    "Function",
    "Hole",
    "Linear",
    "Pattern",
    "Table",
    "TableError",
    "check_names",
    "has_word",
    "table_text",
]


def table_text(package: str, name: str) -> str:
    """The text of a table that is a file in a package, for `Table.parse`. Raises FileNotFoundError."""
    return (get_data(package, name) or b"").decode()


class TableError(RaddleError):
    """A mistake in a decode table; the message starts with the file and line."""


class Table:
    """A parsed table: its patterns, and for each pattern the one that it is an exception to."""

    def __init__(
        self, source_name: str, width: int, lines: Sequence[Pattern], parents: Sequence[int], trusted: bool
    ) -> None:
        self.source_name = source_name
        self.width = width
        self.parents = tuple(parents)
        """For each pattern, the index of the one that it is an exception to, or -1."""
        self.trusted = trusted
        self._lines = tuple(lines)

    @classmethod
    def parse(
        cls,
        text: str,
        source_name: str,
        width: int,
        functions: Mapping[str, Function | Linear],
        *,
        pictures: Mapping[str, str] | None = None,
        constants: Mapping[str, int] | None = None,
        trusted: bool = False,
    ) -> Table:
        """Read the text of a table of `width`-bit words.

        Operands may name `functions`, `<word>` stands for one of `pictures`, and `name=word` for one of `constants`.
        Raises TableError with file and line. A mistake in the operands of a `trusted` table is found only when a word
        of its line is decoded, and overlaps of its lines are not found.
        """
        parser = _Parser(width, functions, pictures or {}, constants or {})
        patterns: list[Pattern] = []
        parents: list[int] = []
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
            parents.append(open_lines[-1][1] if open_lines else -1)
            open_lines.append((indent, len(patterns)))
            patterns.append(pattern if trusted else pattern.read())
        return cls(source_name, width, patterns, parents, trusted)

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        """All lines in order, also those that are named UNDEFINED."""
        return tuple(pattern.read() for pattern in self._lines)

    def first_uses(self) -> dict[str, str]:
        """The names of all instructions in the table, each with the file and line of its first use."""
        first: dict[str, str] = {}
        for pattern in self._lines:
            if pattern.name != UNDEFINED:
                first.setdefault(pattern.name, pattern.where)
        return first

    def extend(self, other: Table) -> Table:
        """A table of the lines of this one and, after them, those of `other`. It is trusted if both are.

        The new table takes the lines over: the two old ones must not be compiled any more. Raises TableError if the
        widths differ.
        """
        if other.width != self.width:
            raise TableError(f"{other.source_name}: {other.width}-bit words cannot join {self.width}-bit ones")
        base = len(self._lines)
        parents = [parent if parent < 0 else parent + base for parent in other.parents]
        return Table(
            self.source_name,
            self.width,
            self._lines + other._lines,
            (*self.parents, *parents),
            self.trusted and other.trusted,
        )

    def compile(self) -> Decoder:
        """Make the table's decoder; check for overlaps first, unless the table is trusted. Raises TableError."""
        depths: list[int] = []
        for index, pattern in enumerate(self._lines):
            pattern.index = index
            depths.append(depths[self.parents[index]] + 1 if self.parents[index] >= 0 else 0)
            above = self.parents[index]
            while above >= 0:
                self._lines[above].exceptions.append(pattern)
                above = self.parents[above]
        inner_first = sorted(self._lines, key=lambda pattern: -depths[pattern.index])
        root = Node(inner_first, 0, self.width)
        if not self.trusted:
            self._check_exceptions()
            self._check_node(root, set(), set())
        return Decoder(self._lines, self.width, root)

    def check_names(self, semantic_names: Iterable[str]) -> None:
        """Raise TableError unless the table's names are exactly `semantic_names`."""
        check_names([self], semantic_names)

    def _check_exceptions(self) -> None:
        for pattern, above in zip(self._lines, self.parents, strict=True):
            if above >= 0 and not _overlap(pattern, parent := self._lines[above]):
                raise TableError(f"{pattern.where}: {pattern.name} has no word in common with {_cite(parent)} above it")

    def _check_node(self, node: Node, seen: set[int], checked: set[tuple[int, int]]) -> None:
        """Make and check all nodes below `node`. A node may have several parents."""
        if id(node) in seen:
            return
        seen.add(id(node))
        if node.children is None:
            self._check_overlaps(node.leaf, checked)
        else:
            for choice in range(len(node.children)):
                self._check_node(node.grow(choice, self.width), seen, checked)

    def _check_overlaps(self, patterns: list[Pattern], checked: set[tuple[int, int]]) -> None:
        """Check all pairs of a leaf's patterns. A word that matches two patterns leads to a leaf with both, so checking
        each leaf is enough.
        """
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
        for name, where in table.first_uses().items():
            first_use.setdefault(name, where)
    semantic = set(semantic_names)
    for name, where in first_use.items():
        if name not in semantic:
            raise TableError(f"{where}: there is no semantics function {name}")
    unused = sorted(semantic - first_use.keys())
    if unused:
        raise TableError(f"{', '.join(sources)}: no line for the semantics functions {', '.join(unused)}")


_LINE = re.compile(r"\s*(\S+)((?:\s+(?:[01A-Za-z-]+|<\w+>)(?!\S))*)(.*)")
_NAME = re.compile(r"[A-Z]\w*")
_INSERTED = re.compile(r"<(\w+)>")
_OPERAND = re.compile(r"(\w+)([=~])(\w+)\(([A-Za-z](?:,[A-Za-z])*)?\)")
_CONSTANT = re.compile(r"(\w+)=(-?(?:0[xX][0-9A-Fa-f]+|\d+)|[A-Za-z_]\w*)")
_CONDITION = re.compile(r"([A-Za-z])(==|!=)(0[xX][0-9A-Fa-f]+|\d+)")
_PREDICATE = re.compile(r"\?(\w+)\(([A-Za-z](?:,[A-Za-z])*)\)")

_OPEN = dict.fromkeys(range(128), "0")
_FIXED = _OPEN | {ord("0"): "1", ord("1"): "1"}
_ONES = _OPEN | {ord("1"): "1"}
"""Translate a picture to binary numbers: `_FIXED` to its fixed bits, `_ONES` to those that are 1."""


class _Parser:
    """Reads the lines of one table, each in two steps: mask, value and conditions first, operands later."""

    def __init__(
        self,
        width: int,
        functions: Mapping[str, Function | Linear],
        pictures: Mapping[str, str],
        constants: Mapping[str, int],
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

    # --- the first step

    def line(self, code: str, where: str) -> Pattern:
        found = _LINE.match(code)
        assert found is not None  # it is not empty
        name, picture, rest = found.groups()
        if not _NAME.fullmatch(name):
            raise TableError(f"{where}: {name!r} is no name of an instruction; names start with a capital letter")
        picture = picture.replace(" ", "")
        if "<" in picture:
            picture = _INSERTED.sub(lambda word: self._picture(word, where), picture)
        if len(picture) != self.width:
            raise TableError(f"{where}: the picture of {name} has {len(picture)} bits of {self.width}")
        trailers = rest.split()
        pattern = Pattern(name, where, self.width, lambda pattern: self._operands(pattern, picture, trailers))
        pattern.mask = int(picture.translate(_FIXED), 2)
        pattern.value = int(picture.translate(_ONES), 2)
        for word in trailers:
            if _CONDITION.fullmatch(word):
                self._condition(pattern, picture, word)
        for condition in self.required:
            if condition[0] in picture:
                self._condition(pattern, picture, condition)
        if any(mask & ~pattern.mask == 0 and pattern.value & mask == value for mask, value in pattern.excluded):
            raise TableError(f"{where}: the conditions of {name} exclude all its words")
        return pattern

    def _picture(self, word: re.Match[str], where: str) -> str:
        if word[1] not in self.pictures:
            raise TableError(f"{where}: nothing is given for {word[0]}")
        return self.pictures[word[1]]

    def _condition(self, pattern: Pattern, picture: str, text: str) -> None:
        letter, sign, number = text[0], text[1:3], int(text[3:], 0)
        if letter not in picture:
            raise TableError(f"{pattern.where}: the condition {text} is about no field of the picture")
        mask = value = 0
        rest = number
        for bit, character in enumerate(reversed(picture)):
            if character == letter:
                mask |= 1 << bit
                value |= (rest & 1) << bit
                rest >>= 1
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

    # --- the second step. Threads may race to do it, so it changes nothing in place: each sets new, equal objects.

    def _operands(self, pattern: Pattern, picture: str, trailers: Sequence[str]) -> None:
        letters = _letters(picture)
        constants: dict[str, int] = {}
        knowns: list[Operand] = []
        holes: list[Operand] = []
        predicates: list[Operand] = []

        def claim(name: str) -> str:
            """`name`, unless the line has an operand of this name already."""
            if name in letters:
                raise TableError(f"{pattern.where}: {name} is a field of the picture and cannot be given a value")
            if name in constants or any(name == operand.name for operand in knowns + holes):
                raise TableError(f"{pattern.where}: {name} is given twice")
            return name

        def operand(name: str, function: str, arguments: str) -> Operand:
            return self._operand(pattern.where, letters, name, function, arguments.replace(",", ""))

        for word in trailers:
            if match := _OPERAND.fullmatch(word):
                operands = knowns if match[2] == "=" else holes
                operands.append(operand(claim(match[1]), match[3], match[4] or ""))
            elif match := _PREDICATE.fullmatch(word):
                predicates.append(operand("", match[1], match[2]))
            elif match := _CONSTANT.fullmatch(word):
                constants[claim(match[1])] = self._constant(pattern.where, match[2])
            elif not _CONDITION.fullmatch(word):
                raise TableError(f"{pattern.where}: cannot read {word!r}")
        if pattern.name == UNDEFINED and (constants or knowns or holes):
            raise TableError(f"{pattern.where}: {UNDEFINED} has no operands")
        known = {letter for operand in knowns for letter in operand.letters}
        hole = {letter for operand in holes for letter in operand.letters} - known
        pattern.key_mask = sum(
            (1 << width) - 1 << shift
            for letter, pieces in letters.items()
            if letter not in hole
            for shift, width in pieces
        )
        pattern.letters, pattern.constants, pattern.knowns, pattern.holes = letters, constants, knowns, holes
        pattern.set_predicates(predicates)
        pattern.hole_names = tuple(operand.name for operand in holes)
        if not holes:
            pattern.hole_values = _no_holes

    def _operand(self, where: str, fields: Mapping[str, object], name: str, function: str, letters: str) -> Operand:
        if function not in self.functions:
            raise TableError(f"{where}: unknown function {function}")
        for letter in letters:
            if letter not in fields:
                raise TableError(f"{where}: {function} is given {letter}, which is no field of the picture")
        given = self.functions[function]
        called, selectors = (given.function, given.selectors) if isinstance(given, Linear) else (given, None)
        code = getattr(called, "__code__", None)
        if code is not None and code.co_argcount != len(letters):
            raise TableError(f"{where}: {function} takes {code.co_argcount} fields, and is given {len(letters)}")
        return Operand(name, called, letters, selectors)

    def _constant(self, where: str, text: str) -> int:
        if text in self.constants:
            return self.constants[text]
        if text.isidentifier():
            raise TableError(f"{where}: no value is given for the constant {text}")
        return int(text, 0)


def _letters(picture: str) -> dict[str, list[tuple[int, int]]]:
    """The fields of a picture. A field is a list of pieces (lowest bit, width), from the highest to the lowest."""
    letters: dict[str, list[tuple[int, int]]] = {}
    previous = ""
    for index, character in enumerate(picture):
        if character not in "01-":
            bit = len(picture) - 1 - index
            pieces = letters.setdefault(character, [])
            if character == previous:
                pieces[-1] = (bit, pieces[-1][1] + 1)
            else:
                pieces.append((bit, 1))
        previous = character
    return letters


def _no_holes(word: int) -> tuple[int, ...]:
    return ()


def _cite(pattern: Pattern) -> str:
    return f"{pattern.name} at {pattern.where}"


def _overlap(one: Pattern, other: Pattern) -> bool:
    """Whether some word matches both patterns."""
    if (one.value ^ other.value) & one.mask & other.mask:
        return False
    return _any_word(one.mask | other.mask, one.value | other.value, one.excluded + other.excluded)


def has_word(pattern: Pattern, mask: int, value: int) -> bool:
    """Whether some word that matches `pattern`, and no exception to it, has `word & mask == value`."""
    if (pattern.value ^ value) & pattern.mask & mask:
        return False
    # Ignore exceptions that exclude words themselves: the excluded words may be the pattern's.
    exceptions = [(other.mask, other.value) for other in pattern.exceptions if not other.excluded]
    return _any_word(pattern.mask | mask, pattern.value | value, pattern.excluded + exceptions)


def _any_word(mask: int, value: int, excluded: list[tuple[int, int]]) -> bool:
    """Whether a word with `word & mask == value` exists that matches none of the pairs `excluded`."""
    for index, (other_mask, other_value) in enumerate(excluded):
        if (value ^ other_value) & mask & other_mask:
            continue
        rest = excluded[index + 1 :]
        # Try words that differ from the excluded value in its lowest open bit, then words that are equal in that bit
        # and differ in the next one, and so on.
        for bit in each_bit(other_mask & ~mask):
            if _any_word(mask | bit, value | ~other_value & bit, rest):
                return True
            mask |= bit
            value |= other_value & bit
        return False
    return True
