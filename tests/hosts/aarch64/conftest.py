# SPDX-License-Identifier: Apache-2.0
"""The process that runs AArch64 code, on this machine or under an emulator of user programs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raddle.testing.foreign_harness import Runner, build_runner, emulator


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    program = build_runner(["aarch64-linux-gnu-gcc"], tmp_path_factory.mktemp("aarch64"))
    runner = Runner([*emulator("qemu-aarch64", "aarch64"), program])
    yield runner
    runner.close()
