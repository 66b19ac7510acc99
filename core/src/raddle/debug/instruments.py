# SPDX-License-Identifier: Apache-2.0
"""The instruments of one engine: its hooks, its logs, its profile, and the code around a pc."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from raddle import workers
from raddle.debug.hooks import Hook, Hooks
from raddle.debug.profile import Profile
from raddle.threads.engine import Engine
from raddle.threads.observer import Observer
from raddle.threads.vcpu import VCpu
from raddle.unique import Unique

__all__ = ["Instruments"]


class Instruments(Unique, Observer):
    """Hooks, logs and profile of one engine, and its observer. Methods: any thread. They raise MachineError when it is
    closed.
    """

    def __init__(self, engine: Engine) -> None:
        """Becomes the observer of `engine`, which is not started yet."""
        self._engine = engine
        self.hooks = Hooks(engine)
        self._profile: Profile | None = None
        engine.observer = self

    @workers.handed_over
    def add_hook(
        self, kind: str, function: Callable[..., object], start: int | None = None, end: int | None = None
    ) -> Hook:
        """See `raddle.debug.hooks.Hooks`."""
        return self.hooks.add(kind, function, start, end)

    @workers.handed_over
    def log(self, items: Sequence[str], stream: TextIO, within: Sequence[range] = ()) -> None:
        """Log these items of `-d` to `stream` from now on; see `raddle.debug.log.Log`."""
        from raddle.debug.log import Log  # late: most runs log nothing

        Log(self._engine, self.hooks, items, stream, within)

    @workers.handed_over
    def around(self, cpu: VCpu) -> list[str]:
        """See `raddle.debug.listing.around`. Neither in an exclusive section nor under the big lock."""
        from raddle.debug.listing import around

        self._engine.check_cpu("what around() looks at", cpu)
        # It reads the TLB and the watched pages, which hooks change in exclusive sections.
        with self._engine.exclusive():  # and nothing is freed
            return around(cpu)

    @workers.handed_over
    def profile(self) -> None:
        """Measure where the time goes, for `Engine.stats`. Before the engine is started."""
        if self._profile is None:
            self._profile = Profile(self._engine)

    # -- what the engine tells -----------------------------------------------------------------------------------------

    def timer(self, callback: Callable[[], None]) -> Callable[[], None]:
        return self._profile.timer(callback) if self._profile else callback

    def stuck(self, cpu: VCpu) -> None:
        # If the host has no memory or descriptor left for the warning, the guest goes on without it.
        with contextlib.suppress(ImportError, OSError, MemoryError):
            from raddle.debug.stuck import warn  # late: hardly any guest is stuck

            warn(cpu)

    def paths(self) -> list[dict[str, Any]]:
        return self._profile.paths() if self._profile else []

    def close(self) -> None:
        self.hooks.close()
        self._profile = None
