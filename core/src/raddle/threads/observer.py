# SPDX-License-Identifier: Apache-2.0
"""The interface by which an engine tells an observer what happens. Machines use that of `raddle.debug.instruments`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raddle.threads.vcpu import VCpu

__all__ = ["Observer"]


class Observer:
    """An engine's observer; this one, which an engine begins with, does nothing."""

    def timer(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Called for each new timer with its callback; returns what the timer calls instead. Any of Raddle's own
        threads.
        """
        return callback

    def stuck(self, cpu: VCpu) -> None:
        """`cpu` only takes exceptions at one place; called once. On the vCPU's own thread, outside `raddle_run`."""

    def paths(self) -> list[dict[str, Any]]:
        """What `Engine.stats` reports of the calls from the runtime into Python. Any of Raddle's own threads."""
        return []

    def close(self) -> None:
        """The engine is closed. Called on the closing thread, as the last of the methods."""
