# SPDX-License-Identifier: Apache-2.0
"""Renaming: host instructions without the guest registers that they name, so that the runtime can put in others.

An emitter's choices depend on which guest registers are equal, and on the kind of place of each, but not on which
register it is. So the code for other registers has the same host instructions with other registers in them. The emitter
traces what it emits. Instructions that name a replaceable register become *cuts*; the runtime asks for the encodings of
cuts that it needs (rename.c). A host declares which operands of an instruction may name a guest register.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from raddle.codegen.allocation import CodegenError
from raddle.codegen.code_buffer import CodeBuffer
from raddle.codegen.locations import InState, Register, RegisterClass, in_state
from raddle.codegen.template import MOST_CUT_REGISTERS, pack_cut
from raddle.ir.builder import Location

Method = Callable[..., None]
"""An assembler's method that appends an instruction to its code; the operands are integers."""

Traced = tuple[bytearray, int, int, Method, tuple[int, ...]]
"""A host instruction: (code that it is in, offset of its start, of its end, method that made it, operands)."""


def trace_methods(emitter: type[Any], assembler: type[Any], operands: Mapping[Method, Operands]) -> None:
    """Let the emitter's `trace` have each instruction that a method of ``operands`` appends.

    The methods are attributes of the class ``assembler``, from which the class ``emitter`` inherits them.
    """
    for name, method in vars(assembler).items():
        if callable(method) and method in operands:
            setattr(emitter, name, _traced(method))


def _traced(method: Method) -> Method:
    def emit(self: Any, *arguments: int) -> None:
        code = self.code
        start = len(code)
        method(self, *arguments)
        self.trace.append((code, start, len(code), method, arguments))

    return emit


class Operands(NamedTuple):
    """Which operands of a host instruction may name a guest register, as the host declares it."""

    registers: tuple[tuple[int, RegisterClass], ...]
    """(operand's number, its class) of each operand that is a register of a class that can hold guest registers."""
    base: int = -1
    """Number of the operand that is the base of a memory operand; the next one is the displacement. -1 for none."""


_Form = tuple[Method, tuple[int, ...], tuple[int, ...]]
"""(method, operands with 0 for each replaceable one, numbers of those)"""
_FORM_SIZE: Final = 450
"""Bytes, about."""


class Forms:
    """The forms that a back end has met, by number. `encode` is thread-safe; one thread at a time may call `cuts`."""

    __slots__ = ("_assembler", "_forms", "_numbers", "_operands", "_state_base")

    def __init__(
        self, operands: Mapping[Method, Operands], state_base: int, assembler: Callable[[], CodeBuffer]
    ) -> None:
        """``operands`` are those of all instructions that are traced; ``state_base`` is the register that points to the
        guest's state; ``assembler`` makes a new assembler.
        """
        self._operands = operands
        self._state_base = state_base
        self._assembler = assembler
        self._forms: list[_Form] = []
        self._numbers: Final[dict[_Form, int]] = {}

    def cuts(self, hot: bytearray, trace: Sequence[Traced], places: Mapping[Location, int]) -> bytes:
        """The instructions that name one of ``places``, packed; those that are not in ``hot`` are in the cold part.

        ``places`` has numbers of registers by their locations. Raises CodegenError.
        """
        if not places:
            return b""
        cuts: list[bytes] = []
        no_place_in = {_operand(place) for place in places}.isdisjoint
        # A comprehension takes half the time of the loop, and most instructions name no place.
        for where, start, end, method, operands in [one for one in trace if not no_place_in(one[4])]:
            registers, base = self._operands[method]
            named = [(at, register_class[operands[at]]) for at, register_class in registers]
            slots = [at for at, place in named if place in places]
            numbers = [places[place] for _, place in named if place in places]
            if base >= 0 and operands[base] == self._state_base:
                number = places.get(in_state(operands[base + 1]))
                if number is not None:
                    slots.append(base + 1)
                    numbers.append(number)
            if slots:
                if len(slots) > MOST_CUT_REGISTERS:
                    raise CodegenError("a host instruction names more guest registers than the runtime can replace")
                blank = tuple([0 if at in slots else operand for at, operand in enumerate(operands)])
                form = self._number((method, blank, tuple(slots)))
                cuts.append(pack_cut(where is not hot, form, start, end - start, numbers))
        return b"".join(cuts)

    @property
    def footprint(self) -> int:
        """Bytes of memory that they take, about."""
        return _FORM_SIZE * len(self._forms)

    def _number(self, form: _Form) -> int:
        number = self._numbers.get(form)
        if number is None:
            number = self._numbers[form] = len(self._forms)
            self._forms.append(form)
        return number

    def encode(self, form: int, locations: Sequence[Location]) -> bytes:
        """Encode the instruction with the first of these locations as its registers, as many as it has."""
        method, operands, slots = self._forms[form]
        given = list(operands)
        for slot, location in zip(slots, locations, strict=False):
            given[slot] = _operand(location)
        assembler = self._assembler()
        method(assembler, *given)
        return bytes(assembler.code)


def _operand(location: Location) -> int:
    """The operand of a host instruction that names this location of a field."""
    assert isinstance(location, Register | InState)
    return location.number if isinstance(location, Register) else location.offset
