# SPDX-License-Identifier: Apache-2.0
"""A guest that takes exceptions at one place for ever is told of once, and goes on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raddle import Machine
from raddle.machine.machine import State

pytest.importorskip("raddle_target_arm", reason="the guests are for raddle-target-arm")
pytestmark = pytest.mark.host

GUESTS = Path(__file__).parents[1] / "guests/arm/prebuilt"
MODES: dict[str, dict[str, Any]] = {
    "multi": {"accelerator": "tcg,thread=multi"},
    "single": {"accelerator": "tcg,thread=single"},
    "icount": {"icount": "shift=0"},
}
PLENTY = 3 << 20
"""Exceptions of a vCPU after which it would have been told of more than once."""
LIMIT = 240.0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "the guest does not get there"
        time.sleep(0.01)


def told(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "raddle.machine"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("stray-pc", ["=> 0x2000000c: there is no memory"]),
        ("stray-undefined", ["e7f000f0  udf #0"] * 5),
    ],
)
def test_it_is_told_of_once_and_goes_on(
    name: str, code: list[str], mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Machine(cpus=2, kernel=GUESTS / f"{name}.elf", **MODES[mode]) as machine:
        machine.start()
        until(lambda: all(cpu["count_exception"] > PLENTY for cpu in machine.stats()["cpus"]))  # type: ignore[attr-defined]
        assert machine.state is State.RUNNING
    (record,) = told(caplog)
    assert record.levelname == "WARNING"
    first, *registers = record.getMessage().splitlines()
    place = next(line for line in registers if line.startswith("=> "))[3:13]
    assert f"take exceptions at pc {place};" in first
    assert f"pc={place[2:]}" in "\n".join(registers)
    assert sum(line.endswith(code[0]) for line in registers) == len(code)


@pytest.mark.parametrize("mode", MODES)
def test_a_guest_without_vectors_is_told_of(mode: str, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """An undefined instruction, and flash with nothing in it where the vectors are."""
    (tmp_path / "kernel").write_bytes(bytes.fromhex("f000f0e7") * 4)
    with Machine("virt", kernel=tmp_path / "kernel", **MODES[mode]) as machine:
        machine.start()
        until(lambda: len(told(caplog)) == 1)
        assert machine.state is State.RUNNING
    assert "take exceptions at pc 0x00000004;" in told(caplog)[0].getMessage()


@pytest.mark.parametrize("mode", MODES)
def test_a_guest_whose_vectors_fault_in_turn_is_told_of(
    mode: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """The handler of undefined instructions loads from where there is no memory; that of data aborts is undefined."""
    vectors = [0xE7F000F0] * 8
    vectors[1] = 0xE590_0000  # ldr r0, [r0]
    start = [
        0xE28F0018,  # add r0, pc, #0x18: the vectors
        0xEE0C0F10,  # mcr p15, 0, r0, c12, c0, 0: VBAR
        0xE3A00102,  # mov r0, #0x80000000
        0xE7F000F0,  # udf #0
    ]
    words = [*start, *[0] * 4, *vectors]
    (tmp_path / "kernel").write_bytes(b"".join(word.to_bytes(4, "little") for word in words))
    with Machine("virt", kernel=tmp_path / "kernel", **MODES[mode]) as machine:
        machine.start()
        until(lambda: len(told(caplog)) == 1)
        assert machine.state is State.RUNNING


@pytest.mark.parametrize("mode", MODES)
def test_exceptions_that_return_are_no_trouble(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    with Machine(kernel=GUESTS / "exceptions-many.elf", **MODES[mode]) as machine:
        machine.start()
        assert machine.wait(LIMIT) == 0
        assert machine.console.text.startswith("PASS exceptions-many ")  # type: ignore[union-attr]
    assert told(caplog) == []
