# SPDX-License-Identifier: Apache-2.0
"""What the host's cores have to give at this moment: plain arithmetic on several threads, without anything of ours."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import time
from typing import Final

__all__ = ["FREE", "count", "gain"]

HASHED: Final = bytes(1 << 20)
HASHES: Final = 160
"""So many take about a tenth of a second."""

FREE: Final = 0.95
"""Threads that gain this much of their number have as many cores to themselves."""


def count() -> int:
    """The host's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gain(threads: int) -> float:
    """How many times as much so many threads get done at once as one does: 2 on two cores that nobody else uses.

    Less where another program, another machine on the same host or the other hardware thread of the same core takes
    its part.
    """
    started = time.monotonic()
    _work()
    alone = time.monotonic() - started
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for one in [pool.submit(_work) for _ in range(threads)]:
            one.result()
    return threads * alone / (time.monotonic() - started)


def _work() -> None:
    """Arithmetic that holds no lock: hashing releases the GIL."""
    for _ in range(HASHES):
        hashlib.sha256(HASHED).digest()
