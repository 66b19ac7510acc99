# SPDX-License-Identifier: Apache-2.0
"""Settings of the process that machines are fast with. They are there while one runs, and given back after the last."""

from __future__ import annotations

import gc
import os
import sys
import threading
from typing import Final

__all__ = ["borrow", "give_back"]

SWITCH_INTERVAL: Final = 2e-4
"""Seconds; what a contended GIL costs a waiting vCPU at least."""
GC_THRESHOLD: Final = 1_000_000
"""Allocations between two searches for cyclic garbage: translating makes hardly any, and what it makes stays. With
Python's own threshold a quarter of a boot goes into such searches."""


class _Settings:
    """Of this process. Under `_lock`, which is taken on threads of Raddle's own alone; a leaf."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.engines = 0
        """How many have borrowed them."""
        self.before: tuple[float, tuple[int, int, int]] = (0.0, (0, 0, 0))
        self.set: tuple[float, tuple[int, int, int]] = (0.0, (0, 0, 0))

    def begin(self) -> None:
        self.before = _now()
        sys.setswitchinterval(min(self.before[0], SWITCH_INTERVAL))
        first, *others = self.before[1]
        if first:  # 0 is for no searches
            gc.set_threshold(max(first, GC_THRESHOLD), *others)
        self.set = _now()

    def end(self) -> None:
        """What somebody else has set meanwhile stays."""
        now = _now()
        if now[0] == self.set[0]:
            sys.setswitchinterval(self.before[0])
        if now[1] == self.set[1]:
            gc.set_threshold(*self.before[1])


def _now() -> tuple[float, tuple[int, int, int]]:
    return sys.getswitchinterval(), gc.get_threshold()


_settings = _Settings()


def borrow() -> None:
    """vCPUs are about to run."""
    with _settings.lock:
        _settings.engines += 1
        if _settings.engines == 1:
            _settings.begin()


def give_back() -> None:
    """They have ended, after `borrow`."""
    with _settings.lock:
        _settings.engines -= 1
        if not _settings.engines:
            _settings.end()


def _after_fork() -> None:
    """In a child, where no machine of its parent's runs."""
    global _settings
    before, _settings = _settings, _Settings()
    if before.engines:
        before.end()


os.register_at_fork(after_in_child=_after_fork)
