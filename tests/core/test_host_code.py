# SPDX-License-Identifier: Apache-2.0
"""What a host makes for a machine: without one, the same is refused as when one is made, in the same words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raddle.accel import Decision, Llsc, Mode
from raddle.codegen.allocation import CodegenError
from raddle.codegen.backend import BackEnd
from raddle.errors import RaddleError
from raddle.memory import AddressSpace
from raddle.plugins import registry
from raddle.threads.engine import Engine
from raddle.threads.host_code import refusal

pytestmark = pytest.mark.host

DECISION = Decision(Mode.MULTI, ("a test",))


def raises(*_: object) -> Any:
    raise CodegenError("the host emits no div")


def lacks(**changed: object) -> type[BackEnd]:
    """The host of this machine, with other attributes."""
    return type("Lacking", (registry().load(registry().host_for()),), {"__module__": "raddle_host_acme", **changed})


@pytest.mark.parametrize(
    ("host", "llsc", "reason"),
    [
        (lambda: lacks(), Llsc.STRICT, ""),
        (lambda: lacks(strict=False), Llsc.FAST, ""),
        (
            lambda: lacks(strict=False),
            Llsc.STRICT,
            "llsc=strict is not possible: this host has no exact reservations",
        ),
        (
            lambda: lacks(__init__=raises),
            Llsc.FAST,
            "the host's package raddle_host_acme does not set its back end up: the host emits no div",
        ),
        (
            lambda: lacks(routine=raises, features=None),
            Llsc.FAST,
            "the host's package raddle_host_acme does not compile routine 'undefined': the host emits no div",
        ),
        (
            lambda: lacks(thunks=raises),
            Llsc.FAST,
            "the host's package raddle_host_acme does not make its thunks: the host emits no div",
        ),
    ],
    ids=["everything", "strict, unasked", "strict", "set-up", "routines", "thunks"],
)
def test_what_a_host_lacks_is_found_without_a_machine(
    host: Callable[[], type[BackEnd]], llsc: Llsc, reason: str
) -> None:
    front_end, back_end = registry().front_end(registry().target("arm")), host()
    assert refusal(front_end, back_end, DECISION, icount=False, llsc=llsc) == reason

    memory, said = AddressSpace(1 << front_end.page_bits), ""
    try:
        Engine(front_end, back_end, DECISION, memory, 1, llsc=llsc).close()
    except RaddleError as error:
        said = str(error)
    finally:
        memory.close()
    assert said == reason
