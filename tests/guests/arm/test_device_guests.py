# SPDX-License-Identifier: Apache-2.0
"""Guests about the `virt` board's devices, in every mode."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.guests.arm.prebuilt_guests import PREBUILT

from raddle import Machine

LIMIT = 240
"""Seconds for what a guest says next."""

pytestmark = pytest.mark.host

MODES = (
    pytest.param({"accelerator": "tcg,thread=multi"}, id="multi"),
    pytest.param({"accelerator": "tcg,thread=single"}, id="single"),
    pytest.param({"icount": "shift=auto"}, id="icount"),
)


def machine(name: str, **options: Any) -> Machine:
    return Machine("virt", memory="64M", kernel=PREBUILT / f"{name}.elf", **options)


def verdict(one: Machine) -> str:
    assert one.wait(LIMIT) == 0
    return one.console.text.splitlines()[-1]


@pytest.mark.parametrize("mode", MODES)
def test_a_probe_of_virtio_slots_finds_no_device(mode: dict[str, str]) -> None:
    with machine("virtio-probe", **mode) as one:
        one.profile()
        one.start()
        assert verdict(one) == "PASS virtio-probe slots=32"
        paths = {path["name"]: sum(path["calls"]) for path in one.stats()["paths"]}  # type: ignore[attr-defined]
    assert paths["virtio-mmio"] == 0, "a probe needs no Python"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["gic-groups", "gic-groups-alias"])
def test_interrupts_of_both_groups_come(name: str, mode: dict[str, str]) -> None:
    with machine(name, **mode) as one:
        one.start()
        assert verdict(one) == f"PASS {name} last=6"


@pytest.mark.parametrize("mode", MODES)
def test_a_uart_interrupt_is_not_lost_when_it_is_cleared_late(mode: dict[str, str]) -> None:
    with machine("uart-receive", **mode) as one:
        one.start()
        one.console.expect("ready", timeout=LIMIT)
        for window in range(1, 4):
            one.console.send("x" * 100)  # more than the FIFO takes
            one.console.expect(f"window {window}", timeout=LIMIT)
        one.console.send("y" * 100 + "#")
        assert verdict(one) == "PASS uart-receive received=401"


@pytest.mark.parametrize("mode", MODES)
def test_a_suspended_cpu_sleeps_and_the_event_stream_ends_wfe(mode: dict[str, str]) -> None:
    with machine("cpu-suspend", **mode) as one:
        one.start()
        assert verdict(one) == "PASS cpu-suspend powered-down=1"
        streams = re.findall(r"^(\w+) ticks=(\d+) high=(\d+)\r?$", one.console.text, re.MULTILINE)
    assert [direction for direction, _, _ in streams] == ["up", "down"]
    if "icount" in mode:  # elsewhere a wait for an event is limited, and when it goes on is the host's affair
        period = 1 << 10
        assert all(98 * period <= int(ticks) <= 101 * period for _, ticks, _ in streams), streams
        assert [int(high) for _, _, high in streams] == [100, 0]


@pytest.mark.parametrize("cpus", [1, 4])
@pytest.mark.parametrize("mode", MODES)
def test_flash_turns_and_is_programmed_under_all_cpus(mode: dict[str, str], cpus: int) -> None:
    with machine("flash", cpus=cpus, **mode) as one:
        one.start()
        assert verdict(one) == f"PASS flash cpus={cpus}"


@pytest.mark.parametrize("left_out", ["_loads_listeners", "_listeners"])
def test_control_flash_without_telling_the_runtime(left_out: str) -> None:
    """Loads go on from where they were, or what was translated from flash runs on."""
    with machine("flash", cpus=4) as one:
        getattr(one.memory, left_out).clear()
        one.start()
        assert verdict(one).startswith("FAIL flash")
