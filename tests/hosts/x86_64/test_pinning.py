# SPDX-License-Identifier: Apache-2.0
"""Which guest fields the host keeps in registers, and what is left for values."""

from __future__ import annotations

import pytest

from raddle.codegen.backend import CodegenConfig
from raddle.ir.types import StateLayout, Type
from raddle_host_x86_64.emitter import MANY_FIELDS, PIN_ORDER, VALUE_REGISTERS, Emitter
from raddle_host_x86_64.features import BASELINE


def emitter(hot: int, routine: bool = False) -> Emitter:
    """For a guest with this many hot integer fields, and two of floats."""
    layout = StateLayout()
    for number in range(hot):
        layout.field(f"r{number}", Type.I64, hot=number)
    for number in range(2):
        layout.field(f"f{number}", Type.F64, hot=hot + number)
    return Emitter(CodegenConfig(layout, Type.I64, 12, lambda callee: 0), BASELINE, routine=routine)


@pytest.mark.parametrize("hot", [3, len(PIN_ORDER), MANY_FIELDS, MANY_FIELDS + 1])
def test_a_guest_with_many_registers_has_one_more_pinned(hot: int) -> None:
    e = emitter(hot)
    pinned = [register.number for field, register in e.pinned_fields if field.type is Type.I64]
    values = [register.number for register in e.general.registers]
    assert len(pinned) == min(hot, len(PIN_ORDER) + (hot > MANY_FIELDS))
    assert sorted(pinned + values) == sorted((*PIN_ORDER, *VALUE_REGISTERS))


def test_a_routine_pins_nothing() -> None:
    e = emitter(MANY_FIELDS + 1, routine=True)
    assert not e.pinned_fields
    assert VALUE_REGISTERS[-1] in [register.number for register in e.general.registers]
