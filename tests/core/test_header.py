# SPDX-License-Identifier: Apache-2.0
"""The common header is laid out so that every host reaches in one instruction what generated code uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from raddle.runtime._native import ffi, lib

from raddle.ir.header import OFFSET, TLB_PAIRS, Reaches
from raddle.ir.types import MMU_INDICES
from raddle.plugins import Host, registry
from raddle.runtime.layout import TLB_ENTRIES, TLB_ENTRY_SIZE, TLB_OFFSET

LDUR, LDP = (-256, 255), (-512, 504)
"""What AArch64's loads have room for, LDP of 64-bit registers."""


@pytest.mark.parametrize("host", registry().hosts(), ids=lambda host: host.name)
def test_each_host_reaches_the_fields_that_it_uses(host: Host) -> None:
    assert registry().load(host).reaches.beyond() == []


@pytest.mark.parametrize(
    "reaches",
    [Reaches(LDUR, LDUR, LDP), Reaches((-128, 127), (-(1 << 31), (1 << 31) - 1), LDP)],
    ids=["AArch64", "x86-64"],
)
def test_the_header_is_within_reach(reaches: Reaches) -> None:
    assert reaches.beyond() == []


def test_what_is_out_of_reach_is_named() -> None:
    """The controls."""
    assert Reaches((-120, 120), LDUR, LDP).beyond() == ["thunk_atomic"]
    assert "granules" in Reaches((-128, 127), (-240, 240), LDP).beyond()
    assert Reaches(LDUR, LDUR, (-304, 304)).beyond() == ["tlb0_mask"]


def test_the_fields_of_a_pair_are_neighbours() -> None:
    for index in range(MMU_INDICES):
        assert OFFSET[f"tlb{index}_mask"] == TLB_PAIRS + 16 * index
        assert OFFSET[f"tlb{index}_table"] == TLB_PAIRS + 16 * index + 8
    assert OFFSET["fp_flush"] == OFFSET["fp_rounding"] + 4


@pytest.fixture
def env() -> Iterator[Any]:
    config = ffi.new("struct raddle_config *", {"page_bits": 12, "word_bits": 32, "ncpus": 1, "code_size": 1 << 20})
    context = lib.raddle_context_new(config, ffi.new("struct raddle_callbacks *"))
    yield lib.raddle_cpu_new(context, 0, 64)
    lib.raddle_context_free(context)


def test_pairs_say_where_the_tlbs_are(env: Any) -> None:
    pairs = ffi.cast("uint64_t *", ffi.cast("char *", env) + TLB_PAIRS)
    start = int(ffi.cast("uintptr_t", env)) + TLB_OFFSET
    for index in range(MMU_INDICES):
        assert pairs[2 * index] == (TLB_ENTRIES - 1) * TLB_ENTRY_SIZE
        assert pairs[2 * index + 1] == start + index * TLB_ENTRIES * TLB_ENTRY_SIZE
    assert start % TLB_ENTRY_SIZE == 0
