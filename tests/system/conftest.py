# SPDX-License-Identifier: Apache-2.0
"""Where the boot payload is: `nox -s boot` makes it and says so in RADDLE_PAYLOAD."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DEFAULT = Path(__file__).resolve().parents[2] / ".nox" / "payload-arm"


@pytest.fixture(scope="session")
def payload() -> Path:
    """Directory of the kernel and initial RAM disk of `raddle fetch-demo-kernel`; without them the test is skipped."""
    given = os.environ.get("RADDLE_PAYLOAD")
    directory = Path(given) if given else DEFAULT
    if not all((directory / name).is_file() for name in ("vmlinuz", "initramfs.cpio.gz")):
        reason = f"needs the boot payload, which is not in {directory}: `nox -s boot` makes it"
        if given:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return directory
