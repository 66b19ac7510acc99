# SPDX-License-Identifier: Apache-2.0
"""Axiomatic models of memory: which candidate executions an architecture allows.

A guest or a host brings the model of its memory with it (`LitmusGuest.models`, `Host.memory_model`): a function of an
`Execution`. Names in it are those of its source: po is program order, rf reads-from, co coherence, fr from-reads. A
final e means between threads, a final i within one thread. All models have coherence at each location and atomicity of
read-modify-writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from raddle.litmus.executions import Execution, location_order
from raddle.litmus.relations import acyclic, compose, intersection, union
from raddle.plugins import Registry

__all__ = ["SC", "Model", "known"]


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


SC: Final = Model("sc", "sequential consistency", "Lamport 1979", sequentially_consistent)


def known(plugins: Registry) -> Mapping[str, Model]:
    """Sequential consistency and the models of all installed guests and hosts, by name. A broken plug-in has none."""
    models = {SC.name: SC}
    for one in plugins.memory_models():
        models.setdefault(one.name, one)
    return models
