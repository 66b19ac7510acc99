# SPDX-License-Identifier: Apache-2.0
"""Exact reservations of a whole machine: what Python writes ends them, and how many vCPUs there is room for.

The runtime's part is in tests/native/granule_tests.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from raddle.runtime._native import lib

from raddle import Machine
from raddle.accel import Decision, Llsc, Mode
from raddle.errors import UsageError
from raddle.memory import AddressSpace
from raddle.plugins import registry
from raddle.threads.engine import Engine

pytestmark = pytest.mark.host

HELLO = Path(__file__).parents[1] / "guests/arm/prebuilt/hello.elf"
PLACE = 0x4040_0000
WORD = 2
"""`MemOp.encode` of a plain 4-byte access on MMU index 0."""
GRANULE = 64


@pytest.fixture(params=Llsc, ids=lambda llsc: llsc.value)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    with Machine("virt", memory="16M", kernel=HELLO, accelerator=f"tcg,llsc={request.param.value}") as machine:
        yield machine


def stands_after(machine: Machine, happens: Callable[[], None]) -> bool:
    """Whether a store-exclusive succeeds after a load-exclusive and what comes in between."""
    env, header = machine.cpus[0].env, machine.cpus[0].header  # type: ignore[attr-defined]  # the engine's own
    header.arg0 = PLACE
    assert lib.raddle_slow_atomic(env, 0, WORD, lib.RADDLE_OP_LOAD_EXCLUSIVE) == 0
    happens()
    header.arg0, header.arg1 = PLACE, 1
    assert lib.raddle_slow_atomic(env, 0, WORD, lib.RADDLE_OP_STORE_EXCLUSIVE) == 0
    return not header.result


@pytest.mark.parametrize("offset", [0, GRANULE - 1])
def test_a_write_from_python_ends_a_reservation(machine: Machine, offset: int) -> None:
    strict = machine.engine.llsc is Llsc.STRICT  # type: ignore[attr-defined]

    def write() -> None:
        machine.memory[PLACE + offset] = machine.memory[PLACE + offset]

    def clear() -> None:
        machine.memory.clear(PLACE + offset, 1)

    assert stands_after(machine, write) is not strict
    machine.memory.clear(PLACE, GRANULE)
    assert stands_after(machine, clear) is not strict
    assert machine.memory[PLACE : PLACE + 4] == (bytes(4) if strict else bytes([1, 0, 0, 0]))


def test_writes_from_python_elsewhere_end_none(machine: Machine) -> None:
    def write() -> None:
        machine.memory[PLACE - GRANULE : PLACE] = bytes(GRANULE)
        machine.memory.clear(PLACE + GRANULE, 3 << 20)

    assert stands_after(machine, write)


def test_long_writes_and_clears_reach_all_bytes(machine: Machine) -> None:
    data = bytes(range(251)) * 8000
    machine.memory[PLACE + 3 : PLACE + 3 + len(data)] = data
    assert machine.memory[PLACE + 3 : PLACE + 3 + len(data)] == data
    machine.memory.clear(PLACE + 5, len(data) - 4)
    expected = data[:2] + bytes(len(data) - 4) + data[-2:]
    assert machine.memory[PLACE + 3 : PLACE + 3 + len(data)] == expected


@pytest.mark.parametrize(
    ("strict", "message"), [(True, "has room for 31 vCPUs, not 32"), (False, "is not possible: this host has no")]
)
def test_what_there_is_no_room_or_host_for(strict: bool, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = registry()
    front_end: Any = found.front_end(found.target("arm"), "cortex-a15")
    backend: Any = found.load(found.host_for())
    monkeypatch.setattr(backend, "strict", strict)
    with pytest.raises(UsageError, match=f"^llsc=strict {message}"):
        Engine(front_end, backend, Decision(Mode.SINGLE, ()), AddressSpace(), 32, llsc=Llsc.STRICT)
