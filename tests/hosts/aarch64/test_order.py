# SPDX-License-Identifier: Apache-2.0
"""Barriers, ordered accesses and atomics: which instructions are emitted for which orders."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import capstone
import pytest

from raddle.codegen.backend import CodegenConfig
from raddle.ir.builder import Builder, Value
from raddle.ir.opcodes import Op
from raddle.ir.types import Align, MemOp, Type
from raddle.ordering import MemoryOrder
from raddle.testing.ir_programs import LAYOUT
from raddle_host_aarch64.backend import AArch64BackEnd
from raddle_host_aarch64.features import BASELINE, Features

LSE, LRCPC, ALL = Features(lse=True), Features(lrcpc=True), Features(*[True] * len(BASELINE))
LD_LD, LD_ST, ST_LD, ST_ST = MemoryOrder.LD_LD, MemoryOrder.LD_ST, MemoryOrder.ST_LD, MemoryOrder.ST_ST
ACQUIRE, RELEASE = LD_LD | LD_ST, LD_ST | ST_ST
ALIGNED: Final = MemOp(4, align=Align.NATURAL)
ADDRESS: Final = 0x1000
ORDERS = re.compile(r"(dmb|lda|stl|ldx|stx|cas|swp|ld(add|clr|eor|set|[su]m)|ldr$|str$|ldapr).*")


def hot(
    build: Callable[[Builder], object],
    features: Features = BASELINE,
    fences: MemoryOrder = MemoryOrder.NONE,
    parallel: bool = True,
) -> list[str]:
    """What of the hot code orders or accesses memory besides the probe: `dmb` with its kind, accesses by mnemonic."""
    b = Builder(Type.I32, LAYOUT.nzcv)
    build(b)
    config = CodegenConfig(LAYOUT, Type.I32, 12, lambda callee: 0, fences=int(fences), parallel=parallel)
    code = AArch64BackEnd(config, features).template(b.code, b.locals, 4, 0, 0).variant(0, False).hot
    engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)
    return [
        f"dmb {ins.op_str}" if ins.mnemonic == "dmb" else ins.mnemonic
        for ins in engine.disasm(code, 0)
        if ORDERS.fullmatch(ins.mnemonic) and "x28" not in ins.op_str and "[x16, #" not in ins.op_str
    ]


def ordered(memop: MemOp, order: MemoryOrder) -> MemOp:
    return MemOp(memop.size, memop.signed, memop.big_endian, memop.align, int(order))


def value(b: Builder) -> Value:
    return b.get(LAYOUT.fields["r4"])


def load(memop: MemOp = ALIGNED) -> Callable[[Builder], object]:
    return lambda b: b.set(LAYOUT.fields["r0"], b.load(ADDRESS, memop, 0))


def store(memop: MemOp = ALIGNED) -> Callable[[Builder], object]:
    return lambda b: b.store(ADDRESS, value(b), memop, 0)


@pytest.mark.parametrize(
    ("order", "kind"),
    [
        (MemoryOrder.NONE, None),
        (LD_LD, "ishld"),
        (LD_ST, "ishld"),
        (ACQUIRE, "ishld"),
        (ST_ST, "ishst"),
        (ST_LD, "ish"),
        (RELEASE, "ish"),
        (LD_LD | ST_ST, "ish"),
        (MemoryOrder.ALL, "ish"),
    ],
)
def test_a_barrier_is_the_weakest_that_will_do(order: MemoryOrder, kind: str | None) -> None:
    assert hot(lambda b: b.mb(order)) == ([] if kind is None else [f"dmb {kind}"])
    assert hot(lambda b: b.mb(order), parallel=False) == []


@pytest.mark.parametrize(("features", "access"), [(BASELINE, "ldar"), (LRCPC, "ldapr")])
def test_an_acquire_load_is_one_instruction(features: Features, access: str) -> None:
    assert hot(load(ordered(ALIGNED, ACQUIRE)), features) == [access]
    assert hot(load(ordered(ALIGNED, ACQUIRE)), features, parallel=False) == ["ldr"]


def test_a_release_store_is_one_instruction() -> None:
    assert hot(store(ordered(ALIGNED, RELEASE))) == ["stlr"]
    assert hot(store(ordered(ALIGNED, RELEASE)), parallel=False) == ["str"]


def test_an_access_at_any_address_is_ordered_by_a_barrier() -> None:
    """The ordered instructions want aligned addresses."""
    assert hot(load(ordered(MemOp(4), ACQUIRE)), ALL) == ["ldr", "dmb ishld"]
    assert hot(store(ordered(MemOp(4), RELEASE)), ALL) == ["dmb ish", "str"]


def test_plain_accesses_are_plain() -> None:
    assert hot(load(), ALL) == ["ldr"]
    assert hot(store(), ALL) == ["str"]


def test_a_guest_that_only_lets_loads_pass_stores() -> None:
    """x86's order: each load acquires, each store releases."""
    total_store_order = MemoryOrder.ALL & ~ST_LD
    assert hot(load(), LRCPC, total_store_order) == ["ldapr"]
    assert hot(store(), LRCPC, total_store_order) == ["stlr"]
    assert hot(load(MemOp(4)), LRCPC, total_store_order) == ["ldr", "dmb ishld"]


def test_a_load_waits_for_earlier_stores_if_it_must() -> None:
    assert hot(load(), LRCPC, MemoryOrder.ALL)[0] == "dmb ish"
    assert hot(store(), LRCPC, ST_LD) == ["str"]


def exchange(order: MemoryOrder) -> Callable[[Builder], object]:
    def build(b: Builder) -> None:
        b.set(LAYOUT.fields["r0"], b.atomic(Op.ATOMIC_XCHG, ADDRESS, value(b), ordered(ALIGNED, order), 0))

    return build


def test_atomics_are_ordered_by_themselves() -> None:
    everything = ACQUIRE | RELEASE
    assert hot(exchange(MemoryOrder.NONE), LSE) == ["swp"]
    assert hot(exchange(everything), LSE) == ["swpal"]
    assert hot(exchange(MemoryOrder.NONE)) == ["ldxr", "stxr"]
    assert hot(exchange(everything)) == ["ldaxr", "stlxr"]
    assert hot(exchange(everything), LSE, parallel=False) == ["ldr", "str"]


@pytest.mark.parametrize("features", [BASELINE, LSE])
def test_an_atomic_is_a_load_too_that_waits_for_earlier_stores(features: Features) -> None:
    assert hot(exchange(MemoryOrder.NONE), features, ST_LD)[0] == "dmb ish"


def exclusive_store(order: MemoryOrder) -> Callable[[Builder], object]:
    def build(b: Builder) -> None:
        b.set(LAYOUT.fields["r0"], b.store_exclusive(ADDRESS, value(b), ordered(ALIGNED, order), 0))

    return build


def test_exclusive_stores_are_compare_and_swap() -> None:
    assert hot(exclusive_store(MemoryOrder.NONE), LSE) == ["cas"]
    assert hot(exclusive_store(RELEASE), LSE) == ["casl"]
    assert hot(exclusive_store(MemoryOrder.NONE)) == ["ldxr", "stxr"]
    assert hot(exclusive_store(RELEASE)) == ["ldxr", "stlxr"]


def test_exclusive_loads_acquire() -> None:
    def build(b: Builder) -> None:
        b.set(LAYOUT.fields["r0"], b.load_exclusive(ADDRESS, ordered(ALIGNED, ACQUIRE), 0))

    assert hot(build) == ["ldar"]
    assert hot(build, LRCPC) == ["ldapr"]
