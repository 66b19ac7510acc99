# SPDX-License-Identifier: Apache-2.0
"""The mapping of memory order, from each guest to each host: translated litmus tests allow no outcome that the guest's
architecture forbids. What a translation does is read back from its bytes.

The control: each order that translations contain is left out in turn, and then some test has an outcome that the guest
forbids. So no row of the mapping is weaker than it must be, or stronger; where one is stronger, STRONGER says why.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Final, NamedTuple

import pytest

pytest.importorskip("unicorn")
pytest.importorskip("capstone")
ROOT: Final = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(ROOT / "tests/plugins/raddle-target-tiny/src"))

from raddle_target_tiny.frontend import FRONT_END as TINY_FRONT_END  # noqa: E402
from raddle_target_tiny.litmus import GUEST as TINY_LITMUS  # noqa: E402
from readback import X86_64, Reader, Site  # noqa: E402
from translations import (  # noqa: E402
    ALPHA,
    ARMV8,
    X86_GUEST,
    FrontEndGuest,
    Guest,
    HostLevel,
    allowed_by_guest,
    allowed_by_host,
    observing_everything,
)

from raddle.litmus.executions import Outcome  # noqa: E402
from raddle.litmus.files import load, names  # noqa: E402
from raddle.litmus.program import Test  # noqa: E402
from raddle.ordering import MemoryOrder  # noqa: E402
from raddle_host_x86_64.backend import X86BackEnd  # noqa: E402
from raddle_host_x86_64.features import BASELINE as X86_BASELINE  # noqa: E402
from raddle_host_x86_64.features import Features as X86Features  # noqa: E402
from raddle_host_x86_64.plugin import TCG_TARGET_DEFAULT_MO as X86_MO  # noqa: E402
from raddle_target_arm.frontend import FRONT_END as ARM_FRONT_END  # noqa: E402
from raddle_target_arm.litmus import GUEST as ARM_LITMUS  # noqa: E402
from raddle_target_arm.state import MODE_PRIVILEGED  # noqa: E402

ARM: Final = FrontEndGuest("arm", ("armv7", "armv8"), MemoryOrder.NONE, ARM_LITMUS, ARM_FRONT_END, MODE_PRIVILEGED)
"""The ARMv7 guest keeps what AArch32 of ARMv8 asks for, too."""
TINY: Final = FrontEndGuest("tiny", ("sc",), MemoryOrder.ALL, TINY_LITMUS, TINY_FRONT_END, 0)
GUESTS: Final[dict[str, Guest]] = {one.name: one for one in (ARM, TINY, ALPHA, X86_GUEST, ARMV8)}

X86_ALL: Final = X86Features(*[True] * len(X86_BASELINE))
HOSTS: Final = {
    "x86_64": HostLevel("x86_64", X86_64, X86_MO, lambda config: X86BackEnd(config, X86_BASELINE), "x86-tso"),
    "x86_64-all": HostLevel("x86_64-all", X86_64, X86_MO, lambda config: X86BackEnd(config, X86_ALL), "x86-tso"),
}

STRONGER: Final[dict[tuple[str, str], str]] = {}
"""Guest and row of the mapping, by text: why it is stronger than any test needs."""


class Translated(NamedTuple):
    test: Test
    readers: list[Reader]
    forbids: list[frozenset[Outcome]]
    """What each of the guest's models allows."""


@functools.cache
def translated(guest: str, host: str) -> dict[str, Translated]:
    """All tests that the guest can run, as code for the host, with all orders that the guest counts on (`fenced`)."""
    made = {}
    for name in names():
        test = observing_everything(load(name))
        if GUESTS[guest].runs(test):
            allowed = [allowed_by_guest(test, one) for one in GUESTS[guest].models]
            made[name] = Translated(test, GUESTS[guest].readers(test, HOSTS[host], True), allowed)
    return made


def broken(one: Translated, host: str) -> frozenset[Outcome]:
    """The outcomes that the translation allows and the guest forbids."""
    found = allowed_by_host(one.test, one.readers, HOSTS[host])
    return frozenset().union(*(found - allowed for allowed in one.forbids))


def sites(guest: str, host: str) -> set[Site]:
    return {site for one in translated(guest, host).values() for reader in one.readers for site in reader.sites}


def tests_that_need(guest: str, host: str, site: Site) -> list[str]:
    """The tests that break when an order is left out."""
    needing = []
    for name, one in translated(guest, host).items():
        users = [reader for reader in one.readers if site in reader.sites]
        for reader in users:
            reader.weakened = site
        if users and broken(one, host):
            needing.append(name)
        for reader in users:
            reader.weakened = None
    return needing


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("guest", GUESTS)
def test_translations_allow_nothing_that_the_guest_forbids(guest: str, host: str) -> None:
    tests = translated(guest, host)
    assert len(tests) > 30, "the guest has most of the suite"
    assert {name: sorted(found) for name, one in tests.items() if (found := broken(one, host))} == {}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("guest", GUESTS)
def test_each_order_is_needed(guest: str, host: str) -> None:
    """The control."""
    assert {name for name, one in translated(guest, host).items() if broken(one, host)} == set()
    found = sites(guest, host)
    assert found
    needless = {str(site) for site in found if not tests_that_need(guest, host, site)}
    assert needless == {row for one, row in STRONGER if one == guest and row in set(map(str, found))}


def test_an_order_that_the_host_lacks_is_missed_without_fences() -> None:
    """`order=native`: a guest that counts on store-to-load order sees it broken on x86-64."""
    test = observing_everything(load("SB"))
    host = HOSTS["x86_64"]
    found = allowed_by_host(test, TINY.readers(test, host, False), host)
    assert found - allowed_by_guest(test, "sc")
