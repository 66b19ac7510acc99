# SPDX-License-Identifier: Apache-2.0
"""The model of ARMv8's memory, for litmus tests."""

from __future__ import annotations

from typing import Final

from raddle.litmus.executions import Execution, Mark
from raddle.litmus.models import Model
from raddle.litmus.relations import acyclic, compose, restricted, union

__all__ = ["ARMV8"]


def consistent(x: Execution) -> bool:
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


ARMV8: Final = Model(
    "armv8",
    "Arm's other-multi-copy-atomic memory, AArch64 and AArch32",
    "Arm DDI 0487, B2.3; Pulte, Flur, Deacon, French, Sarkar and Sewell 2018",
    consistent,
)
