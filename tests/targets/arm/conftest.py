# SPDX-License-Identifier: Apache-2.0
"""A CPU in reset state whose IR routines run in the interpreter, over a dictionary of physical words."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.targets.interpreted_cpu import InterpretedCpu

from raddle_target_arm.frontend import FRONT_END

NOTHING = 0xBAD0_0000
"""Physical addresses from here on answer nothing."""


class System(InterpretedCpu):
    """One CPU, with the physical memory ``words`` and the generic timer's counter ``ticks``."""

    def __init__(self) -> None:
        self.words: dict[int, int] = {}
        self.ticks = 0
        natives: dict[str, Callable[..., int | None]] = {
            "phys_load32": lambda cpu, address: self.words.get(address, 0),
            "phys_load64": lambda cpu, address: self.words.get(address, 0) | self.words.get(address + 4, 0) << 32,
            "phys_is_memory": lambda cpu, address, size: int(address < NOTHING),
            "clock_ticks": lambda cpu, frequency: self.ticks,
            "ticks_to_ns": lambda cpu, ticks, frequency: ticks * 16,
            "exception": lambda cpu, place: 0,
        }
        recorded = (
            "tlb_set", "tlb_flush", "tlb_flush_by_mmuidx", "tlb_flush_local", "tlb_flush_page", "tlb_flush_all_cpus",
            "tlb_flush_page_all_cpus", "tlb_sync", "big_lock", "big_unlock", "timer_set", "timer_cancel",
            "board_timer_line", "psci", "icache_sync",
        )  # fmt: skip
        super().__init__(FRONT_END, natives, recorded)


@pytest.fixture
def system() -> System:
    return System()
