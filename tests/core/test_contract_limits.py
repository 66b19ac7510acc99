# SPDX-License-Identifier: Apache-2.0
"""The target contract refuses a front end that asks for what the runtime does not have, and names it."""

from __future__ import annotations

import pytest
from raddle.runtime._native import lib
from tests.core import mixed_guest
from tests.core.mixed_guest import MixedFrontEnd

from raddle.ir.builder import Builder, Callee, native, python, routine
from raddle.ir.types import Type
from raddle.testing.target_contract import MOST_REGISTERS, TargetContract
from raddle.translate.decode import Fields


class Contract(TargetContract):
    target = "mixed"


def test_limits_that_are_kept() -> None:
    front_end = MixedFrontEnd()
    Contract().test_limits(front_end)
    front_end.page_bits, front_end.mmu_indices, front_end.word = 31, 4, Type.I64
    Contract().test_limits(front_end)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("page_bits", 11, "page_bits is 11, and must be 12 to 31"),
        ("page_bits", 32, "page_bits is 32"),
        ("mmu_indices", 0, "mmu_indices is 0, and must be 1 to 4"),
        ("mmu_indices", 5, "mmu_indices is 5"),
        ("fetch_index_shift", 31, "fetch_index_shift is 31"),
        ("registers", (None,) * 65, "the number of registers is 65, and must be 0 to 64"),
        ("mode_masks", (1, 2, 4), "the number of mode_masks is 3"),
        ("word", Type.F32, "word is .*: addresses are I32 or I64"),
    ],
)
def test_limits_that_are_not(name: str, value: object, message: str) -> None:
    front_end = MixedFrontEnd()
    setattr(front_end, name, value)
    with pytest.raises(AssertionError, match=message):
        Contract().test_limits(front_end)


@pytest.mark.parametrize(
    ("callee", "named"),
    [
        (native("tlb_fush"), "native helper 'tlb_fush'"),
        (routine("halt"), "routine 'halt'"),
        (python("hold"), "Python helper 'hold'"),
    ],
)
def test_a_callee_that_is_not_there(callee: Callee, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def halt(b: Builder, f: Fields) -> None:
        b.call(callee)

    monkeypatch.setitem(mixed_guest.SEMANTICS, "HALT", halt)
    front_end = MixedFrontEnd()
    table = front_end.encodings()[0]
    pattern = next(pattern for pattern in table.decoder.patterns if pattern.name == "HALT")
    with pytest.raises(AssertionError, match=f"^the IR calls the {named}, which does not exist$"):
        Contract().test_translation(table, pattern, front_end)


def test_the_limit_is_the_runtimes() -> None:
    assert MOST_REGISTERS == lib.RADDLE_REGISTERS
