# SPDX-License-Identifier: Apache-2.0
"""The CPU state: sixteen 32-bit registers. The pc is the core's own, and there are no flags and no modes."""

from __future__ import annotations

from typing import Final

from raddle.ir.types import FieldArray, StateLayout, Type

STATE: Final = StateLayout()
REGISTERS: Final[FieldArray] = STATE.array("r", Type.I32, 16, hot=tuple(range(8)))
"""r0 … r15; the first eight are the ones that the host should keep in registers of its own."""
