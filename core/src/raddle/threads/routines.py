# SPDX-License-Identifier: Apache-2.0
"""Compiled routines, kept for the machines that the process makes later: compiling them is most of making a machine."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from raddle.codegen.backend import BackEnd
from raddle.codegen.faults import of_the_host
from raddle.ir.builder import Builder, Instruction, Label, Local
from raddle.runtime.calls import require_routine

__all__ = ["compiled", "same_code"]

MOST: Final = 256
"""Routines that are kept, of a few machines that differ in what their code depends on; then all are forgotten."""


class _Kept:
    """A routine's code. What the routine consists of is computed when another one may be the same, once; a process with
    one machine never needs it. Any thread.
    """

    def __init__(self, function: Builder, code: bytes) -> None:
        self.code = code
        self._function: Builder | None = function
        self._content: Hashable = None

    def content(self) -> Hashable:
        function = self._function
        if function is not None:
            self._content = _content(function)
            self._function = None
        return self._content


_kept: dict[Hashable, list[_Kept]] = {}
"""By what is cheap to compare. Each access is one operation of the dictionary or a list: any thread."""


def same_code(backend: BackEnd, numbers: Hashable) -> Hashable:
    """What the code that a back end makes depends on besides the function; None where that is not known. `numbers` are
    the callees'.
    """
    if backend.features is None:
        return None
    config = [value for name, value in backend.config._asdict().items() if name != "callee_number"]
    return type(backend), backend.features, numbers, *config


def compiled(function: Builder, name: str, backend: BackEnd, same: Hashable) -> bytes:
    """The code of a routine; `same` is the back end's `same_code`. Raises MachineError for a routine that would run on
    into what lies behind it, or calls a native helper otherwise than its table says.
    """
    key = None if same is None else (same, name, len(function.code))
    alike = tuple(_kept.get(key, ()))
    if alike:
        content = _content(function)
        for one in alike:
            if one.content() == content:
                return one.code
    require_routine(function, f"routine {name!r}")
    with of_the_host(type(backend), f"compile routine {name!r}"):
        code = backend.routine(function.code, function.locals)
    if sum(map(len, tuple(_kept.values()))) >= MOST:
        _kept.clear()
    if key:
        _kept.setdefault(key, []).append(_Kept(function, code))
    return code


def _content(function: Builder) -> Hashable:
    """Equal for functions that are the same instruction by instruction."""
    places: dict[object, int] = {ins: at for at, ins in enumerate(function.code)}
    for ins in function.code:
        if isinstance(ins.aux, Label):
            places.setdefault(ins.aux, len(places))

    def operand(value: Instruction) -> Hashable:
        """Constants and holes stand in no place."""
        return places.get(value, (value.op, value.type, value.aux))

    def rest(aux: object) -> Hashable:
        if isinstance(aux, Local):
            return aux.index
        return tuple([places.get(one, one) for one in aux]) if isinstance(aux, tuple) else places.get(aux, aux)

    return (
        tuple([local.type for local in function.locals]),
        tuple([(ins.op, ins.type, tuple([operand(arg) for arg in ins.args]), rest(ins.aux)) for ins in function.code]),
    )
