# SPDX-License-Identifier: Apache-2.0
"""Parses litmus tests. The format is similar to that of the herd and litmus tools of diy.inria.fr:

    Raddle SB
    "Store buffering"
    { x=0; y=0; }
     P0       | P1       ;
     w[] x 1  | w[] y 1  ;
     r[] r0 y | r[] r0 x ;
    exists (0:r0=0 /\\ 1:r0=0)

Each cell has one instruction of `raddle.litmus.program`. `END:` before an instruction, or at the end of a thread, is a
label. Locations that are not named in braces are 0 at the start. Comments are written (* so *).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, NoReturn

from raddle.errors import UsageError, printable
from raddle.litmus.program import (
    Atomic,
    Branch,
    Compute,
    Condition,
    Fence,
    Instruction,
    LitmusTest,
    Load,
    LoadLinked,
    Quantifier,
    Store,
    StoreConditional,
)

__all__ = ["parse"]

WORD: Final = "Raddle"
"""A test begins with this word; tests of the other tools begin with the name of an architecture."""
MOST_CHARACTERS: Final = 1 << 16
MOST_THREADS: Final = 4
MOST_INSTRUCTIONS: Final = 16
"""In one thread."""
MOST_LOCATIONS: Final = 6
MOST_NESTED: Final = 32
"""Levels of parentheses."""

TOKEN: Final = re.compile(r"\s*(?:(/\\|\\/|[A-Za-z_][A-Za-z0-9_]*|0x[0-9a-fA-F]+|[0-9]+|\S))")
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
REGISTER: Final = re.compile(r"r[0-9]{1,2}")
COMMENT: Final = re.compile(r"\(\*.*?\*\)", re.DOTALL)
OPENING: Final = "(*"
BYTE_ORDER_MARK: Final = "\ufeff"
LABEL: Final = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*:(?!=)")

LOAD_ORDERS: Final = ("", "acquire", "acquirepc")
STORE_ORDERS: Final = ("", "release")
ATOMIC_ORDERS: Final = ("", "acquire", "release", "acquirerelease")
FENCES: Final = ("mb", "rmb", "wmb", "isb")


class Token(NamedTuple):
    text: str
    line: int
    column: int


class _Source:
    """A file's lines, and errors in them."""

    def __init__(self, name: str, text: str) -> None:
        self.name = printable(name)
        if len(text) > MOST_CHARACTERS:
            raise UsageError(f"{self.name}: a litmus test has at most {MOST_CHARACTERS} characters")
        if text.startswith(BYTE_ORDER_MARK):
            self.fail(1, 1, "the file begins with a byte-order mark: save it as UTF-8 without one")
        blanked = COMMENT.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text)
        self.lines = blanked.split("\n")
        for line, row in enumerate(self.lines, 1):
            if OPENING in row:
                self.fail(line, row.index(OPENING) + 1, "this comment does not end: '*)' is missing")

    def fail(self, line: int, column: int, message: str) -> NoReturn:
        """Raise UsageError. Lines and columns are counted from 1."""
        raise UsageError(f"{self.name}:{line}:{column}: {message}")

    def tokens(self, line: int, start: int = 0, end: int | None = None) -> list[Token]:
        """The tokens of a part of a line. `line` is counted from 1, the columns `start` and `end` from 0."""
        text = self.lines[line - 1]
        end = len(text) if end is None else end
        found, at = [], start
        while match := TOKEN.match(text, at, end):
            found.append(Token(match.group(1), line, match.start(1) + 1))
            at = match.end()
        return found


class _Reader:
    """Takes tokens one after the other."""

    def __init__(self, source: _Source, tokens: list[Token], end: Token) -> None:
        self.source = source
        self.tokens = tokens
        self.end = end
        """Stands for the end of the text, with its position."""
        self.position = 0

    @property
    def next(self) -> Token:
        return self.tokens[self.position] if self.position < len(self.tokens) else self.end

    @property
    def done(self) -> bool:
        return self.position >= len(self.tokens)

    def take(self) -> Token:
        token = self.next
        self.position += 1
        return token

    def fail(self, message: str, token: Token | None = None) -> NoReturn:
        at = token or self.next
        shown = f"{printable(at.text)!r}" if at.text else "the end"
        self.source.fail(at.line, at.column, f"{message}, not {shown}")

    def expect(self, text: str) -> Token:
        if self.next.text != text:
            self.fail(f"expected {text!r}")
        return self.take()

    def accept(self, text: str) -> bool:
        if self.next.text == text:
            self.position += 1
            return True
        return False

    def name(self, what: str) -> str:
        if not NAME.fullmatch(self.next.text):
            self.fail(f"expected {what}")
        return self.take().text

    def location(self) -> str:
        token = self.next
        name = self.name("a location")
        if REGISTER.fullmatch(name):
            self.fail("expected a location, not a register", token)
        return name

    def register(self) -> str:
        if not REGISTER.fullmatch(self.next.text):
            self.fail("expected a register, r0 to r99")
        return self.take().text

    def number(self) -> int:
        token = self.next
        if not token.text[:1].isdigit():
            self.fail("expected a number")
        value = int(token.text, 0) if token.text.startswith("0x") else int(token.text[:20])
        if value >= 1 << 32:
            self.fail("expected a number of at most 32 bits")
        self.position += 1
        return value

    def operand(self) -> int | str:
        return self.number() if self.next.text[:1].isdigit() else self.register()

    def one_of(self, what: str, choices: tuple[str, ...]) -> str:
        if self.next.text not in choices:
            self.fail(f"expected {what}: {', '.join(choices)}")
        return self.take().text

    def order(self, choices: tuple[str, ...]) -> str:
        """`[release]`, or `[]`."""
        self.expect("[")
        order = "" if self.next.text == "]" else self.one_of("an order", tuple(one for one in choices if one))
        self.expect("]")
        return order

    def place(self) -> tuple[str, str | None]:
        """A location, and the register that is added to its address, or None."""
        location = self.location()
        return location, self.register() if self.accept("+") else None


# --- instructions -----------------------------------------------------------------------------------------------------


def _load(read: _Reader) -> Instruction:
    order = read.order(LOAD_ORDERS)
    register = read.register()
    location, offset = read.place()
    return Load(register, location, order, offset)


def _store(read: _Reader) -> Instruction:
    order = read.order(STORE_ORDERS)
    location, offset = read.place()
    return Store(location, read.operand(), order, offset)


def _fence(read: _Reader) -> Instruction:
    read.expect("[")
    kind = read.one_of("a barrier", FENCES)
    read.expect("]")
    return Fence(kind)


def _move(read: _Reader) -> Instruction:
    register = read.register()
    if not read.accept("("):
        return Compute(register, "mov", (read.operand(),))
    operation = read.one_of("an operation", ("add", "and", "xor"))
    operands = read.operand(), read.operand()
    read.expect(")")
    return Compute(register, operation, operands)


def _load_linked(read: _Reader) -> Instruction:
    order = read.order(LOAD_ORDERS[:2])
    return LoadLinked(read.register(), read.location(), order)


def _store_conditional(read: _Reader) -> Instruction:
    order = read.order(STORE_ORDERS)
    return StoreConditional(read.register(), read.location(), read.operand(), order)


def _atomic(read: _Reader) -> Instruction:
    order = read.order(ATOMIC_ORDERS)
    register, location = read.register(), read.location()
    read.expect("(")
    operation = read.one_of("an operation", ("add", "xchg", "cas"))
    operands = (read.operand(), read.operand()) if operation == "cas" else (read.operand(),)
    read.expect(")")
    return Atomic(register, location, operation, operands, order)


READERS: Final[Mapping[str, Callable[[_Reader], Instruction]]] = {
    "r": _load,
    "w": _store,
    "f": _fence,
    "mov": _move,
    "ll": _load_linked,
    "sc": _store_conditional,
    "rmw": _atomic,
}


class _Pending(NamedTuple):
    """A branch whose label is not known yet."""

    register: str
    label: Token


class _Thread:
    """The code of a thread, while it is read."""

    def __init__(self) -> None:
        self.code: list[Instruction | _Pending] = []
        self.labels: dict[str, int] = {}

    def resolve(self, source: _Source) -> tuple[Instruction, ...]:
        made: list[Instruction] = []
        for at, one in enumerate(self.code):
            if not isinstance(one, _Pending):
                made.append(one)
                continue
            label = one.label
            if label.text not in self.labels:
                source.fail(label.line, label.column, f"there is no label {label.text!r} in this thread")
            if self.labels[label.text] <= at:
                source.fail(
                    label.line, label.column, f"label {label.text!r} is before its branch; there may be no loops"
                )
            made.append(Branch(one.register, self.labels[label.text]))
        return tuple(made)


def _read_cell(source: _Source, thread: _Thread, line: int, start: int, end: int) -> None:
    text = source.lines[line - 1]
    if label := LABEL.match(text, start, end):
        if label.group(1) in thread.labels:
            source.fail(line, label.start(1) + 1, f"label {label.group(1)!r} is defined twice")
        thread.labels[label.group(1)] = len(thread.code)
        start = label.end()
    tokens = source.tokens(line, start, end)
    if not tokens:
        return
    read = _Reader(source, tokens, Token("", line, end + 1))
    word = read.take()
    if word.text == "b":
        read.expect("[")
        read.expect("]")
        register, target = read.register(), read.next
        read.name("a label")
        thread.code.append(_Pending(register, target))
    elif word.text in READERS:
        thread.code.append(READERS[word.text](read))
    else:
        read.fail(f"expected an instruction ({', '.join((*READERS, 'b'))})", word)
    if not read.done:
        read.fail("expected the end of the instruction")
    if len(thread.code) > MOST_INSTRUCTIONS:
        source.fail(line, start + 1, f"a thread has at most {MOST_INSTRUCTIONS} instructions")


# --- conditions -------------------------------------------------------------------------------------------------------


class _ConditionReader:
    r"""`1:r0=1`, `x=2`, `/\`, `\/`, `~` and parentheses; `/\` binds more closely than `\/`."""

    def __init__(self, read: _Reader, threads: int) -> None:
        self.read = read
        self.threads = threads
        self.names: dict[str, Token] = {}
        """The registers and locations in the condition, with their first use."""
        self.depth = 0

    def disjunction(self) -> Condition:
        terms = [self.conjunction()]
        while self.read.accept("\\/"):
            terms.append(self.conjunction())
        return terms[0] if len(terms) == 1 else lambda values: any(term(values) for term in terms)

    def conjunction(self) -> Condition:
        terms = [self.term()]
        while self.read.accept("/\\"):
            terms.append(self.term())
        return terms[0] if len(terms) == 1 else lambda values: all(term(values) for term in terms)

    def term(self) -> Condition:
        self.depth += 1
        if self.depth > MOST_NESTED:
            self.read.fail(f"expected at most {MOST_NESTED} levels of parentheses")
        made = self._term()
        self.depth -= 1
        return made

    def _term(self) -> Condition:
        read = self.read
        if read.accept("("):
            inner = self.disjunction()
            read.expect(")")
            return inner
        if read.accept("~"):
            negated = self.term()
            return lambda values: not negated(values)
        start = read.next
        if start.text[:1].isdigit():
            thread = read.number()
            if thread >= self.threads:
                read.fail(f"expected a thread, 0 to {self.threads - 1}", start)
            read.expect(":")
            name = f"{thread}:{read.register()}"
        else:
            name = read.location()
        self.names.setdefault(name, start)
        read.expect("=")
        wanted = read.number()
        return lambda values: values[name] == wanted


# --- the file ---------------------------------------------------------------------------------------------------------


def parse(text: str, name: str = "litmus test") -> LitmusTest:
    """Parse one test. `name` is the file's name in messages. Raises UsageError with line and column."""
    source = _Source(name, text)
    rows = iter(number for number, row in enumerate(source.lines, 1) if row.strip())

    def next_line(what: str) -> int:
        number = next(rows, None)
        if number is None:
            source.fail(len(source.lines), len(source.lines[-1]) + 1, f"expected {what}, not the end of the file")
        return number

    line = next_line(f"{WORD} and the test's name")
    word, _, title = source.lines[line - 1].strip().partition(" ")
    if word != WORD or not title.strip():
        source.fail(line, 1, f"expected {WORD!r} and the test's name, as in '{WORD} SB', not '{printable(word)}'")
    line = next_line("the initial state, { x=0; }")
    comment = source.lines[line - 1].strip()
    if comment.startswith('"'):
        if len(comment) < 2 or not comment.endswith('"'):
            source.fail(line, len(source.lines[line - 1].rstrip()) + 1, "expected '\"', which ends the description")
        comment = comment.strip('"')
        line = next_line("the initial state, { x=0; }")
    else:
        comment = ""
    initial, line = _initial(source, line, next_line)
    threads = _program(source, line, next_line)
    return _finish(source, threads.end, printable(title.strip()), printable(comment), initial, threads.codes)


def _initial(source: _Source, line: int, next_line: Callable[[str], int]) -> tuple[dict[str, int], int]:
    """The part in braces, over any number of lines; and the line after it."""
    tokens = source.tokens(line)
    if tokens[0].text != "{":
        source.fail(line, tokens[0].column, "expected '{', which begins the initial state")
    while not any(token.text == "}" for token in tokens):
        line = next_line("'}'")
        tokens += source.tokens(line)
    read = _Reader(source, tokens, Token("", line, len(source.lines[line - 1]) + 1))
    read.expect("{")
    initial: dict[str, int] = {}
    while not read.accept("}"):
        at = read.next
        location = read.location()
        if location in initial:
            source.fail(at.line, at.column, f"location {location!r} is given twice")
        read.expect("=")
        initial[location] = read.number()
        if read.next.text != "}":
            read.expect(";")
    if not read.done:
        read.fail("expected the end of the line")
    return initial, next_line("the threads, P0 | P1 ;")


class _Program(NamedTuple):
    codes: list[tuple[Instruction, ...]]
    end: int
    """Number of the line after the threads."""


def _program(source: _Source, line: int, next_line: Callable[[str], int]) -> _Program:
    cells = _cells(source, line)
    count = len(cells)
    for number, (start, end) in enumerate(cells):
        if source.lines[line - 1][start:end].strip() != f"P{number}":
            source.fail(line, start + 1, f"expected the heading 'P{number}' of a thread")
    if not 1 <= count <= MOST_THREADS:
        source.fail(line, 1, f"a test has 1 to {MOST_THREADS} threads, not {count}")
    threads = [_Thread() for _ in cells]
    while True:
        line = next_line("'exists', '~exists' or 'forall'")
        if source.lines[line - 1].lstrip().startswith(("exists", "~exists", "forall", "~ exists")):
            break
        cells = _cells(source, line)
        if len(cells) != count:
            source.fail(line, 1, f"expected {count} cells, as many as there are threads, not {len(cells)}")
        for thread, (start, end) in zip(threads, cells, strict=True):
            _read_cell(source, thread, line, start, end)
    return _Program([thread.resolve(source) for thread in threads], line)


def _cells(source: _Source, line: int) -> list[tuple[int, int]]:
    """Start and end of each cell of a line of the program, which ends with a semicolon."""
    text = source.lines[line - 1].rstrip()
    if not text.endswith(";"):
        source.fail(line, len(text) + 1, "expected ';' at the end of a line of the program")
    cells, start = [], 0
    for part in text[:-1].split("|"):
        cells.append((start, start + len(part)))
        start += len(part) + 1
    return cells


def _finish(
    source: _Source, line: int, title: str, comment: str, initial: dict[str, int], codes: list[tuple[Instruction, ...]]
) -> LitmusTest:
    """Parse the condition, check the test as a whole, and make it."""
    tokens = [token for number in range(line, len(source.lines) + 1) for token in source.tokens(number)]
    read = _Reader(source, tokens, Token("", len(source.lines), len(source.lines[-1]) + 1))
    negated = read.accept("~")
    word = read.one_of("a quantifier", ("exists",) if negated else ("exists", "forall"))
    start = read.position
    conditions = _ConditionReader(read, len(codes))
    condition = conditions.disjunction()
    if not read.done:
        read.fail("expected the end of the condition")
    text = _spelled(tokens[start:])
    for code in codes:
        for instruction in code:
            location = getattr(instruction, "location", None)
            if location is not None:
                initial.setdefault(location, 0)
    for name, token in conditions.names.items():
        thread, _, register = name.rpartition(":")
        if thread and register not in assigned(codes[int(thread)]):
            source.fail(token.line, token.column, f"thread {thread} never writes {register}")
        if not thread and name not in initial:
            source.fail(token.line, token.column, f"there is no location {name!r} in this test")
    if not initial:
        source.fail(line, 1, "a test accesses at least one location")
    if len(initial) > MOST_LOCATIONS:
        source.fail(line, 1, f"a test has at most {MOST_LOCATIONS} locations, not {len(initial)}")
    for number, code in enumerate(codes):
        _check_registers(source, line, number, code)
    observed = tuple(sorted(conditions.names))
    quantifier = Quantifier(f"~{word}" if negated else word)
    return LitmusTest(title, comment, initial, tuple(codes), quantifier, condition, text, observed)


def _spelled(tokens: list[Token]) -> str:
    text = ""
    for token in tokens:
        text += f" {token.text} " if token.text in ("/\\", "\\/") else token.text
    return text


def assigned(code: tuple[Instruction, ...]) -> set[str]:
    """The registers that a thread writes."""
    written = {one.register for one in code if isinstance(one, Load | Compute | LoadLinked | Atomic)}
    return written | {one.status for one in code if isinstance(one, StoreConditional)}


def used(one: Instruction) -> set[str]:
    """The registers that an instruction reads."""
    operands: tuple[object, ...]
    match one:
        case Load(_, _, _, offset):
            operands = (offset,)
        case Store(_, value, _, offset):
            operands = (value, offset)
        case Compute(_, _, values):
            operands = values
        case Branch(register, _):
            operands = (register,)
        case StoreConditional(_, _, value, _):
            operands = (value,)
        case Atomic(_, _, _, values, _):
            operands = values
        case _:
            operands = ()
    return {operand for operand in operands if isinstance(operand, str)}


def _check_registers(source: _Source, line: int, number: int, code: tuple[Instruction, ...]) -> None:
    """Refuse registers that are read before they are written: on a guest, they would have any value."""
    known: set[str] = set()
    for one in code:
        missing = sorted(used(one) - known)
        if missing:
            source.fail(line, 1, f"thread {number} reads {missing[0]} before it has written it")
        known |= assigned((one,))
