# SPDX-License-Identifier: Apache-2.0
"""The prebuilt guests by what a test has to know of them. NAME-control.elf is NAME's control."""

from pathlib import Path

from tests.guests.running import Guests

PREBUILT = Path(__file__).resolve().parent / "prebuilt"
RECORDED = PREBUILT.parent / "recorded"
GUESTS = Guests("clipper", PREBUILT)

ONE_CPU = ("hello", "exceptions")
BENCH = GUESTS.named("bench-*")
STORMS = GUESTS.named("storm-*")
CONTROLS = GUESTS.named("*-control")
EXACT = ("aba", "aba-stack")
"""They fail by design unless reservations are exact."""
STRESS = tuple(
    name for name in GUESTS.named("*") if name not in {*ONE_CPU, *BENCH, *STORMS, *CONTROLS, *EXACT, "hello-smp"}
)
"""They pass with any number of CPUs in every mode."""
