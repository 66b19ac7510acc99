# SPDX-License-Identifier: Apache-2.0
"""How much threads can gain on the host's cores at this moment, measured with plain arithmetic and without a guest."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import time
from typing import Final

__all__ = ["FREE", "count", "gain"]

HASHED: Final = bytes(1 << 20)
HASHES: Final = 160
"""This many take about a tenth of a second."""

FREE: Final = 0.95
"""If the gain is at least this share of the number of threads, each thread had a core to itself."""


def count() -> int:
    """The host's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gain(threads: int) -> float:
    """How much more work so many threads do than one thread does in the same time: 2.0 for two threads on two cores
    that nothing else uses.

    It is less if cores are shared with another program, with another virtual machine on the same hardware, or with
    the other hardware thread of the core.
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
