# SPDX-License-Identifier: Apache-2.0
"""The AArch64 back end passes the host contract, with all accesses hitting the software TLB and with all missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from raddle.testing.foreign_harness import ForeignHarness, Runner, build_runner, emulator
from raddle.testing.host_contract import Backend, HostContract
from raddle_host_aarch64.backend import AArch64BackEnd
from raddle_host_aarch64.features import BASELINE, Features

COMPILER = shutil.which("aarch64-linux-gnu-gcc")
EMULATOR = shutil.which("qemu-aarch64")

pytestmark = pytest.mark.skipif(
    COMPILER is None or EMULATOR is None, reason="needs aarch64-linux-gnu-gcc and qemu-aarch64"
)

ALL = Features(*[True] * len(BASELINE))


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    program = build_runner([str(COMPILER)], tmp_path_factory.mktemp("aarch64"))
    runner = Runner([*emulator(str(EMULATOR), "aarch64"), program])
    yield runner
    runner.close()


class TestHits(HostContract):
    @pytest.fixture
    def backend(self, runner: Runner) -> Backend:
        return ForeignHarness(lambda config: AArch64BackEnd(config, ALL), runner, tlb=True)


class TestMisses(HostContract):
    @pytest.fixture
    def backend(self, runner: Runner) -> Backend:
        return ForeignHarness(lambda config: AArch64BackEnd(config, BASELINE), runner, tlb=False)
