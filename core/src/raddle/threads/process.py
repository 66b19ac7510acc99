# SPDX-License-Identifier: Apache-2.0
"""Settings of the process that make machines fast. They are in force while a machine runs, and restored after the last
one."""

from __future__ import annotations

import gc
import os
import sys
import threading
from typing import Final

__all__ = ["borrow", "give_back"]

SWITCH_INTERVAL: Final = 2e-4
"""Seconds; the least that a waiting vCPU waits for a contended GIL."""
GC_THRESHOLD: Final = 1_000_000
"""Allocations between two searches for cyclic garbage. Translation makes hardly any garbage, and many objects that
stay: with Python's default threshold, such searches take a quarter of a boot."""


class _Settings:
    """Those of this process. Under `lock`, a leaf, which only Raddle's own threads take."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.engines = 0
        """How many engines have borrowed them."""
        self.before: tuple[float, tuple[int, int, int]] = (0.0, (0, 0, 0))
        self.set: tuple[float, tuple[int, int, int]] = (0.0, (0, 0, 0))

    def begin(self) -> None:
        self.before = _now()
        sys.setswitchinterval(min(self.before[0], SWITCH_INTERVAL))
        first, *others = self.before[1]
        if first:  # 0 turns searches off
            gc.set_threshold(max(first, GC_THRESHOLD), *others)
        self.set = _now()

    def end(self) -> None:
        """Settings that others have changed meanwhile stay."""
        now = _now()
        if now[0] == self.set[0]:
            sys.setswitchinterval(self.before[0])
        if now[1] == self.set[1]:
            gc.set_threshold(*self.before[1])


def _now() -> tuple[float, tuple[int, int, int]]:
    return sys.getswitchinterval(), gc.get_threshold()


_settings = _Settings()


def borrow() -> None:
    """An engine is about to run vCPUs."""
    with _settings.lock:
        _settings.engines += 1
        if _settings.engines == 1:
            _settings.begin()


def give_back() -> None:
    """An engine that has called `borrow` has ended."""
    with _settings.lock:
        _settings.engines -= 1
        if not _settings.engines:
            _settings.end()


def _after_fork() -> None:
    """In a forked child, where none of the parent's machines runs."""
    global _settings
    before, _settings = _settings, _Settings()
    if before.engines:
        before.end()


os.register_at_fork(after_in_child=_after_fork)
