# SPDX-License-Identifier: Apache-2.0
"""Where the boot payloads are: `nox -s boot` makes ARM's and says so in RADDLE_PAYLOAD."""

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
    """Directory of Linux kernels for Alpha, `vmlinux` with an alarm of each CPU (CONFIG_ALPHA_QEMU) and `vmlinux-rtc`
    with ticks of the clock chip, and of `initramfs.cpio.gz`, which prints PAYLOAD-OK. Without them the test is skipped.
    """
    given = os.environ.get("RADDLE_ALPHA_PAYLOAD")
    directory = Path(given) if given else MADE / "payload-alpha"
    if not all((directory / name).is_file() for name in ("vmlinux", "vmlinux-rtc", "initramfs.cpio.gz")):
        reason = (
            f"needs Alpha's boot payload, which is not in {directory}: name another directory in RADDLE_ALPHA_PAYLOAD"
        )
        if given:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return directory
