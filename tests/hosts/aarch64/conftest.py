# SPDX-License-Identifier: Apache-2.0
"""The process that runs AArch64 code, on this machine or under an emulator of user programs."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from raddle.testing.foreign_harness import Runner, build_runner


def starts_here(program: Path) -> bool:
    """Whether this machine starts the program. Where Python is emulated, the kernel is another machine's than Python
    says.
    """
    try:
        subprocess.run([program], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        return False
    return True


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    program = build_runner(["aarch64-linux-gnu-gcc"], tmp_path_factory.mktemp("aarch64"))
    runner = Runner([program] if starts_here(program) else ["qemu-aarch64", program])
    yield runner
    runner.close()
