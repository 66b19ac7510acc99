# SPDX-License-Identifier: Apache-2.0
"""Reads the text that ``raddle.ir.printer`` writes. Any other text is refused with its line and column.

What is syntactically right may still be invalid IR: ``raddle.ir.verifier`` says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import NoReturn, TypeVar

from raddle.ir.builder import (
    Builder,
    Callee,
    CalleeKind,
    FloatCompare,
    FloatToInt,
    Instruction,
    IntToFloat,
    Label,
    Local,
    MemAccess,
    Rounding,
)
from raddle.ir.header import COMMON
from raddle.ir.opcodes import TABLE, Op
from raddle.ir.printer import operand_type, yields
from raddle.ir.types import Align, Condition, Field, FieldArray, FlagCondition, Hole, MemOp, StateLayout, Type
from raddle.ordering import MemoryOrder

_E = TypeVar("_E", bound=Enum)

_OPS = {info.name: op for op, info in TABLE.items() if op not in (Op.CONST, Op.HOLE, Op.LABEL)}
_TYPES = {type.name.lower(): type for type in Type if type is not Type.VOID}

_TOKEN = re.compile(
    r"""(?P<space>[ \t]+|;.*)
      | (?P<number>[+-]?(?:0x[0-9a-fA-F]+|[0-9]+)(?![\w.]))
      | (?P<value>v[0-9]+(?![\w.]))
      | (?P<indexed>[$%@][0-9]+(?:\.[A-Za-z_][\w.]*)?)
      | (?P<word>[A-Za-z_][\w.]*)
      | (?P<mark>[=,:|\[\]])""",
    re.VERBOSE | re.ASCII,
)
_LONGEST_NUMBER = 40


class IRSyntaxError(ValueError):
    """Text that is no IR. ``line`` and ``column`` count from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.line = line
        self.column = column


def parse_function(text: str, layout: StateLayout, word: Type = Type.I32) -> Builder:
    """The function that ``text`` describes, over the guest state ``layout``. Raises IRSyntaxError."""
    parser = _Parser(layout, word)
    for number, line in enumerate(text.split("\n"), 1):
        parser.line(number, line)
    return parser.function


class _Parser:
    def __init__(self, layout: StateLayout, word: Type) -> None:
        self.layout = layout
        self.function = Builder(word, layout.nzcv)
        self.values: dict[str, Instruction] = {}
        self.labels: dict[int, Label] = {}
        self.line_number = 0
        self.tokens: list[tuple[str, str, int]] = []
        self.position = 0
        self.read_aux: dict[str, Callable[[], object]] = {
            "int": self.integer,
            "Field": self.field,
            "FieldArray": self.array,
            "Local": self.local,
            "FlagCondition": lambda: self.member(FlagCondition),
            "Condition": lambda: self.member(Condition),
            "tuple[int, int]": self.bit_range,
            "MemAccess": self.access,
            "MemoryOrder": self.orders,
            "FloatCompare": lambda: self.member(FloatCompare),
            "FloatToInt": self.float_to_int,
            "IntToFloat": self.int_to_float,
            "Callee": self.callee,
        }

    # -- tokens --------------------------------------------------------------------------------------------------------

    def split(self, line: str) -> None:
        self.tokens = []
        self.position = 0
        column = 0
        line = line.rstrip("\r")
        while column < len(line):
            match = _TOKEN.match(line, column)
            if match is None:
                raise IRSyntaxError(f"{line[column]!r} begins nothing that IR knows", self.line_number, column + 1)
            kind = match.lastgroup or ""
            if kind != "space":
                self.tokens.append((kind, match.group(), column + 1))
            column = match.end()
        self.tokens.append(("end", "the end of the line", len(line) + 1))

    @property
    def kind(self) -> str:
        return self.tokens[self.position][0]

    @property
    def text(self) -> str:
        return self.tokens[self.position][1]

    def fail(self, message: str, back: int = 0) -> NoReturn:
        raise IRSyntaxError(message, self.line_number, self.tokens[max(self.position - back, 0)][2])

    def next(self) -> str:
        text = self.text
        self.position += 1
        return text

    def take(self, kind: str, what: str) -> str:
        if self.kind != kind:
            self.fail(f"{what} is wanted here, not {self.text}")
        return self.next()

    def accept(self, mark: str) -> bool:
        if self.kind == "mark" and self.text == mark:
            self.position += 1
            return True
        return False

    def expect(self, mark: str) -> None:
        if not self.accept(mark):
            self.fail(f"{mark!r} is wanted here, not {self.text}")

    def integer(self) -> int:
        text = self.take("number", "a number")
        if len(text) > _LONGEST_NUMBER:
            self.fail("the number is too long", back=1)
        return int(text, 0) if "x" in text else int(text)

    def name(self, what: str) -> str:
        return self.take("word", what)

    def indexed(self, sigil: str, what: str) -> tuple[int, str]:
        if self.kind != "indexed" or self.text[0] != sigil:
            self.fail(f"{what} is wanted here, not {self.text}")
        index, _, name = self.next()[1:].partition(".")
        if len(index) > _LONGEST_NUMBER:
            self.fail("the number is too long", back=1)
        return int(index), name

    def member(self, enum: type[_E]) -> _E:
        name = self.name(f"one of {', '.join(m.name.lower() for m in enum)}")
        try:
            return enum[name.upper()]
        except KeyError:
            self.fail(f"{name} is none of {', '.join(m.name.lower() for m in enum)}", back=1)

    def type(self, name: str) -> Type:
        if name not in _TYPES:
            self.fail(f"{name!r} is no type; types are {', '.join(_TYPES)}", back=1)
        return _TYPES[name]

    # -- lines ---------------------------------------------------------------------------------------------------------

    def line(self, number: int, line: str) -> None:
        self.line_number = number
        self.split(line)
        if self.kind == "end":
            return
        if self.kind == "indexed" and self.text[0] == "@":
            self.bind()
        elif self.kind == "word" and self.text.startswith("local."):
            self.declare()
        else:
            self.instruction()
        if self.kind != "end":
            self.fail(f"{self.text} stands after the end of the instruction")

    def bind(self) -> None:
        label = self.label()
        if label.bound:
            self.fail(f"label {self.tokens[self.position - 1][1]} is bound twice", back=1)
        if self.kind == "word" and self.text == "rare":
            self.next()
            label.rare = True
        self.expect(":")
        self.function.bind(label)

    def declare(self) -> None:
        type = self.type(self.next().removeprefix("local."))
        index, name = self.indexed("$", "a local")
        if index != len(self.function.locals):
            self.fail(f"locals are declared in order; ${len(self.function.locals)} is next", back=1)
        self.function.locals.append(Local(index, type, name))

    def instruction(self) -> None:
        result = None
        if self.kind == "value":
            result = self.next()
            if result in self.values:
                self.fail(f"{result} is defined twice", back=1)
            self.expect("=")
        mnemonic, _, suffix = self.name("an instruction").partition(".")
        if mnemonic not in _OPS:
            self.fail(f"there is no instruction {mnemonic!r}", back=1)
        op = _OPS[mnemonic]
        type = self.type(suffix) if suffix else Type.VOID
        aux: object = None
        args: list[Instruction] = []
        if TABLE[op].aux in self.read_aux:
            aux = self.read_aux[TABLE[op].aux]()
            more = self.accept(",")
        else:
            more = self.kind != "end"
        labels: list[Label] = []
        while more:
            if self.kind == "indexed" and self.text[0] == "@":
                labels.append(self.label())
            elif labels:
                self.fail("operands stand before labels")
            else:
                args.append(self.operand(op, len(args), type))
            more = self.accept(",")
        wanted = {"Label": 1, "tuple[Label, Label]": 2}.get(TABLE[op].aux, 0)
        if len(labels) != wanted:
            self.fail(f"{mnemonic} takes {wanted or 'no'} label{'s' if wanted != 1 else ''}, not {len(labels)}")
        if labels:
            aux = labels[0] if wanted == 1 else tuple(labels)
        instruction = Instruction(op, type, tuple(args), aux)
        if yields(instruction) != (result is not None):
            self.fail(f"{mnemonic} yields {'a value, which needs a name' if result is None else 'no value'}")
        if result is not None:
            self.values[result] = instruction
        self.function.code.append(instruction)

    # -- operands ------------------------------------------------------------------------------------------------------

    def operand(self, op: Op, position: int, type: Type) -> Instruction:
        if self.kind == "value":
            name = self.next()
            if name not in self.values:
                self.fail(f"{name} is not defined above", back=1)
            return self.values[name]
        if self.kind == "indexed" and self.text[0] == "%":
            index, name = self.indexed("%", "a hole")
            return Instruction(Op.HOLE, self.literal_type(op, position, type), (), Hole(index, name))
        if self.kind != "number":
            self.fail(f"an operand is wanted here, not {self.text}")
        value = self.integer()
        literal = self.literal_type(op, position, type)
        if not -(1 << literal.bits) // 2 <= value < 1 << literal.bits:
            self.fail(f"{value} does not fit into {literal.name.lower()}", back=1)
        return Instruction(Op.CONST, literal, (), value & ((1 << literal.bits) - 1))

    def literal_type(self, op: Op, position: int, type: Type) -> Type:
        wanted = operand_type(op, position, type, self.function.word)
        if self.accept(":"):
            written = self.type(self.name("a type"))
            if wanted not in (None, written):
                self.fail(f"{TABLE[op].name} takes {wanted.name.lower() if wanted else ''} here", back=1)
            return written
        if wanted is None:
            self.fail(f"the literal needs a type here: {self.tokens[self.position - 1][1]}:i32, say", back=1)
        if wanted is Type.VOID:
            self.fail(f"{TABLE[op].name} lacks its type, {TABLE[op].name}.i32, say", back=1)
        return wanted

    def label(self) -> Label:
        index, name = self.indexed("@", "a label")
        label = self.labels.setdefault(index, Label(name))
        if label.name != name:
            self.fail(f"label @{index} is called {label.name!r} elsewhere", back=1)
        return label

    def field(self) -> Field:
        name = self.name("a state field")
        if name.startswith("cpu."):
            field = COMMON.get(name.removeprefix("cpu."))
        else:
            field = self.layout.fields.get(name)
        if field is None:
            self.fail(f"there is no state field {name!r}", back=1)
        return field

    def array(self) -> FieldArray:
        name = self.name("a field array")
        if name not in self.layout.arrays:
            self.fail(f"there is no field array {name!r}", back=1)
        return self.layout.arrays[name]

    def local(self) -> Local:
        index, name = self.indexed("$", "a local")
        declared = self.function.locals
        if index >= len(declared) or declared[index].name != name:
            self.fail("this local is not declared above", back=1)
        return declared[index]

    # -- what stands in brackets ---------------------------------------------------------------------------------------

    def bit_range(self) -> tuple[int, int]:
        self.expect("[")
        lsb, width = self.integer(), self.integer()
        self.expect("]")
        return lsb, width

    def words(self, *flags: str, **readers: Callable[[], object]) -> dict[str, object]:
        """The rest of a bracket: words in ``flags``, and word=value with the value's reader. Each at most once."""
        found: dict[str, object] = {}
        while not self.accept("]"):
            word = self.name("a word or ']'")
            if word in found:
                self.fail(f"{word} stands twice", back=1)
            if word in readers:
                self.expect("=")
                found[word] = readers[word]()
            elif word in flags:
                found[word] = True
            else:
                self.fail(f"{word} is not known here; known: {', '.join((*flags, *readers))}", back=1)
        return found

    def access(self) -> MemAccess:
        self.expect("[")
        size = self.name("a size (u4, s2 ...)")
        if not re.fullmatch(r"[us](1|2|4|8|16)", size):
            self.fail(f"{size} is no size; sizes are u1, u2, u4, u8, u16 and s1 ... s16", back=1)
        found = self.words("be", align=lambda: self.member(Align), order=self.orders, mmu=self.integer)
        if "mmu" not in found:
            self.fail("mmu= is missing", back=1)
        align, order, mmu = found.get("align", Align.NONE), found.get("order", 0), found["mmu"]
        assert isinstance(align, Align)
        assert isinstance(order, int)
        assert isinstance(mmu, int)
        return MemAccess(MemOp(int(size[1:]), size[0] == "s", "be" in found, align, int(order)), mmu)

    def orders(self) -> MemoryOrder:
        orders = MemoryOrder.NONE
        while True:
            name = self.name("a memory order")
            if name not in ("NONE", "ALL", *(order.name for order in MemoryOrder)):
                self.fail(f"{name} is none of NONE, LD_LD, LD_ST, ST_LD, ST_ST and ALL", back=1)
            orders |= MemoryOrder[name]
            if not self.accept("|"):
                return orders

    def signedness(self) -> bool:
        self.expect("[")
        word = self.name("signed or unsigned")
        if word not in ("signed", "unsigned"):
            self.fail(f"signed or unsigned is wanted here, not {word}", back=1)
        return word == "signed"

    def conversion(self, **more: Callable[[], int]) -> tuple[bool, Rounding, dict[str, int]]:
        """A conversion's signedness, its rounding and its numbers: fraction and what ``more`` names."""
        signed = self.signedness()
        found = self.words(rounding=lambda: self.member(Rounding), fraction=self.integer, **more)
        rounding = found.pop("rounding", Rounding.CURRENT)
        assert isinstance(rounding, Rounding)
        return signed, rounding, {name: value for name, value in found.items() if isinstance(value, int)}

    def float_to_int(self) -> FloatToInt:
        signed, rounding, numbers = self.conversion(width=self.integer)
        return FloatToInt(signed, rounding, **numbers)

    def int_to_float(self) -> IntToFloat:
        signed, rounding, numbers = self.conversion()
        return IntToFloat(signed, rounding=rounding, **numbers)

    def callee(self) -> Callee:
        self.expect("[")
        kind = self.member(CalleeKind)
        name = self.name("the callee's name")
        found = self.words("may_exit", "pure_state")
        return Callee(kind, name, "may_exit" in found, "pure_state" in found)
