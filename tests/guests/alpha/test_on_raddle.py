# SPDX-License-Identifier: Apache-2.0
"""The guests on Raddle: each in every mode that runs several CPUs, and its controls.

Quick: every guest with four CPUs in each mode. Marked `stress`: other numbers of CPUs, the benchmark's kernels, and the
controls beyond one mode.
"""

from __future__ import annotations

import pytest
from tests.guests.alpha.prebuilt_guests import BENCH, CONTROLS, EXACT, GUESTS, RECORDED, STORMS, STRESS
from tests.guests.running import MODES, controls, each

pytestmark = pytest.mark.host

CPUS = (1, 2, 3, 4)
SEVERAL = CPUS[1:]
QUICK_CPUS = 4


@pytest.mark.parametrize("mode", MODES)
def test_one_cpu_says_hello(mode: str) -> None:
    assert GUESTS.run("hello", 1, mode)[-1].startswith("PASS hello ")


@pytest.mark.parametrize("cpus", CPUS)
@pytest.mark.parametrize("mode", MODES)
def test_every_cpu_says_hello(cpus: int, mode: str) -> None:
    GUESTS.check_hello(cpus, mode)


@pytest.mark.stress
@pytest.mark.parametrize("name", BENCH)
def test_benchmark_kernels_have_the_known_checksum(name: str) -> None:
    assert GUESTS.run_here(name, 1)[-1].startswith(f"PASS {name} ")


@pytest.mark.parametrize(("name", "cpus", "mode"), each(STRESS, CPUS, lambda name, mode, cpus: cpus == QUICK_CPUS))
def test_stress_guests_pass(name: str, cpus: int, mode: str) -> None:
    assert GUESTS.run_here(name, cpus, mode)[-1].startswith(f"PASS {name} cpus={cpus}")


@pytest.mark.parametrize("name", STORMS)
def test_storms_pass(name: str) -> None:
    """The mechanisms have guests of their own, with controls."""
    assert GUESTS.run_here(name, 2)[-1].startswith(f"PASS {name} cpus=2")


@pytest.mark.parametrize(("name", "cpus", "mode"), controls(CONTROLS, SEVERAL, QUICK_CPUS))
def test_controls_fail(name: str, cpus: int, mode: str) -> None:
    GUESTS.check_control(name, cpus, mode)


EXACT_CPUS = {"aba": 2, "aba-stack": 4}


@pytest.mark.parametrize("name", EXACT)
def test_store_conditional_compares_values(name: str) -> None:
    """The control of the next test."""
    GUESTS.check_control(name, EXACT_CPUS[name], "multi")
    assert GUESTS.run_here(name, 1)[-1].startswith(f"PASS {name} ")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", EXACT)
def test_strict_reservations_are_exact(name: str, mode: str) -> None:
    assert GUESTS.run_here(name, EXACT_CPUS[name], mode, strict=True)[-1].startswith(f"PASS {name} ")


@pytest.mark.stress
@pytest.mark.parametrize("name", STRESS)
def test_stress_guests_pass_with_strict_reservations(name: str) -> None:
    assert GUESTS.run_here(name, QUICK_CPUS, strict=True)[-1].startswith(f"PASS {name} cpus={QUICK_CPUS}")


# --- exceptions ---------------------------------------------------------------------------------------------------

NO_MASK = "4.7.7: bit n of the register write mask is set for the register that the instruction writes"
SUMMARY = "4.7.7: the summary has the exception, besides SWC for an instruction with /S"
NO_RIGHT = "II-B 3: an entry that is not valid and has no right to read is an access violation"
PEERS_OWN = {
    "float-off": "II-B 5: the PC is that of the instruction, which is executed again",
    "addq-v": NO_MASK,
    "mull-v": NO_MASK,
    "addt-denormal": NO_MASK,
    "divt-su-0": SUMMARY,
    "divt-sui-inexact": SUMMARY,
    **dict.fromkeys(("none-read", "none-write", "none-fetch", "no-level-3", "no-level-2", "user-jump"), NO_RIGHT),
    "FAIL exceptions": "those are wrong",
}
"""Lines that the peer has otherwise, and what the manual has."""


@pytest.mark.parametrize("mode", MODES)
def test_exceptions_are_those_of_the_manual_and_the_peer(mode: str) -> None:
    recorded = (RECORDED / "exceptions.txt").read_text().splitlines()
    lines = GUESTS.run("exceptions", 1, mode)
    assert not [line for line in lines if line.endswith("WRONG")]
    assert lines[-1] == "PASS exceptions all right"
    different = [theirs for ours, theirs in zip(lines, recorded, strict=True) if ours != theirs]
    assert {line.partition(":")[0] for line in different} == PEERS_OWN.keys()
