# SPDX-License-Identifier: Apache-2.0
"""Axiomatic models of memory: which candidate executions an architecture allows.

Each model is a function of an `Execution`; the table at the end gives its source. Names are those of the sources: po is
program order, rf reads-from, co coherence, fr from-reads. A final e means between threads, a final i within one thread.
All models have coherence at each location and atomicity of read-modify-writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from raddle.errors import unknown
from raddle.litmus.executions import Execution, Mark, location_order
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

__all__ = ["MODELS", "Model", "model"]


class Model(NamedTuple):
    """An architecture's memory."""

    name: str
    description: str
    source: str
    """The document that defines it."""
    consistent: Callable[[Execution], bool]
    """Checks its own axioms, in addition to coherence and atomicity."""

    def allows(self, execution: Execution) -> bool:
        return coherent(execution) and self.consistent(execution)


def coherent(x: Execution) -> bool:
    """Coherence at each location; and no write comes between the read and the write of a read-modify-write."""
    if not acyclic(location_order(x)):
        return False
    rmw = x.frame.rmw
    return not any(rmw) or not any(intersection(rmw, compose(x.fre, x.coe)))


def sequentially_consistent(x: Execution) -> bool:
    return acyclic(union(x.frame.po, x.rf, x.co, x.fr))


def total_store_order(x: Execution) -> bool:
    """Keeps all of program order, except from a write to a later read. That is kept, too, if a fence or an atomic
    operation is between the two, or if one of the two is part of an atomic operation."""
    f = x.frame
    atomic = f.marked(Mark.ATOMIC)
    ordered = union(restricted(f.po, f.reads, f.memory), restricted(f.po, f.memory, f.writes))
    implied = union(restricted(f.po, atomic, f.memory), restricted(f.po, f.memory, atomic))
    return acyclic(union(ordered, implied, f.fences[Mark.FULL], x.rfe, x.fr, x.co))


def armv8(x: Execution) -> bool:
    """Ordered-before is the closure of observed-by, dependency-, atomic- and barrier-ordered-before."""
    f = x.frame
    reads, writes, memory, po = f.reads, f.writes, f.memory, f.po
    acquire, acquire_pc, release = f.marked(Mark.ACQUIRE), f.marked(Mark.ACQUIRE_PC), f.marked(Mark.RELEASE)
    depends = union(f.addr, f.data)
    after_isb = restricted(po, f.marked(Mark.INSTRUCTIONS), reads)
    address_po = compose(f.addr, po)
    dob = union(
        depends,
        restricted(f.ctrl, memory, writes),
        compose(union(f.ctrl, address_po), after_isb),
        restricted(address_po, memory, writes),
        compose(union(f.ctrl, f.data), x.coi),
        compose(depends, x.rfi),
    )
    written = 0
    for row in f.rmw:
        written |= row
    aob = union(f.rmw, restricted(x.rfi, written, acquire | acquire_pc))
    # An atomic instruction with acquire and release is a barrier. Its read is the acquire, its write the release.
    amo = restricted(f.rmw, acquire & f.marked(Mark.ATOMIC), release)
    around = compose(restricted(po, memory, memory), amo, restricted(po, memory, memory)) if any(amo) else amo
    to_release = restricted(po, memory, release)
    bob = union(
        f.fences[Mark.FULL],
        restricted(po, release, acquire),
        restricted(f.fences[Mark.LOADS], reads, memory),
        restricted(po, acquire | acquire_pc, memory),
        restricted(f.fences[Mark.STORES], writes, writes),
        to_release,
        compose(to_release, x.coi),
        around,
    )
    return acyclic(union(x.rfe, x.fre, x.coe, dob, aob, bob))


def armv7(x: Execution) -> bool:
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


def alpha(x: Execution) -> bool:
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


_ALL: Final = (
    Model("sc", "sequential consistency", "Lamport 1979", sequentially_consistent),
    Model(
        "x86-tso",
        "x86's total store order",
        "Owens, Sarkar and Sewell 2009; x86tso.cat of Alglave, Maranget and Tautschnig 2014; Intel SDM 3A, 8.2",
        total_store_order,
    ),
    Model(
        "armv8",
        "Arm's other-multi-copy-atomic memory, AArch64 and AArch32",
        "Arm DDI 0487, B2.3; Pulte, Flur, Deacon, French, Sarkar and Sewell 2018",
        armv8,
    ),
    Model(
        "armv7",
        "ARMv7's memory, which is not multi-copy atomic",
        "Arm DDI 0406C, A3.8; Alglave, Maranget and Tautschnig 2014, sections 4 and 6",
        armv7,
    ),
    Model("alpha", "Alpha's memory", "Alpha Architecture Handbook, version 4, 5.6", alpha),
)
MODELS: Final[Mapping[str, Model]] = {one.name: one for one in _ALL}


def model(name: str) -> Model:
    """The model of that name. Raises UsageError."""
    if name not in MODELS:
        raise unknown("memory model", name, MODELS)
    return MODELS[name]
