# SPDX-License-Identifier: Apache-2.0
"""Functions that generated code and the runtime call by number: native helpers, compiled IR routines, Python
functions."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from raddle.codegen.backend import BackEnd
from raddle.errors import MachineError
from raddle.ir.builder import Builder, Callee, CalleeKind, native
from raddle.memory import AddressSpace
from raddle.memory.space import Region
from raddle.runtime import helpers
from raddle.runtime._native import ffi, lib
from raddle.threads.routines import compiled, same_code
from raddle.translate.frontend import FrontEnd

PythonCallee = tuple[Callable[..., "int | None"], int]
"""A function, and how many values it takes: it is called as f(cpu, ...)."""


class Callees:
    """The callees of one machine. Changed only before its vCPUs run, or in an exclusive section, except by
    `add_python`.
    """

    def __init__(self, context: Any, frontend: FrontEnd, memory: AddressSpace) -> None:
        """`memory` may have routines of its devices. `context` is the runtime's; with None, nothing can be called."""
        self._context = context
        self._frontend = frontend
        self._routines = {
            **frontend.routines,
            **memory.routines,
            **{_routine_of(region): region.routine for region in memory.regions if region.routine is not None},
        }
        self._routine_numbers = {name: helpers.FIRST_ROUTINE + index for index, name in enumerate(self._routines)}
        self.python: list[PythonCallee] = []
        """By number, from `helpers.FIRST_PYTHON` on."""
        self._adding = threading.Lock()
        """A function's place in `python` is its number, so only one is added at a time."""
        self._python_numbers: dict[str, int] = {}
        for name, function in frontend.python_helpers.items():
            count = min(4, len(inspect.signature(function).parameters) - 1)
            self._python_numbers[name] = self.add_python(function, count)
        self.table = ffi.new("void *[]", helpers.FIRST_ROUTINE + len(self._routine_numbers))
        """Addresses of native helpers and routines, by number."""
        for helper, number in helpers.NUMBER.items():
            address = lib.raddle_helper_address(number)
            if address == ffi.NULL:
                raise MachineError(f"the native runtime lacks helper {helper}; build it again")
            self.table[number] = address

    def compiled_routines(self, backend: BackEnd) -> dict[str, bytes]:
        """The code of all routines, by name. Raises MachineError for one that the host cannot compile, that would run
        on into what lies behind it, or that calls a native helper otherwise than its table says.
        """
        same = same_code(backend, (tuple(self._routine_numbers.items()), tuple(self._python_numbers.items())))
        return {name: compiled(b, name, backend, same) for name, b in self.built_routines()}

    def put(self, routines: Mapping[str, bytes]) -> None:
        """Put the code of all routines into the code buffer. Raises MachineError when it has no room."""
        for name, code in routines.items():
            self.table[self._routine_numbers[name]] = ffi.cast("void *", write_code(self._context, code))

    def built_routines(self) -> Iterator[tuple[str, Builder]]:
        """The IR of all routines, built again, with their names."""
        for name, build in self._routines.items():
            b = Builder(self._frontend.word, self._frontend.state.nzcv)
            build(b)
            yield name, b

    def number(self, callee: Callee) -> int:
        """The number under which generated code calls `callee`. Raises MachineError for an unknown name."""
        tables = {
            CalleeKind.NATIVE: helpers.NUMBER,
            CalleeKind.ROUTINE: self._routine_numbers,
            CalleeKind.PYTHON: self._python_numbers,
        }
        number = tables[callee.kind].get(callee.name)
        if number is None:
            raise MachineError(f"target {self._frontend.name} calls the {callee.description}, which does not exist")
        return number

    def routine_number(self, name: str) -> int:
        """A routine's place in `table`."""
        return self._routine_numbers[name]

    def require_native(self, name: str) -> None:
        """Raise MachineError if a routine calls Python, itself or by another routine."""
        seen, waiting = {name}, [name]
        while waiting:
            one = waiting.pop()
            for callee in self._called(one):
                if callee.kind is CalleeKind.PYTHON or callee == native("io_python"):
                    by = "" if one == name else f" by routine {one!r}"
                    raise MachineError(f"routine {name!r} calls Python{by}, which a native timer's routine may not do")
                if callee.kind is CalleeKind.ROUTINE and callee.name not in seen:
                    seen.add(callee.name)
                    waiting.append(callee.name)

    def _called(self, name: str) -> list[Callee]:
        b = Builder(self._frontend.word, self._frontend.state.nzcv)
        self._routines[name](b)
        return [ins.aux for ins in b.code if isinstance(ins.aux, Callee)]

    def region_routine(self, region: Region) -> Any:
        """The address of an I/O region's routine."""
        return self.table[self._routine_numbers[_routine_of(region)]]

    def add_python(self, function: Callable[..., int | None], count: int) -> int:
        """A number under which the runtime calls `function(cpu, ...)` with `count` values. Any thread."""
        with self._adding:
            self.python.append((function, count))
            return helpers.FIRST_PYTHON + len(self.python) - 1

    # -- called by the runtime itself ----------------------------------------------------------------------------------

    def connect(self) -> None:
        """Let the runtime call the target's callees."""
        for name in _OF_RUNTIME:
            self.set(name)

    def set(self, name: str, python: int | None = None) -> None:
        """Let the runtime call the target's callee `name` ("fault" ...), or instead of it a Python callee by its
        number.
        """
        which = _OF_RUNTIME[name]
        if python is not None:
            lib.raddle_set_callee_number(self._context, which, python)
        elif name in self._routine_numbers:
            lib.raddle_set_callee(self._context, which, self.table[self._routine_numbers[name]])
        else:
            lib.raddle_set_callee_number(self._context, which, self.number(Callee(CalleeKind.PYTHON, name)))

    def get(self, name: str) -> Any:
        """The target's callee `name`: a routine's address, or a Python function and its number of values."""
        if name in self._routine_numbers:
            return self.table[self._routine_numbers[name]]
        return self.python[self._python_numbers[name] - helpers.FIRST_PYTHON]


_OF_RUNTIME: Final = {
    "tlb_fill": lib.RADDLE_CALLEE_TLB_FILL,
    "fault": lib.RADDLE_CALLEE_FAULT,
    "interrupt": lib.RADDLE_CALLEE_INTERRUPT,
}


def write_code(context: Any, code: bytes) -> int:
    """Put code that is never flushed into the code buffer. Returns its address. Raises MachineError when there is no
    room.
    """
    address = lib.raddle_code_write(context, ffi.from_buffer(code), len(code), 16)
    if not address:
        raise MachineError("the code buffer has no room for the machine's routines")
    return int(address)


def _routine_of(region: Region) -> str:
    """The name of an I/O region's routine among all routines; the region's own name need not be unique."""
    return f"I/O {region.start:#x}"
