# SPDX-License-Identifier: Apache-2.0
"""The wait for a child process that tests and benchmarks use."""

from __future__ import annotations

import signal
import subprocess
import sys

from tests.children import wait
from tests.patience import seconds


def python(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code])


def test_the_status_and_the_memory_of_this_child_only() -> None:
    large, small = python("bytearray(300 << 20); raise SystemExit(3)"), python("raise SystemExit(4)")
    status, usage = wait(large, seconds(60))
    assert (status, large.poll()) == (3, 3)
    assert usage.ru_maxrss > 300 << 10
    status, usage = wait(small, seconds(60))
    assert status == 4
    assert usage.ru_maxrss < 300 << 10


def test_a_child_that_does_not_end_is_killed() -> None:
    process = python("import time\nwhile True: time.sleep(60)")
    status, _ = wait(process, 0.0)
    assert status == process.returncode == -signal.SIGKILL
