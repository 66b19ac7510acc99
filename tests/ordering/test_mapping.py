# SPDX-License-Identifier: Apache-2.0
"""The mapping of memory order, from each guest to each host: translated litmus tests allow no outcome that the guest's
architecture forbids. The tests read back from a translation's bytes what it does.

The control leaves out each order that translations contain, one at a time: then some test has an outcome that the guest
forbids. If none has, STRONGER says why the mapping is stronger than it must be.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(ROOT / "tests/plugins/raddle-target-tiny/src"))

from raddle_target_tiny.frontend import FRONT_END as TINY_FRONT_END  # noqa: E402
from raddle_target_tiny.litmus import GUEST as TINY_LITMUS  # noqa: E402
from readback import ARM64, X86_64, Reader, Site  # noqa: E402
from translations import (  # noqa: E402
    ACQUIRE,
    ARMV8,
    RELEASE,
    X86_GUEST,
    FrontEndGuest,
    Guest,
    HostLevel,
    IrGuest,
    Mapped,
    allowed_by_guest,
    allowed_by_host,
    observing_everything,
)

from raddle.litmus.executions import Outcome  # noqa: E402
from raddle.litmus.files import load, names  # noqa: E402
from raddle.litmus.models import SC  # noqa: E402
from raddle.litmus.program import Atomic, Compute, Fence, LitmusTest  # noqa: E402
from raddle.ordering import MemoryOrder, missing  # noqa: E402
from raddle_host_aarch64.backend import AArch64BackEnd  # noqa: E402
from raddle_host_aarch64.features import Features as ArmFeatures  # noqa: E402
from raddle_host_aarch64.memory_model import ARMV8 as ARMV8_MODEL  # noqa: E402
from raddle_host_aarch64.plugin import TCG_TARGET_DEFAULT_MO as ARM_MO  # noqa: E402
from raddle_host_x86_64.backend import X86BackEnd  # noqa: E402
from raddle_host_x86_64.features import BASELINE as X86_BASELINE  # noqa: E402
from raddle_host_x86_64.features import Features as X86Features  # noqa: E402
from raddle_host_x86_64.memory_model import X86_TSO  # noqa: E402
from raddle_host_x86_64.plugin import TCG_TARGET_DEFAULT_MO as X86_MO  # noqa: E402
from raddle_target_alpha.frontend import front_end as alpha_front_end  # noqa: E402
from raddle_target_alpha.litmus import GUEST as ALPHA_LITMUS  # noqa: E402
from raddle_target_alpha.memory_model import ALPHA as ALPHA_MODEL  # noqa: E402
from raddle_target_alpha.state import MODE_FEN  # noqa: E402
from raddle_target_arm.frontend import FRONT_END as ARM_FRONT_END  # noqa: E402
from raddle_target_arm.litmus import GUEST as ARM_LITMUS  # noqa: E402
from raddle_target_arm.memory_model import ARMV7  # noqa: E402
from raddle_target_arm.state import MODE_PRIVILEGED  # noqa: E402

ARM: Final = FrontEndGuest("arm", (ARMV7, ARMV8_MODEL), MemoryOrder.NONE, ARM_LITMUS, ARM_FRONT_END, MODE_PRIVILEGED)
"""The ARMv7 guest also keeps the order of AArch32 in ARMv8."""
ALPHA: Final = FrontEndGuest("alpha", (ALPHA_MODEL,), MemoryOrder.NONE, ALPHA_LITMUS, alpha_front_end("ev67"), MODE_FEN)
"""MB and WMB; LDx_L and STx_C order nothing."""
TINY: Final = FrontEndGuest("tiny", (SC,), MemoryOrder.ALL, TINY_LITMUS, TINY_FRONT_END, 0)
GUESTS: Final[dict[str, Guest]] = {one.name: one for one in (ARM, TINY, ALPHA, X86_GUEST, ARMV8)}

X86_ALL: Final = X86Features(*[True] * len(X86_BASELINE))


def x86_64(name: str, features: X86Features) -> HostLevel:
    return HostLevel(name, X86_64, X86_MO, lambda config: X86BackEnd(config, features), X86_TSO)


def aarch64(name: str, features: ArmFeatures) -> HostLevel:
    return HostLevel(name, ARM64, ARM_MO, lambda config: AArch64BackEnd(config, features), ARMV8_MODEL)


HOSTS: Final = {
    one.name: one
    for one in (
        x86_64("x86_64", X86_BASELINE),
        x86_64("x86_64 all", X86_ALL),
        aarch64("aarch64", ArmFeatures()),
        aarch64("aarch64 lse", ArmFeatures(lse=True)),
        aarch64("aarch64 lrcpc", ArmFeatures(lrcpc=True)),
        aarch64("aarch64 lse lrcpc", ArmFeatures(lse=True, lrcpc=True)),
    )
}

STRICT: Final = {f"{name} strict": HOSTS[name]._replace(strict=True) for name in HOSTS if "all" not in name}
"""With exact reservations."""
LEVELS: Final = {**HOSTS, **STRICT}

_FENCED_ATOMICS: Final = "with order=fenced, the order of loads and stores does the same"
_FENCED_BARRIERS: Final = "LDAR does not pass an earlier STLR: the barrier is needed where loads are LDAPR"
_LOCKED: Final = "the operation itself and the barriers around it do the same: one of them is needed"
_SUPERFLUOUS: Final = "the operation itself is a full barrier"
STRONGER: Final[Mapping[tuple[str, str, str], str]] = {
    ("tiny", "aarch64", "r[]: dmb ish"): _FENCED_BARRIERS,
    **{("tiny", "aarch64", f"rmw[] add: {one}"): _FENCED_ATOMICS for one in ("dmb ish", "ldaxr", "stlxr", "ldaddal")},
    ("x86", "aarch64", "f[mb]: dmb ish"): _FENCED_BARRIERS,
    ("armv8", "aarch64", "r[acquire]: dmb ish"): _FENCED_BARRIERS,
    **{
        ("x86", "aarch64", f"rmw[] {operation}: {one}"): _LOCKED
        for operation, atomic in (("add", "ldaddal"), ("xchg", "swpal"), ("cas", "casal"))
        for one in ("dmb ish", "ldaxr", "stlxr", atomic)
    },
    **{("x86", "x86_64", f"rmw[] {operation}: lock or"): _SUPERFLUOUS for operation in ("add", "xchg", "cas")},
}
"""For guest, host and row of the mapping: why no test needs this row by itself."""
TOGETHER: Final = {_FENCED_ATOMICS, _LOCKED}
"""Reasons that several rows share, one of which is needed: they cannot all be left out together."""


class Translated(NamedTuple):
    test: LitmusTest
    readers: list[Reader]
    allowed: frozenset[Outcome]
    """What all of the guest's models allow."""


@functools.cache
def allowed(guest: str, name: str) -> frozenset[Outcome]:
    test = observing_everything(load(name))
    return frozenset.intersection(*[allowed_by_guest(test, one) for one in GUESTS[guest].models])


@functools.cache
def translated(guest: str, host: str) -> dict[str, Translated]:
    """All tests that the guest can run, as code for the host that keeps all orders the guest counts on (`fenced`)."""
    made = {}
    for name in names():
        test = observing_everything(load(name))
        if GUESTS[guest].runs(test):
            made[name] = Translated(test, GUESTS[guest].readers(test, LEVELS[host], True), allowed(guest, name))
    return made


def broken(one: Translated, host: str) -> frozenset[Outcome]:
    """The outcomes that the translation allows and the guest forbids."""
    return allowed_by_host(one.test, one.readers, LEVELS[host], unless=one.allowed)


def sites(guest: str, host: str) -> set[Site]:
    return {site for one in translated(guest, host).values() for reader in one.readers for site in reader.sites}


def needing(guest: str, host: str, *left_out: Site) -> list[str]:
    """The tests that break when orders are left out."""
    found = []
    for name, one in translated(guest, host).items():
        users = [reader for reader in one.readers if reader.sites.intersection(left_out)]
        for reader in users:
            reader.weakened = frozenset(left_out)
        if users and broken(one, host):
            found.append(name)
        for reader in users:
            reader.weakened = frozenset()
    return found


PAIRS: Final = [(guest, host) for guest in GUESTS for host in HOSTS]
PAGE: Final = ROOT / "docs" / "memory-order.md"


def rows_of_the_page(guest: str, architecture: str) -> dict[str, list[str]]:
    """For each row of the mapping, the tests that need it according to docs/memory-order.md."""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and (cells[0], cells[2]) == (guest, architecture):
            found[f"{cells[1]}: {cells[3]}"] = [name.strip() for name in cells[4].split(",") if name.strip()]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("guest", "host"), PAIRS)
def test_translations_allow_nothing_that_the_guest_forbids(guest: str, host: str) -> None:
    """The control leaves out each order in turn; the page must name the tests that break."""
    tests = translated(guest, host)
    assert len(tests) > 30, "the guest has most of the suite"
    assert {name: sorted(found) for name, one in tests.items() if (found := broken(one, host))} == {}

    architecture = HOSTS[host].architecture
    page = rows_of_the_page(guest, architecture)
    needless, reasons, unexplained = [], set(), set()
    for site in sites(guest, host):
        found_by = needing(guest, host, site)
        assert str(site) in page, f"{PAGE.name} has no row for {guest}, {site}, {architecture}"
        if found_by:
            assert set(page[str(site)]) <= set(found_by), f"{PAGE.name}, {guest}, {site}: these need it: {found_by}"
        else:
            needless.append(site)
            reasons.add(STRONGER.get((guest, architecture, str(site))))
            if (guest, architecture, str(site)) not in STRONGER:
                unexplained.add(str(site))
    assert unexplained == set(), "no test needs them"
    assert not reasons & TOGETHER or needing(guest, host, *needless), "together they are needed"


@pytest.mark.slow
@pytest.mark.parametrize(("guest", "host"), [(guest, host) for guest in GUESTS for host in STRICT])
def test_translations_with_exact_reservations_allow_nothing_that_the_guest_forbids(guest: str, host: str) -> None:
    """The control: on AArch64, exclusives do not order what only the guest's barrier orders."""
    tests = translated(guest, host)
    assert len(tests) > 30, "the guest has most of the suite"
    assert {name: sorted(found) for name, one in tests.items() if (found := broken(one, host))} == {}
    if guest == "arm" and host.startswith("aarch64"):
        assert "SB+mb-llscs" in needing(guest, host, *[site for site in sites(guest, host) if site.guest == "f[mb]"])


@pytest.mark.parametrize("host", STRICT)
def test_exact_store_exclusives_end_in_both_ways(host: str) -> None:
    test = observing_everything(load("LLSC"))
    assert allowed_by_host(test, ARM.readers(test, LEVELS[host], True), LEVELS[host]) == allowed("arm", "LLSC")


def test_the_page_has_no_other_rows() -> None:
    """Each row is for tests of the suite, or in STRONGER. The test above finds rows that are missing."""
    for guest in GUESTS:
        for architecture in {host.architecture for host in HOSTS.values()}:
            for row, tests in rows_of_the_page(guest, architecture).items():
                assert tests or (guest, architecture, row) in STRONGER, f"{guest}, {row}, {architecture}"
                assert set(tests) <= set(names())


# -- without fences ----------------------------------------------------------------------------------------------------


def lacking(guest: str, host: str) -> MemoryOrder:
    """The orders that the guest counts on, and that plain accesses lack with `order=native`."""
    return missing(GUESTS[guest].default_mo, LEVELS[host].default_mo)


class NativeRow(NamedTuple):
    """Of the page's table of guests and hosts between which orders are lacking."""

    lacks: MemoryOrder
    broken: list[str]
    """Some tests that have an outcome that the guest forbids."""


def native_rows_of_the_page() -> dict[tuple[str, str], NativeRow]:
    """By guest and architecture."""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0] in GUESTS:
            orders = MemoryOrder(sum(MemoryOrder[name.strip()] for name in cells[2].split(",")))
            found[cells[0], cells[1]] = NativeRow(orders, [name.strip() for name in cells[3].split(",")])
    return found


def native_excess(guest: str, host: str, name: str) -> frozenset[Outcome]:
    """The outcomes that the translation without fences allows and the guest forbids."""
    test, level = observing_everything(load(name)), LEVELS[host]
    return allowed_by_host(test, GUESTS[guest].readers(test, level, False), level, unless=allowed(guest, name))


def as_plain_accesses(guest: str, test: LitmusTest) -> LitmusTest:
    """The test less fences for which the guest has no instruction, because its plain accesses need none."""
    one = GUESTS[guest]
    if isinstance(one, FrontEndGuest):
        fences = {name: make for name, make in one.litmus.operations.items() if name.startswith("fence_")}
        empty = {Fence(name.removeprefix("fence_")) for name, make in fences.items() if not make()}
        nothing = Compute("nothing", "mov", (0,))
        test = test._replace(
            threads=tuple(tuple(nothing if ins in empty else ins for ins in code) for code in test.threads)
        )
    return test


NATIVE: Final = [(guest, host) for guest in GUESTS for host in LEVELS]
LACKING: Final = [pair for pair in NATIVE if lacking(*pair)]


def test_the_page_says_which_orders_are_lacking_without_fences() -> None:
    rows = {key: row.lacks for key, row in native_rows_of_the_page().items()}
    found = {(guest, LEVELS[host].architecture): lacking(guest, host) for guest, host in NATIVE}
    assert rows == {key: orders for key, orders in found.items() if orders}
    assert len(rows) < len(found), "some guests need no fences"


@pytest.mark.parametrize(("guest", "host"), [pair for pair in NATIVE if pair not in LACKING])
def test_without_fences_the_code_is_the_same_where_no_order_is_lacking(guest: str, host: str) -> None:
    """So `order=native` allows no outcome there that the guest forbids, either."""
    for name in names():
        test = observing_everything(load(name))
        if GUESTS[guest].runs(test):
            native, fenced = (GUESTS[guest].readers(test, LEVELS[host], one) for one in (False, True))
            assert [one.program.blocks for one in native] == [one.program.blocks for one in fenced], name


@pytest.mark.parametrize(("guest", "host"), LACKING)
def test_the_checker_sees_orders_that_are_lacking(guest: str, host: str) -> None:
    """The control: tests that the page names."""
    for name in native_rows_of_the_page()[guest, LEVELS[host].architecture].broken:
        assert native_excess(guest, host, name), name


@pytest.mark.slow
@pytest.mark.parametrize(("guest", "host"), LACKING)
def test_without_fences_plain_accesses_have_the_hosts_order(guest: str, host: str) -> None:
    """A translation allows, besides what the guest allows, what the host's model allows for the same accesses: all of
    it if they are plain, else no more than that.
    """
    for name in names():
        test = observing_everything(load(name))
        if GUESTS[guest].runs(test):
            excess = native_excess(guest, host, name)
            of_host = allowed_by_guest(as_plain_accesses(guest, test), LEVELS[host].model) - allowed(guest, name)
            if any(isinstance(one, Atomic) for code in test.threads for one in code):
                assert excess <= of_host, name
            else:
                assert excess == of_host, name


# -- errors ------------------------------------------------------------------------------------------------------------


def changed(guest: IrGuest, **mapping: Mapped) -> IrGuest:
    """The guest with another mapping of some instructions: `rmw_cas` is `rmw[] cas`, `f_mb` is `f[mb]`."""
    spelled = {
        {"rmw_cas": "rmw[] cas", "f_rmb": "f[rmb]", "f_wmb": "f[wmb]"}[name]: one for name, one in mapping.items()
    }
    return IrGuest(guest.name, guest.models, guest.default_mo, {**guest.mapping, **spelled})


ATOMIC_ONLY: Final = Mapped(order=ACQUIRE | RELEASE)
ERRORS: Final = [
    # Gouicem et al., Risotto (ASPLOS 2023): a read-modify-write of x86 as a loop of exclusives without barriers.
    ("SBQ", changed(X86_GUEST, rmw_cas=ATOMIC_ONLY), "aarch64", False, True),
    ("SBQ", changed(X86_GUEST, rmw_cas=ATOMIC_ONLY), "aarch64 lse", False, False),
    # The same: one that fails is no release, and does not wait for an earlier load without acquire.
    ("MPQ", changed(X86_GUEST, rmw_cas=ATOMIC_ONLY), "aarch64 lse", False, True),
    ("MPQ", changed(X86_GUEST, rmw_cas=ATOMIC_ONLY), "aarch64 lse", True, False),
    # Two adjacent barriers are merged to one of them, but both are needed.
    ("MP+mb+rmb-wmb", changed(ARMV8, f_rmb=Mapped()), "aarch64", True, True),
    ("MP+mb+rmb-wmb", changed(ARMV8, f_wmb=Mapped()), "aarch64", True, False),
]
"""Test, guest with an error, host, whether plain accesses are ordered (`fenced`), and whether the error shows."""


@pytest.mark.parametrize(("name", "guest", "host", "fenced", "expected"), ERRORS)
def test_errors_of_other_translators_are_found(
    name: str, guest: IrGuest, host: str, fenced: bool, expected: bool
) -> None:
    test, level = observing_everything(load(name)), HOSTS[host]
    found = allowed_by_host(test, guest.readers(test, level, fenced), level)
    assert bool(found - allowed_by_guest(test, guest.models[0])) is expected
