# SPDX-License-Identifier: Apache-2.0
"""Reading the CPU's features."""

from pathlib import Path

import pytest

from raddle_host_x86_64.features import BASELINE, Features, detect, from_cpuinfo

NEW = "processor\t: 0\nflags\t\t: fpu sse sse2 cx16 sse4_1 sse4_2 movbe popcnt avx fma lahf_lm abm bmi1 bmi2\n\n"
OLD = "processor\t: 1\nflags\t\t: fpu sse sse2 cx16 popcnt abm\n\n"


def test_every_feature_is_found_under_the_kernels_name() -> None:
    assert from_cpuinfo(NEW) == Features(*[True] * len(Features._fields))


def test_only_what_every_processor_has_counts() -> None:
    assert from_cpuinfo(NEW + OLD) == Features(popcnt=True, lzcnt=True)
    assert from_cpuinfo(OLD + NEW) == Features(popcnt=True, lzcnt=True)


@pytest.mark.parametrize("text", ["", "flags\n", "flags :\n", "processor : 0\nFeatures : half thumb\n", "\0\0"])
def test_unknown_text_is_the_baseline(text: str) -> None:
    assert from_cpuinfo(text) == BASELINE


def test_a_name_inside_another_is_not_the_feature() -> None:
    assert from_cpuinfo("flags : avx512f bmi22 xpopcnt\n") == BASELINE


def test_detect_reads_the_file_or_falls_back(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    assert detect(path) == BASELINE
    path.write_text(OLD)
    assert detect(path) == Features(popcnt=True, lzcnt=True)
    path.write_bytes(b"flags : \xff\xfe popcnt\n")
    assert detect(path) == Features(popcnt=True)
