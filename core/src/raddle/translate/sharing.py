# SPDX-License-Identifier: Apache-2.0
"""Templates for instructions that differ only in their registers.

`ADD r1, r2, r3` and `ADD r7, r4, r5` are the same code but for the registers. A front end tells with a `Sharing` for
which patterns that holds: which operands are numbers of `FrontEnd.registers`, and that the semantics do nothing with
such a number but reach the register of that number, compare it with others of the instruction, and know the numbers
that stand for no register: those beyond the registers (ARM: the pc), and one that is None in `FrontEnd.registers`
because it is always zero (RISC-V: x0). The translator then has one instruction of a kind compiled, with *model*
registers, and the runtime makes the others from it by putting other registers into the code (family.c, rename.c).

Models keep apart what the code may depend on: equal registers stay equal, different ones different, each register is
modelled by one that the host keeps in the same kind of place, and a number that stands for no register by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from raddle.ir.types import Hole
from raddle.translate.pattern import Pattern


class Sharing:
    """How the words of `pattern` share templates: see the module. Immutable, shared by all threads.

    `names` are the operands that are register numbers. `list_name` is one that is a set of them, bit n for register n,
    whose members the semantics reach in ascending order. While all registers are in `FrontEnd.registers`, a translation
    depends on the bits `FrontEnd.mode_masks[mode_class]` of the block mode alone, or on all of them if the class is -1.

    `literal` names a field that stays open as one more literal hole, after the pattern's; the semantics then get a
    `Hole` for it. `closed` gives the values of the field for which it does not, in words that are otherwise as the one
    that it is given; None where it never does. Semantics may ask the hole whether it is one of these: it is not.
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
        """The bits of a word that its translation depends on besides the registers."""
        self.read = pattern.reader(operands)
        self.literal = literal
        self._closed = closed
        self.literal_mask = pattern.key_mask_without((literal,))
        """The bits that it depends on besides the literal."""

    def numbers(self, word: int) -> tuple[int, ...]:
        """The registers of `word`: those of the list, ascending, and those of `names`."""
        values = self.read(word)
        if not self.list_name:
            return values
        members = values[-1]
        return (*(n for n in range(members.bit_length()) if members >> n & 1), *values[:-1])

    def closed(self, word: int) -> Collection[int] | None:
        """The values of the literal for which words that are otherwise as `word` have a template of their own; None if
        the literal of `word` itself is one, or if it has none."""
        values = None if self._closed is None else self._closed(word)
        return None if values is None or self.pattern.letter(self.literal, word) in values else values

    def open_literal(self, word: int) -> dict[str, int | Hole]:
        """The literal of `word`, for which `closed` gives values, as an operand that stays open and is none of them."""
        pattern, name = self.pattern, self.literal
        never = frozenset(self.closed(word) or ())
        return {name: Hole(len(pattern.hole_names), name, partial(pattern.literal_range, name), never)}

    def operands(self, numbers: tuple[int, ...]) -> dict[str, int | Hole]:
        """The operands that a word with these registers has."""
        count = len(numbers) - len(self.names)
        operands: dict[str, int | Hole] = dict(zip(self.names, numbers[count:], strict=True))
        if self.list_name:
            operands[self.list_name] = sum(1 << number for number in numbers[:count])
        return operands


class Model:
    """The model of a choice of registers."""

    __slots__ = ("chosen", "inside", "numbers", "renamed")

    def __init__(self, numbers: tuple[int, ...], chosen: Mapping[int, int], inside: bool) -> None:
        self.numbers = numbers
        """The registers of the model, in the order of `Sharing.numbers`."""
        self.chosen = tuple(chosen.values())
        """Those of them that others are put in place of."""
        self.renamed = tuple(chosen)
        """Those of the instruction that stand for each of `chosen`."""
        self.inside = inside
        """Whether all registers are in `FrontEnd.registers`, one that is always zero among them."""


class Models:
    """Finds and keeps models. Thread-safe: two threads may make the same model; either will do."""

    def __init__(self, places: Sequence[int | None]) -> None:
        """`places` has the kind of place of each register, None for one that is always zero."""
        self._places = places
        self._alike = {place: [n for n, other in enumerate(places) if other == place] for place in places}
        """Registers of one kind of place, by the place."""
        self._known: dict[tuple[int, tuple[int, ...]], Model] = {}

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._known)

    def model(self, numbers: tuple[int, ...], ascending: int) -> Model:
        """The model of the registers `numbers`, of which the first `ascending` are in ascending order, to be kept."""
        model = self._known.get((ascending, numbers))
        if model is None:
            model = self._known[ascending, numbers] = self._make(numbers, ascending)
        return model

    def none(self, numbers: tuple[int, ...]) -> Model:
        """What stands for a model where the host does not rename registers."""
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
            # There is one: each is at most the instruction's own register.
            least = last if position < ascending else -1
            alike = self._alike[self._places[number]]
            candidate = next(other for other in alike if other > least and other not in taken)
            chosen[number] = last = candidate
            taken.add(candidate)
        model = tuple(chosen.get(number, number) for number in numbers)
        return Model(model, chosen, self._inside(numbers))
