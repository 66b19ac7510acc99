# SPDX-License-Identifier: Apache-2.0
"""The model of Alpha's memory, for litmus tests."""

from __future__ import annotations

from typing import Final

from raddle.litmus.executions import Execution, Mark
from raddle.litmus.models import Model
from raddle.litmus.relations import acyclic, closure, compose, reflexive, restricted, union

__all__ = ["ALPHA"]


def consistent(x: Execution) -> bool:
    """Accesses to one location are ordered, and those around MB and WMB. Dependencies do not order accesses, but no
    value may depend on itself."""
    f = x.frame
    reads, writes = f.reads, f.writes
    issue = union(
        restricted(f.po_loc, reads, f.memory),
        restricted(f.po_loc, writes, writes),
        f.fences[Mark.FULL],
        restricted(f.fences[Mark.STORES], writes, writes),
    )
    if not acyclic(union(issue, x.rfe, x.co, x.fr)):
        return False
    depends = compose(union(f.addr, f.data, f.ctrl), reflexive(closure(issue)))
    return acyclic(union(restricted(depends, reads, writes), x.rf))


ALPHA: Final = Model("alpha", "Alpha's memory", "Alpha Architecture Handbook, version 4, 5.6", consistent)
