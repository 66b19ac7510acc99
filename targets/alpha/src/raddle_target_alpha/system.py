# SPDX-License-Identifier: Apache-2.0
"""What the runtime and exceptions ask of the operating system's side of the CPU: ``tlb_fill``, ``fault``, ``interrupt``
and the ``take_…`` routines of `exceptions.Entry`.

Here addresses are their own translations, there are no interrupts, and an exception stops the machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn

from raddle.errors import MachineError
from raddle.ir.builder import Builder, native, python
from raddle.ir.header import COMMON
from raddle.ir.types import Type
from raddle.translate.frontend import FAULT_ALIGNMENT, PythonHelper, RoutineBuilder
from raddle_target_alpha.exceptions import Entry
from raddle_target_alpha.system_state import WHAMI

PAGE_BITS: Final = 13
_READ_WRITE_EXECUTE: Final = 7


def tlb_fill(b: Builder) -> None:
    """Allow everything at the same physical address."""
    address = b.get(COMMON["arg0"])
    index = b.extract(b.get(COMMON["arg1"]), 8, 8)
    b.call(native("tlb_set"), address, address, b.or_(b.shl(index, 16), _READ_WRITE_EXECUTE | PAGE_BITS << 8))
    b.ret(b.const(0, Type.I64))


def _take(entry: Entry) -> RoutineBuilder:
    def build(b: Builder) -> None:
        arguments = [b.get(COMMON[f"arg{number}"]) for number in range(3)]
        b.call(python("unhandled", may_exit=False), b.const(entry, Type.I64), *arguments)
        b.ret()

    return build


def unhandled(cpu: Any, entry: int, a0: int, a1: int, a2: int) -> NoReturn:
    """There is no operating system's entry point: an exception stops the machine."""
    raise MachineError(f"exception {Entry(entry).name} ({a0:#x}, {a1:#x}, {a2:#x}) before pc {cpu['pc']:#x}")


def fault(cpu: Any, address: int, access: int, code: int) -> NoReturn:
    """An access that fails stops the machine."""
    what = "misaligned access to" if code == FAULT_ALIGNMENT else "no memory at"
    raise MachineError(f"{what} {address:#x} (pc {cpu['pc']:#x})")


def interrupt(cpu: Any, pending: int) -> int:
    """There are no interrupts."""
    return 0


def connect(engine: Any) -> None:
    """Tell each vCPU of the engine what it must know of its machine; called once."""
    for number, cpu in enumerate(engine.cpus):
        cpu[WHAMI.name] = number


def reset(cpu: Any) -> None:
    """Give the fields of ``system_state`` what a reset gives, when all fields are 0 that reset does not keep."""


KEPT_BY_RESET: Final = frozenset({WHAMI.name})
"""What ``connect`` sets once."""

ROUTINES: Final[dict[str, Callable[[Builder], None]]] = {
    "tlb_fill": tlb_fill,
    **{entry.routine: _take(entry) for entry in Entry},
}
PYTHON_HELPERS: Final[dict[str, PythonHelper]] = {"fault": fault, "interrupt": interrupt, "unhandled": unhandled}
