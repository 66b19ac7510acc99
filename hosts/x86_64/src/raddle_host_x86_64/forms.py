# SPDX-License-Identifier: Apache-2.0
"""Forms: host instructions less the guest registers that they name, so that the runtime can put others there.

The emitter decides by which guest registers are equal and which are kept in host registers, never by which host
register one is. So the code for other registers has the same host instructions, with other registers in them. The
emitter traces what it emits; the instructions that name a register that may be replaced become *cuts*, of which the
runtime asks for the encodings that it needs (rename.c).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from raddle.codegen.allocation import CodegenError
from raddle.codegen.template import MOST_CUT_REGISTERS, pack_cut
from raddle.codegen.values import STATE
from raddle_host_x86_64.assembler import Assembler
from raddle_host_x86_64.emitter import REGISTER_ARGUMENTS, Traced
from raddle_host_x86_64.registers import RBP

_Form = tuple[Callable[..., None], tuple[int, ...], tuple[int, ...]]
"""(the assembler's method, its arguments with 0 for each register that is put in, where those are)"""
_FORM_SIZE: Final = 450
"""Bytes, about."""


class Forms:
    """The forms that a back end has met, by number. Thread-safe for `encode`; `cuts` is called by one at a time."""

    __slots__ = ("_forms", "_numbers")

    def __init__(self) -> None:
        self._forms: list[_Form] = []
        self._numbers: Final[dict[_Form, int]] = {}

    def cuts(self, hot: bytearray, trace: Sequence[Traced], places: Mapping[int, int]) -> bytes:
        """The instructions that name one of ``places``, packed; those that are not in ``hot`` are in the cold part.

        ``places`` has numbers of registers by their locations. Raises CodegenError.
        """
        cuts: list[bytes] = []
        arguments_of_interest = {place for place in places if place < STATE} | {p - STATE for p in places if p >= STATE}
        for where, start, end, method, arguments in trace:
            if arguments_of_interest.isdisjoint(arguments):
                continue
            registers, base = REGISTER_ARGUMENTS[method]
            slots = [at for at in registers if arguments[at] in places]
            numbers = [places[arguments[at]] for at in slots]
            if base >= 0 and arguments[base] == RBP and STATE + arguments[base + 1] in places:
                slots.append(base + 1)
                numbers.append(places[STATE + arguments[base + 1]])
            if slots:
                if len(slots) > MOST_CUT_REGISTERS:
                    raise CodegenError("a host instruction names more guest registers than the runtime can replace")
                blank = tuple([0 if at in slots else argument for at, argument in enumerate(arguments)])
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

    def encode(self, form: int, places: Sequence[int]) -> bytes:
        """The instruction with these host registers and offsets in the state put in, the first ones as it needs."""
        method, arguments, slots = self._forms[form]
        given = list(arguments)
        for slot, place in zip(slots, places, strict=False):
            given[slot] = place
        assembler = Assembler()
        method(assembler, *given)
        return bytes(assembler.code)
