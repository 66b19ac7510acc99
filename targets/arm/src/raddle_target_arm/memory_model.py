# SPDX-License-Identifier: Apache-2.0
"""The model of ARMv7's memory, for litmus tests."""

from __future__ import annotations

from typing import Final

from raddle.litmus.executions import Execution, Mark
from raddle.litmus.models import Model
from raddle.litmus.relations import (
    Relation,
    acyclic,
    closure,
    compose,
    intersection,
    irreflexive,
    reflexive,
    restricted,
    union,
)

__all__ = ["ARMV7"]


def consistent(x: Execution) -> bool:
    """Without multi-copy atomicity: a write may reach one thread before another. Barriers are cumulative."""
    f = x.frame
    reads, writes = f.reads, f.writes
    depends = union(f.addr, f.data)
    read_different = intersection(f.po_loc, compose(x.fre, x.rfe))
    detour = intersection(f.po_loc, compose(x.coe, x.rfe))
    after_isb = restricted(f.po, f.marked(Mark.INSTRUCTIONS), f.memory)
    # Preserved program order, from the start (i) or end (c: commit) of one access to that of another.
    ii = union(depends, x.rfi, read_different)
    ic: Relation = [0] * f.size
    ci = union(restricted(compose(f.ctrl, after_isb), reads, f.memory), detour)
    cc = union(depends, f.ctrl, compose(f.addr, f.po))
    while True:
        grown = (
            union(ii, ci, compose(ic, ci), compose(ii, ii)),
            union(ic, ii, cc, compose(ic, cc), compose(ii, ic)),
            union(ci, compose(ci, ii), compose(cc, ci)),
            union(cc, ci, compose(ci, ic), compose(cc, cc)),
        )
        if grown == (ii, ic, ci, cc):
            break
        ii, ic, ci, cc = grown
    preserved = union(restricted(ii, reads, reads), restricted(ic, reads, writes))
    strong = union(f.fences[Mark.FULL], restricted(f.fences[Mark.STORES], writes, writes))
    happens = union(preserved, strong, x.rfe)
    if not acyclic(happens):
        return False
    later = reflexive(closure(happens))
    base = compose(union(strong, compose(x.rfe, strong)), later)
    communication = reflexive(closure(union(x.rf, x.co, x.fr)))
    propagation = union(
        restricted(base, writes, writes), compose(communication, reflexive(closure(base)), strong, later)
    )
    return irreflexive(compose(x.fre, propagation, later)) and acyclic(union(x.co, propagation))


ARMV7: Final = Model(
    "armv7",
    "ARMv7's memory, which is not multi-copy atomic",
    "Arm DDI 0406C, A3.8; Alglave, Maranget and Tautschnig 2014, sections 4 and 6",
    consistent,
)
