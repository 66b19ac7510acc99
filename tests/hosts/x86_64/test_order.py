# SPDX-License-Identifier: Apache-2.0
"""Orders that the guest counts on and x86-64 does not keep by itself: a load after an earlier store."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raddle.codegen.backend import CodegenConfig
from raddle.ir.builder import Builder
from raddle.ir.types import Align, MemOp, Type
from raddle.ordering import MemoryOrder
from raddle.testing.ir_programs import LAYOUT
from raddle_host_x86_64.backend import X86BackEnd

LOCK_OR_STACK = b"\xf0\x83\x0c\x24\x00"
"""lock or dword [rsp], 0"""
LITTLE, BIG = MemOp(4, align=Align.NATURAL), MemOp(4, big_endian=True, align=Align.NATURAL)


def load(b: Builder, memop: MemOp) -> None:
    b.set(LAYOUT.fields["r0"], b.load(0x1000, memop, 0))


def load_exclusive(b: Builder, memop: MemOp) -> None:
    b.set(LAYOUT.fields["r0"], b.load_exclusive(0x1000, memop, 0))


def store(b: Builder, memop: MemOp) -> None:
    b.store(0x1000, b.get(LAYOUT.fields["r0"]), memop, 0)


def hot_code(build: Callable[[Builder, MemOp], None], memop: MemOp, fences: MemoryOrder) -> bytes:
    b = Builder(Type.I32, LAYOUT.nzcv)
    build(b, memop)
    config = CodegenConfig(LAYOUT, Type.I32, 12, lambda callee: 0, fences=int(fences))
    return X86BackEnd(config).template(b.code, b.locals, 4, 0, 0).variant(0, False).hot


@pytest.mark.parametrize("memop", [LITTLE, BIG])
@pytest.mark.parametrize("build", [load, load_exclusive])
def test_a_load_waits_for_earlier_stores_if_it_must(build: Callable[[Builder, MemOp], None], memop: MemOp) -> None:
    code = hot_code(build, memop, MemoryOrder.ST_LD)
    assert code.startswith(LOCK_OR_STACK)
    assert code.count(LOCK_OR_STACK) == 1
    assert LOCK_OR_STACK not in hot_code(build, memop, MemoryOrder.NONE)


def test_a_store_waits_for_nothing() -> None:
    assert hot_code(store, LITTLE, MemoryOrder.ALL) == hot_code(store, LITTLE, MemoryOrder.NONE)
