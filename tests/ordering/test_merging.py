# SPDX-License-Identifier: Apache-2.0
"""Barriers that are merged across a block: litmus tests in which a barrier stands near another one. The tests of the
suite are translated with merging, too (test_mapping.py).

The controls merge by a wrong rule, and then a test has an outcome that the guest forbids.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
from tests.ordering.test_mapping import GUESTS, LEVELS
from tests.ordering.translations import allowed_by_guest, allowed_by_host, observing_everything

from raddle.codegen import barriers, compiling
from raddle.ir.opcodes import Op
from raddle.litmus.executions import Outcome
from raddle.litmus.files import load
from raddle.litmus.parser import parse
from raddle.litmus.program import LitmusTest
from raddle.ordering import MemoryOrder
from raddle_host_aarch64.emitter import Emitter as ArmEmitter

SB: Final = "exists (0:r0=0 /\\ 1:r0=0)"
MP: Final = "exists (1:r0=1 /\\ 1:r1=0)"
TEXTS: Final = {
    # Of two barriers, a store between them makes the second one needed.
    "SB+mb-mbs": f"""
 P0       | P1       ;
 f[mb]    | f[mb]    ;
 w[] x 1  | w[] y 1  ;
 f[mb]    | f[mb]    ;
 r[] r0 y | r[] r0 x ;
{SB}""",
    # The same for a guest whose loads wait.
    "SB+reads": f"""
 P0       | P1       ;
 r[] r1 z | r[] r1 z ;
 w[] x 1  | w[] y 1  ;
 r[] r0 y | r[] r0 x ;
{SB}""",
    "MP+wmb-wmb+mb": f"""
 P0      | P1       ;
 f[wmb]  | r[] r0 y ;
 w[] x 1 | f[mb]    ;
 f[wmb]  | r[] r1 x ;
 w[] y 1 |          ;
{MP}""",
    # A load between them makes it needed as well.
    "MP+mb+mb-mb": f"""
 P0      | P1       ;
 w[] x 1 | f[mb]    ;
 f[mb]   | r[] r0 y ;
 w[] y 1 | f[mb]    ;
         | r[] r1 x ;
{MP}""",
    # Nothing is between them, and the weaker one does not do for the stronger one, be it first or last.
    "SB+wmb-mbs": f"""
 P0       | P1       ;
 w[] x 1  | w[] y 1  ;
 f[wmb]   | f[wmb]   ;
 f[mb]    | f[mb]    ;
 r[] r0 y | r[] r0 x ;
{SB}""",
    "SB+mb-wmbs": f"""
 P0       | P1       ;
 w[] x 1  | w[] y 1  ;
 f[mb]    | f[mb]    ;
 f[wmb]   | f[wmb]   ;
 r[] r0 y | r[] r0 x ;
{SB}""",
    # One of equal ones must be left.
    "SB+3mbs": f"""
 P0       | P1       ;
 w[] x 1  | w[] y 1  ;
 f[mb]    | f[mb]    ;
 f[mb]    | f[mb]    ;
 f[mb]    | f[mb]    ;
 r[] r0 y | r[] r0 x ;
{SB}""",
    # The barrier behind an atomic operation does for the one before the next.
    "SB+2xchgs": f"""
 P0                  | P1                  ;
 rmw[] r1 x (xchg 1) | rmw[] r1 y (xchg 1) ;
 rmw[] r2 z (xchg 1) | rmw[] r2 z (xchg 2) ;
 r[] r0 y            | r[] r0 x            ;
{SB}""",
    # A stronger barrier behind a weaker one does not do for both if the second store is between them.
    "MP+wmb-po-mb+mb": f"""
 P0      | P1       ;
 w[] x 1 | r[] r0 y ;
 f[wmb]  | f[mb]    ;
 w[] y 1 | r[] r1 x ;
 f[mb]   |          ;
{MP}""",
}
SUITE: Final = "MP+mb+rmb-wmb"
"""A test of the suite that wants two adjacent barriers, of which neither does for the other."""


def made(name: str) -> LitmusTest:
    if name == SUITE:
        return observing_everything(load(name))
    return observing_everything(parse(f'Raddle {name}\n"Barriers near each other"\n{{ }}{TEXTS[name]}\n', name))


def broken(name: str, guest: str, host: str, rule: str = "") -> frozenset[Outcome]:
    """Outcomes that a translation allows and the guest forbids; with a ``rule``, one that is made anew."""
    test, one = made(name), GUESTS[guest]
    level = LEVELS[host]._replace(name=f"{host} {rule}".rstrip())
    allowed = frozenset.intersection(*[allowed_by_guest(test, model) for model in one.models])
    return allowed_by_host(test, one.readers(test, level, True), level, unless=allowed)


@pytest.mark.parametrize("host", LEVELS)
@pytest.mark.parametrize("guest", GUESTS)
def test_merged_barriers_keep_the_guests_order(guest: str, host: str) -> None:
    runs = [name for name in TEXTS if GUESTS[guest].runs(made(name))]
    assert "SB+reads" in runs
    assert {name: found for name in runs if (found := broken(name, guest, host))} == {}


# -- controls ----------------------------------------------------------------------------------------------------------

Patch = Callable[[pytest.MonkeyPatch], None]


def accesses_do_not_matter(op: Op) -> Patch:
    """A barrier is left out though there is such an access between it and an earlier one."""
    return lambda patch: patch.setitem(barriers.ENDS_ORDER, op, 0)  # type: ignore[arg-type]


def keeps_all(order: MemoryOrder) -> Patch:
    """A barrier is left out if one for ``order`` is before it, or behind it."""
    fence = ArmEmitter.fence

    def claims(self: ArmEmitter, wanted: MemoryOrder) -> MemoryOrder:
        kept = fence(self, wanted)
        return MemoryOrder.ALL if wanted == order else kept

    return lambda patch: patch.setattr(ArmEmitter, "fence", claims)


def a_later_one_is_as_good(patch: pytest.MonkeyPatch) -> None:
    """A barrier is left out for a stronger one behind it, though what it orders is between them."""
    pack = compiling.pack_orders
    patch.setattr(compiling, "pack_orders", lambda *arguments: pack(*arguments) | 1 << 24)


def none_is_needed(patch: pytest.MonkeyPatch) -> None:
    """Of equal barriers, all are left out."""
    made = barriers.HeadBarrier
    patch.setattr(barriers, "HeadBarrier", lambda size, wanted, keeps: made(size, MemoryOrder.NONE, keeps))


RULES: Final[dict[str, Patch]] = {
    "stores do not matter": accesses_do_not_matter(Op.STORE),
    "loads do not matter": accesses_do_not_matter(Op.LOAD),
    "a store barrier keeps all": keeps_all(MemoryOrder.ST_ST),
    "a later one is as good": a_later_one_is_as_good,
    "none is needed": none_is_needed,
}
FOUND: Final = [
    ("stores do not matter", "SB+mb-mbs", "arm", "x86_64"),
    ("stores do not matter", "SB+mb-mbs", "alpha", "aarch64"),
    ("stores do not matter", "SB+reads", "tiny", "x86_64"),
    ("stores do not matter", "SB+reads", "tiny", "aarch64 lrcpc"),
    ("stores do not matter", "MP+wmb-wmb+mb", "alpha", "aarch64"),
    ("loads do not matter", "MP+mb+mb-mb", "arm", "aarch64"),
    # Gouicem et al., Risotto (ASPLOS 2023): adjacent barriers become one of them.
    ("a store barrier keeps all", SUITE, "armv8", "aarch64"),
    ("a store barrier keeps all", "SB+wmb-mbs", "arm", "aarch64"),
    ("a later one is as good", "MP+wmb-po-mb+mb", "alpha", "aarch64"),
    ("a later one is as good", "MP+wmb-po-mb+mb", "armv8", "aarch64 lse lrcpc"),
    ("none is needed", "SB+3mbs", "arm", "x86_64"),
    ("none is needed", "SB+3mbs", "arm", "aarch64"),
]
"""Wrong rule, test, guest, host."""


@pytest.mark.parametrize(("rule", "name", "guest", "host"), FOUND)
def test_wrong_merging_is_found(rule: str, name: str, guest: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert broken(name, guest, host) == frozenset()
    RULES[rule](monkeypatch)
    assert broken(name, guest, host, rule)


def test_each_rule_is_wrong_in_some_test() -> None:
    assert {row[0] for row in FOUND} == set(RULES)
