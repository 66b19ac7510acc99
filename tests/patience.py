# SPDX-License-Identifier: Apache-2.0
"""How long tests wait for what must happen. Where Raddle itself is emulated, all takes longer: `nox -s emulated` says
how many times, in RADDLE_TEST_PATIENCE.
"""

from __future__ import annotations

import os

__all__ = ["KERNEL", "seconds"]


def seconds(usual: float) -> float:
    """The seconds after which a test that waits counts as failed; `usual` is the time where nothing is emulated."""
    return usual * float(os.environ.get("RADDLE_TEST_PATIENCE", "1"))


def _kernel_options() -> str:
    if seconds(1) == 1:
        return ""
    return f" watchdog_thresh={min(60, seconds(10)):.0f} rcupdate.rcu_cpu_stall_timeout={seconds(21):.0f}"


KERNEL = _kernel_options()
"""For the command line of a Linux kernel: how long it waits before it takes a CPU for stuck that the host has not run.
10 (at most 60) and 21 seconds are the kernel's own limits.
"""
