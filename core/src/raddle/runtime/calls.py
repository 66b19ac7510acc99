# SPDX-License-Identifier: Apache-2.0
"""Whether IR calls native helpers as their table says. C takes whatever registers hold, so nobody else would notice.

All IR that is compiled is looked at: that costs nothing beside compiling. The verifier's other rules are for tests and
`-d verify`.
"""

from __future__ import annotations

from collections.abc import Callable

from raddle.errors import MachineError
from raddle.ir.builder import Builder, Callee, CalleeKind, Instruction, Label, MemAccess
from raddle.ir.header import COMMON
from raddle.ir.invalid import VerifyError, verify_end
from raddle.ir.opcodes import TABLE, Effect, Op
from raddle.ir.types import StateLayout
from raddle.runtime.helpers import HELPERS, NUMBER

__all__ = ["require_calls", "require_routine", "require_valid", "verify_calls"]

_PC = COMMON["pc"]
_CHECKED = frozenset(op for op, row in TABLE.items() if row.aux in ("Callee", "MemAccess")) | {Op.EXIT_MAIN}
_SIZES = (1, 2, 4, 8)
"""Bytes of an access."""


def verify_calls(function: Builder, *, instruction: bool) -> None:
    """Raise VerifyError for a native helper that is called with another number of arguments than it has, or that may
    leave the block though the call does not say so, and for accesses of sizes that there are not. `instruction`: it is
    the IR of a guest instruction, where the field pc must have been set before such a helper is called, and before
    `exit_main`.
    """
    for at, ins in enumerate(function.code):
        if ins.op not in _CHECKED:
            continue
        aux = ins.aux
        problem = ""
        if isinstance(aux, Callee):
            problem = _problem(function, at, aux, instruction)
        elif isinstance(aux, MemAccess):
            if aux.memop.size not in _SIZES:
                problem = f"{aux.memop.size} bytes cannot be accessed at once"
        elif ins.op is Op.EXIT_MAIN and instruction and not _pc_is_set(function, at):
            problem = (
                "the guest would go on at the field pc, which is not set on every path to here: "
                'b.set(COMMON["pc"], ...) first'
            )
        if problem:
            from raddle.ir.printer import print_instruction

            raise VerifyError(f"instruction {at} ({print_instruction(function, ins)}): {problem}", at)


def _pc_is_set(function: Builder, position: int) -> bool:
    """Whether the field pc is set on every path to the position, as far as one can tell: routines and Python may set
    it.
    """
    known = False
    at_label: dict[Label, bool] = {}
    for ins in function.code[:position]:
        op, aux = ins.op, ins.aux
        if op is Op.CALL and isinstance(aux, Callee):
            known = known or aux.kind is not CalleeKind.NATIVE
        elif op is Op.SET:
            known = known or aux is _PC
        elif op is Op.LABEL and isinstance(aux, Label):
            # Nothing unsets it, so that what comes here from below changes nothing.
            known = known and at_label.get(aux, True)
        elif TABLE[op].effects & Effect.END:
            for label in _targets(ins):
                at_label[label] = at_label.get(label, True) and known
            known = True  # nothing comes from here to what follows
    return known


def _problem(function: Builder, at: int, callee: Callee, instruction: bool) -> str:
    if callee.kind is not CalleeKind.NATIVE or callee.name not in NUMBER:
        return ""
    helper = HELPERS[NUMBER[callee.name]]
    count = len(function.code[at].args)
    if helper.arity is not None and count != helper.arity:
        takes = f"takes {helper.arity} arguments ({helper.parameters})" if helper.arity else "takes no arguments"
        return f"the native helper {helper.name} {takes}, not {count}"
    if helper.may_exit and not callee.may_exit:
        return f'the native helper {helper.name} may leave the block: call native("{helper.name}", may_exit=True)'
    if helper.may_exit and instruction and not _pc_is_set(function, at):
        return (
            f"the native helper {helper.name} may leave the block, and the guest would go on at the field pc, which is "
            'not set on every path to here: b.set(COMMON["pc"], ...) to the next instruction first'
        )
    return ""


def _targets(ins: Instruction) -> tuple[Label, ...]:
    aux = ins.aux if isinstance(ins.aux, tuple) else (ins.aux,)
    return tuple(label for label in aux if isinstance(label, Label))


def require_calls(function: Builder, what: Callable[[], str], *, instruction: bool) -> None:
    """Raise MachineError, in which `what` names the function, where `verify_calls` finds something."""
    try:
        verify_calls(function, instruction=instruction)
    except VerifyError as error:
        raise _invalid(function, what(), error) from None


def require_routine(function: Builder, what: str) -> None:
    """Raise MachineError, in which `what` names it, for a routine without `ret` at its end; and see `require_calls`."""
    try:
        verify_end(function)
        verify_calls(function, instruction=False)
    except VerifyError as error:
        raise _invalid(function, what, error) from None


def require_valid(function: Builder, what: str, layout: StateLayout, *, routine: bool = False) -> None:
    """Raise MachineError, in which `what` names the function, for the first rule of IR that it breaks."""
    from raddle.ir.verifier import verify

    try:
        verify(function, routine=routine, layout=layout)
        verify_calls(function, instruction=False)
    except VerifyError as error:
        raise _invalid(function, what, error) from None


def _invalid(function: Builder, what: str, error: VerifyError) -> MachineError:
    from raddle.ir.printer import print_function

    found = MachineError(f"the IR of {what} is invalid: {error}")
    found.add_note(print_function(function))
    return found
