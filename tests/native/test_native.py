# SPDX-License-Identifier: Apache-2.0
"""Runs the C tests and their controls without a sanitizer; `nox -s native` runs them with each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_native_runtime() -> None:
    driver = Path(__file__).with_name("run.py")
    done = subprocess.run(
        [sys.executable, str(driver), "--build", "plain"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
