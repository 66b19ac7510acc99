# SPDX-License-Identifier: Apache-2.0
"""The x86-64 back end passes the host contract, with all accesses hitting the software TLB and with all missing."""

from __future__ import annotations

from typing import ClassVar

import pytest

from raddle.ir.opcodes import Op
from raddle.testing.host_contract import Backend, HostContract
from raddle.testing.host_harness import Harness
from raddle_host_x86_64.backend import X86BackEnd

pytestmark = pytest.mark.host("x86_64")

IN_THE_RUNTIME = frozenset(
    {
        Op.LOAD_EXCLUSIVE, Op.STORE_EXCLUSIVE, Op.ATOMIC_CMPXCHG, Op.ATOMIC_XCHG, Op.ATOMIC_FETCH_ADD,
        Op.ATOMIC_FETCH_SMIN, Op.ATOMIC_FETCH_SMAX, Op.ATOMIC_FETCH_UMIN, Op.ATOMIC_FETCH_UMAX,
        Op.ATOMIC_FETCH_AND, Op.ATOMIC_FETCH_OR, Op.ATOMIC_FETCH_XOR, Op.FADD, Op.FSUB, Op.FMUL, Op.FDIV, Op.FSQRT,
        Op.FMA, Op.FCMP, Op.FCVT, Op.FTOI, Op.ITOF,
    }
)  # fmt: skip
"""Operations that generated code leaves to the native runtime; they are tested with it."""


class TestHits(HostContract):
    unsupported: ClassVar[frozenset[Op]] = IN_THE_RUNTIME

    @pytest.fixture
    def backend(self) -> Backend:
        return Harness(X86BackEnd, tlb=True)


class TestMisses(HostContract):
    unsupported: ClassVar[frozenset[Op]] = IN_THE_RUNTIME

    @pytest.fixture
    def backend(self) -> Backend:
        return Harness(X86BackEnd, tlb=False)
