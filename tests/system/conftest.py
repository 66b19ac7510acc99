# SPDX-License-Identifier: Apache-2.0
"""Where the boot payloads are: `nox -s boot` makes ARM's and says so in RADDLE_PAYLOAD, `nox -s boot_alpha` makes
Alpha's and says so in RADDLE_ALPHA_PAYLOAD.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

MADE = Path(__file__).resolve().parents[2] / ".nox"
DEFAULT = MADE / "payload-arm"


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


@pytest.fixture(scope="session")
def alpha_payload() -> Path:
    """Directory of the kernels and the initial RAM disk of `alpha_payload/build.py`; without them the test is
    skipped.
    """
    given = os.environ.get("RADDLE_ALPHA_PAYLOAD")
    directory = Path(given) if given else MADE / "payload-alpha"
    if not all((directory / name).is_file() for name in ("vmlinux", "vmlinux-rtc", "initramfs.cpio.gz")):
        reason = f"needs Alpha's boot payload, which is not in {directory}: `nox -s boot_alpha` makes it"
        if given:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return directory
