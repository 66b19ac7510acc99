# SPDX-License-Identifier: Apache-2.0
"""The model of x86's memory, for litmus tests."""

from __future__ import annotations

from typing import Final

from raddle.litmus.executions import Execution, Mark
from raddle.litmus.models import Model
from raddle.litmus.relations import acyclic, restricted, union

__all__ = ["X86_TSO"]


def consistent(x: Execution) -> bool:
    """Keeps all of program order, except from a write to a later read. That is kept, too, if a fence or an atomic
    operation is between the two, or if one of the two is part of an atomic operation."""
    f = x.frame
    atomic = f.marked(Mark.ATOMIC)
    ordered = union(restricted(f.po, f.reads, f.memory), restricted(f.po, f.memory, f.writes))
    implied = union(restricted(f.po, atomic, f.memory), restricted(f.po, f.memory, atomic))
    return acyclic(union(ordered, implied, f.fences[Mark.FULL], x.rfe, x.fr, x.co))


X86_TSO: Final = Model(
    "x86-tso",
    "x86's total store order",
    "Owens, Sarkar and Sewell 2009; x86tso.cat of Alglave, Maranget and Tautschnig 2014; Intel SDM 3A, 8.2",
    consistent,
)
