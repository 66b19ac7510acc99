# SPDX-License-Identifier: Apache-2.0
"""Reading the CPU's features from the auxiliary vector."""

from pathlib import Path
from struct import pack

import pytest

from raddle_host_aarch64.features import BASELINE, Features, detect, from_auxv, from_hwcap

ATOMICS, LRCPC = 1 << 8, 1 << 15


def vector(*pairs: tuple[int, int]) -> bytes:
    return b"".join(pack("<QQ", *pair) for pair in pairs)


def test_every_feature_has_the_kernels_bit() -> None:
    assert from_hwcap(ATOMICS) == Features(lse=True)
    assert from_hwcap(LRCPC) == Features(lrcpc=True)
    assert from_hwcap(~0) == Features(*[True] * len(BASELINE))
    assert from_hwcap(~(ATOMICS | LRCPC)) == BASELINE


def test_the_entry_is_found_among_others_and_before_the_end() -> None:
    assert from_auxv(vector((6, 4096), (16, ATOMICS), (0, 0))) == Features(lse=True)
    assert from_auxv(vector((6, 4096), (0, 0), (16, ATOMICS))) == BASELINE


@pytest.mark.parametrize("data", [b"", b"\x10", vector((26, ~0 & 0xFFFF)), vector((16, ATOMICS))[:15]])
def test_a_vector_that_does_not_tell_is_the_baseline(data: bytes) -> None:
    assert from_auxv(data) == BASELINE


def test_detect_reads_the_file_or_falls_back(tmp_path: Path) -> None:
    path = tmp_path / "auxv"
    assert detect(path, "aarch64") == BASELINE
    path.write_bytes(vector((16, ATOMICS | LRCPC), (0, 0)))
    assert detect(path, "aarch64") == Features(lse=True, lrcpc=True)


def test_another_machines_bits_mean_nothing_here(tmp_path: Path) -> None:
    path = tmp_path / "auxv"
    path.write_bytes(vector((16, ATOMICS), (0, 0)))
    assert detect(path, "x86_64") == BASELINE
