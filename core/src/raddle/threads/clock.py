# SPDX-License-Identifier: Apache-2.0
"""The time of a thread that runs vCPUs, by the host's clocks."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

__all__ = ["ThreadClock"]


class ThreadClock:
    """The time of one thread that runs vCPUs. Made on that thread; `read` on any."""

    def __init__(self, cpus: list[int]) -> None:
        self.cpus = cpus
        """Numbers of the vCPUs that the thread runs."""
        self.native_id = threading.get_native_id()
        self._clock = time.pthread_getcpuclockid(threading.get_ident())
        """Looked up here: looking up the clock of a thread that has ended is undefined, but reading it is only an
        OSError."""
        self.idle_ns = 0
        """Time with no vCPU to run, or with the machine paused; counted by the thread itself."""
        self._final: dict[str, Any] | None = None
        self._started = time.monotonic_ns()
        self._base = self._host_times()

    def stop(self) -> None:
        """The thread is about to end. Call it on that thread."""
        self._final = self.read()

    def read(self) -> dict[str, Any]:
        """Nanoseconds since the thread began: `wall_ns`, `cpu_ns`, `delay_ns` (ready, but no core was free; None where
        the kernel does not tell), `idle_ns`.
        """
        (cpu, delay), (cpu_base, delay_base) = self._host_times(), self._base
        final = self._final
        if final is not None:  # tested after the reading: if the thread has ended meanwhile, its times are gone
            return final
        return {
            "cpus": self.cpus,
            "wall_ns": time.monotonic_ns() - self._started,
            "cpu_ns": cpu - cpu_base,
            "delay_ns": None if delay is None or delay_base is None else delay - delay_base,
            "idle_ns": self.idle_ns,
        }

    def _host_times(self) -> tuple[int, int | None]:
        try:
            cpu, delay, _ = Path(f"/proc/self/task/{self.native_id}/schedstat").read_text().split()
            return int(cpu), int(delay)
        except (OSError, ValueError):
            pass
        try:
            return time.clock_gettime_ns(self._clock), None
        except OSError:
            return 0, None
