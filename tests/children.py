# SPDX-License-Identifier: Apache-2.0
"""Child processes that tests and benchmarks wait for."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import threading

__all__ = ["wait"]


def wait(process: subprocess.Popen[bytes], limit: float) -> tuple[int, resource.struct_rusage]:
    """The child's exit status and its resource usage, without that of other children, which getrusage includes. Kills
    the child after `limit` seconds. Sleeps meanwhile."""
    # Not `process.kill`, which first looks whether the child has ended, and would take the status away from wait4.
    late = threading.Timer(limit, os.kill, (process.pid, signal.SIGKILL))
    late.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        late.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage
