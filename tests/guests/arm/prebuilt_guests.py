# SPDX-License-Identifier: Apache-2.0
"""The prebuilt guests by what a test has to know of them. NAME-control.elf is NAME's control."""

from pathlib import Path

from tests.guests.running import Guests

PREBUILT = Path(__file__).resolve().parent / "prebuilt"
GUESTS = Guests("virt", PREBUILT)
_named = GUESTS.named

ONE_CPU = ("hello", "exceptions", "exceptions-lpae", "exceptions-many", "crc32-thumb", "sha256-thumb")
DEVICES = ("cpu-suspend", "flash", "gic-groups", "gic-groups-alias", "uart-receive", "virtio-probe")
"""What they need of the machine, and what is right, is in test_device_guests.py."""
COUNTED_ONLY = ("far-timer",)
"""They wait for virtual time that passes only where it is counted."""
ENDLESS = ("endless-loop", "endless-count", "endless-sleep", "stray-pc", "stray-undefined")
BENCH = _named("bench-*")
STORMS = _named("storm-*")
CONTROLS = _named("*-control")
EXACT = ("aba", "aba-stack")
"""They fail by design unless reservations are exact."""
OTHERS = ("hello-smp", *EXACT)
STRESS = tuple(
    name
    for name in _named("*")
    if name not in {*ONE_CPU, *DEVICES, *COUNTED_ONLY, *ENDLESS, *BENCH, *STORMS, *CONTROLS, *OTHERS}
)
"""They pass with any number of CPUs in every mode."""
