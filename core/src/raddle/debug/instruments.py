# SPDX-License-Identifier: Apache-2.0
"""The instruments of one engine: its hooks, its logs, its profile, and the code around a pc."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from raddle import workers
from raddle.threads.engine import Engine
from raddle.threads.observer import Observer
from raddle.threads.vcpu import VCpu
from raddle.unique import Unique

if TYPE_CHECKING:
    from raddle.debug.hooks import Hook, Hooks
    from raddle.debug.profile import Profile

__all__ = ["Instruments"]


class Instruments(Unique, Observer):
    """Hooks, logs and profile of one engine, and its observer. Methods: any thread. They raise MachineError when it is
    closed. Most machines use none of these, so each is imported when it is first asked for.
    """

    def __init__(self, engine: Engine) -> None:
        """Becomes the observer of `engine`, which is not started yet."""
        self._engine = engine
        self._hooks: Hooks | None = None
        self._making = threading.Lock()
        """Guards `_hooks`; a leaf."""
        self._profile: Profile | None = None
        engine.observer = self

    @property
    def hooks(self) -> Hooks:
        from raddle.debug.hooks import Hooks

        with self._making:
            if self._hooks is None:
                self._hooks = Hooks(self._engine)
            return self._hooks

    @workers.handed_over
    def add_hook(
        self, kind: str, function: Callable[..., object], start: int | None = None, end: int | None = None
    ) -> Hook:
        """See `raddle.debug.hooks.Hooks`."""
        return self.hooks.add(kind, function, start, end)

    @workers.handed_over
    def log(self, items: Sequence[str], stream: TextIO, within: Sequence[range] = ()) -> None:
        """Log these items of `-d` to `stream` from now on; see `raddle.debug.log.Log`."""
        from raddle.debug.log import Log

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
            from raddle.debug.profile import Profile

            self._profile = Profile(self._engine)

    # -- what the engine tells -----------------------------------------------------------------------------------------

    def timer(self, callback: Callable[[], None]) -> Callable[[], None]:
        return self._profile.timer(callback) if self._profile else callback

    def stuck(self, cpu: VCpu) -> None:
        # If the host has no memory or descriptor left for the warning, the guest goes on without it.
        with contextlib.suppress(ImportError, OSError, MemoryError):
            from raddle.debug.stuck import warn

            warn(cpu)

    def paths(self) -> list[dict[str, Any]]:
        return self._profile.paths() if self._profile else []

    def close(self) -> None:
        with self._making:
            hooks = self._hooks
        if hooks is not None:
            hooks.close()
        self._profile = None
