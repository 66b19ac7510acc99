# SPDX-License-Identifier: Apache-2.0
"""What an ARM CPU needs from its board, for PSCI and the generic timers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Line(Protocol):
    """An interrupt input."""

    def set(self, level: bool | int) -> None: ...


class Board(Protocol):
    """What an ARM CPU needs from its board. The caller holds the big lock."""

    @property
    def cpus(self) -> Sequence[Any]: ...

    def is_powered(self, cpu: int) -> bool: ...

    def cpu_on(self, cpu: int, entry: int, context_id: int) -> None: ...

    def cpu_off(self, cpu: int) -> None: ...

    def cpu_standby(self, cpu: int) -> None: ...

    def cpu_power_down(self, cpu: int, entry: int, context_id: int) -> None: ...

    def system_off(self) -> None: ...

    def system_reset(self) -> None: ...

    def timer_line(self, cpu: int, name: str) -> Line:
        """The input that a CPU's timer drives: ``non-secure`` for the physical timer, ``virtual`` for the virtual one.

        Running CPUs do not call this if the board's memory has a routine ``timer_line``: see raddle_target_arm.timers.
        """
