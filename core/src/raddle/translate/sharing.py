# SPDX-License-Identifier: Apache-2.0
"""Templates for instructions that differ only in their registers.

`ADD r1, r2, r3` and `ADD r7, r4, r5` have the same code except for the registers. A front end says with a `Sharing` for
which patterns this holds, and which operands are numbers of `FrontEnd.registers`. For these patterns it promises that
the semantics function uses a register number in three ways only:

- it reads and writes the register of that number;
- it compares the number with other register numbers of the instruction;
- it checks for numbers that are no register: those beyond the registers (ARM: the pc), and one that is None in
  `FrontEnd.registers` because it is always zero (RISC-V: x0).

The translator then compiles one instruction of each kind, with *model* registers. The runtime makes the others from it
by putting other registers into the code (family.c, rename.c).

A model preserves what the code may depend on: equal registers stay equal and different ones stay different; each
register is replaced by one that the host keeps in the same kind of place; a number that is no register stays itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from raddle.ir.types import Hole
from raddle.translate.pattern import Pattern


class Sharing:
    """How the words of `pattern` share templates: see the module. Immutable, shared by all threads.

    `names` are the operands that are register numbers. `list_name` is an operand that is a set of registers: bit n
    stands for register n, and the semantics function uses them in ascending order. If all registers are in
    `FrontEnd.registers`, a translation depends only on the bits `FrontEnd.mode_masks[mode_class]` of the block mode; if
    the class is -1, on all bits.

    `literal` names a field that becomes one more literal hole, after the pattern's own. The semantics function then
    gets a `Hole` for it. `closed(word)` returns the values of the field that must not become a hole, in words that
    differ from `word` only in this field; None if the field never becomes a hole there. The semantics function may
    compare the hole with these values: it equals none of them.
    """

    __slots__ = (
        "_closed",
        "key_mask",
        "list_name",
        "literal",
        "literal_mask",
        "mode_class",
        "names",
        "pattern",
        "read",
    )

    def __init__(
        self,
        pattern: Pattern,
        names: Sequence[str] = (),
        list_name: str = "",
        mode_class: int = -1,
        literal: str = "",
        closed: Callable[[int], Collection[int] | None] | None = None,
    ) -> None:
        self.pattern = pattern
        self.names = tuple(names)
        self.list_name = list_name
        self.mode_class = mode_class
        operands = (*self.names, list_name) if list_name else self.names
        self.key_mask = pattern.key_mask_without(operands)
        """The bits of a word, other than its registers, that its translation depends on."""
        self.read = pattern.reader(operands)
        self.literal = literal
        self._closed = closed
        self.literal_mask = pattern.key_mask_without((literal,))
        """The bits of a word, other than the literal, that its translation depends on."""

    def numbers(self, word: int) -> tuple[int, ...]:
        """The registers of `word`: first those of the list, ascending, then those of `names`."""
        values = self.read(word)
        if not self.list_name:
            return values
        members = values[-1]
        return (*(n for n in range(members.bit_length()) if members >> n & 1), *values[:-1])

    def closed(self, word: int) -> Collection[int] | None:
        """The values of the literal that have templates of their own, in words that differ from `word` only in the
        literal. None if the literal of `word` is one of them, or if its literal is never open.
        """
        values = None if self._closed is None else self._closed(word)
        return None if values is None or self.pattern.letter(self.literal, word) in values else values

    def open_literal(self, word: int) -> dict[str, int | Hole]:
        """The literal of `word` as a hole that equals none of the values that `closed` returns, which is not None."""
        pattern, name = self.pattern, self.literal
        never = frozenset(self.closed(word) or ())
        return {name: Hole(len(pattern.hole_names), name, partial(pattern.literal_range, name), never)}

    def operands(self, numbers: tuple[int, ...]) -> dict[str, int | Hole]:
        """The operands of a word with these registers, which are in the order of `numbers`."""
        count = len(numbers) - len(self.names)
        operands: dict[str, int | Hole] = dict(zip(self.names, numbers[count:], strict=True))
        if self.list_name:
            operands[self.list_name] = sum(1 << number for number in numbers[:count])
        return operands


class Model:
    """The registers that stand for the registers of many words in a template. Immutable."""

    __slots__ = ("chosen", "inside", "numbers", "renamed")

    def __init__(self, numbers: tuple[int, ...], chosen: Mapping[int, int], inside: bool) -> None:
        self.numbers = numbers
        """The registers of the model, in the order of `Sharing.numbers`."""
        self.chosen = tuple(chosen.values())
        """The model's registers that are replaced by a word's."""
        self.renamed = tuple(chosen)
        """The registers of the word that the model was made for, which replace those of `chosen`, one for one."""
        self.inside = inside
        """Whether all numbers are in `FrontEnd.registers`, which includes the number that is always zero."""


class Models:
    """Finds and keeps models. Thread-safe: two threads may make the same model, and either can be used."""

    def __init__(self, places: Sequence[int | None]) -> None:
        """`places` has the kind of place of each register; None for one that is always zero."""
        self._places = places
        self._alike = {place: [n for n, other in enumerate(places) if other == place] for place in places}
        """The registers of each kind of place."""
        self._known: dict[tuple[int, tuple[int, ...]], Model] = {}

    def __len__(self) -> int:
        """How many models are kept."""
        return len(self._known)

    def model(self, numbers: tuple[int, ...], ascending: int) -> Model:
        """The model for the registers `numbers`. The first `ascending` of these are in ascending order, and so are the
        model's.
        """
        model = self._known.get((ascending, numbers))
        if model is None:
            model = self._known[ascending, numbers] = self._make(numbers, ascending)
        return model

    def none(self, numbers: tuple[int, ...]) -> Model:
        """The model for `numbers` if the host does not rename registers: it replaces none."""
        return Model((), {}, self._inside(numbers))

    def _inside(self, numbers: tuple[int, ...]) -> bool:
        return all(number < len(self._places) for number in numbers)

    def _make(self, numbers: tuple[int, ...], ascending: int) -> Model:
        count = len(self._places)
        chosen: dict[int, int] = {}
        taken: set[int] = set()
        last = -1
        for position, number in enumerate(numbers):
            if number in chosen or number >= count or self._places[number] is None:
                continue
            # There is always one: the candidates for a word's registers never exceed those registers themselves.
            least = last if position < ascending else -1
            alike = self._alike[self._places[number]]
            candidate = next(other for other in alike if other > least and other not in taken)
            chosen[number] = last = candidate
            taken.add(candidate)
        model = tuple(chosen.get(number, number) for number in numbers)
        return Model(model, chosen, self._inside(numbers))
