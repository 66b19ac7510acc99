# SPDX-License-Identifier: Apache-2.0
"""What `FrontEnd` does for front ends."""

from __future__ import annotations

from tests.core.mixed_guest import MixedFrontEnd

from raddle.ir.header import NO_RESERVATION
from raddle.testing.guest_runs import PlainCpu


def test_what_clear_resets() -> None:
    """An `interrupt_mask` that outlasts a reset of the machine could let its next program sleep for ever."""
    front_end = MixedFrontEnd()
    cpu = PlainCpu(front_end)
    for name in ("x1", "x2", "fp_rounding", "fp_flags", "event", "interrupt_mask", "exclusive_address"):
        cpu[name] = 3
    front_end.clear(cpu, {"x2"})
    assert [cpu[name] for name in ("x1", "x2", "fp_rounding", "fp_flags", "event")] == [0, 3, 0, 0, 0]
    assert cpu["interrupt_mask"] == 0xFFFF_FFFF
    assert cpu["exclusive_address"] == NO_RESERVATION
