# SPDX-License-Identifier: Apache-2.0
"""Markers that name the programs a test needs: `@pytest.mark.peer("qemu-system-arm")`, `@pytest.mark.cross(...)`;
Hypothesis without deadlines; and signals that do what they do by default, in what the tests start, too.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal

import pytest
from hypothesis import settings

settings.register_profile("raddle", deadline=None)  # a loaded machine is no failure
settings.load_profile("raddle")

# Who starts the tests may ignore some (nohup, a script's `&`), which Raddle then leaves so.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGTERM, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGQUIT, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

REQUIRED = bool(os.environ.get("RADDLE_REQUIRE_PEERS"))


def missing(needed: str) -> bool:
    """Whether neither a program nor a Python package of that name is there."""
    return shutil.which(needed) is None and importlib.util.find_spec(needed) is None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose peer is missing, with the reason; fail it where peers are required."""
    for marker in (*item.iter_markers("peer"), *item.iter_markers("cross")):
        for needed in marker.args:
            if missing(needed):
                reason = f"needs {needed}, which is not installed"
                if REQUIRED:
                    pytest.fail(reason, pytrace=False)
                pytest.skip(reason)
