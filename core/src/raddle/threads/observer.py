# SPDX-License-Identifier: Apache-2.0
"""What an engine tells whoever watches it. `raddle.debug.instruments` has the observer that machines use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raddle.threads.vcpu import VCpu

__all__ = ["Observer"]


class Observer:
    """An engine's observer; this one, which an engine begins with, does nothing."""

    def timer(self, callback: Callable[[], None]) -> Callable[[], None]:
        """A timer is made that calls `callback`; what it calls instead. Any thread of Raddle's own."""
        return callback

    def stuck(self, cpu: VCpu) -> None:
        """`cpu` does nothing any more but take exceptions at one place; told once. On the vCPU's own thread, outside
        `raddle_run`.
        """

    def paths(self) -> list[dict[str, Any]]:
        """What `Engine.stats` says about the calls from the runtime into Python. Any thread of Raddle's own."""
        return []

    def close(self) -> None:
        """The engine is closed. On the closing thread; nothing else is called after it."""
