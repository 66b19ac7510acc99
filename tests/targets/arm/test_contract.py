# SPDX-License-Identifier: Apache-2.0
"""The ARM guest passes the target contract."""

from __future__ import annotations

from typing import ClassVar

from raddle.ir.types import Field
from raddle.testing.target_contract import Encodings, TargetContract
from raddle.translate.decode import Pattern
from raddle_target_arm import decode
from raddle_target_arm.state import (
    FPEXC_EN,
    MODE_ALIGN,
    MODE_DOMAIN_SLOT,
    MODE_E,
    MODE_IT_SHIFT,
    MODE_PRIVILEGED,
    MODE_SWP,
    MODE_T,
    MODE_VECTOR,
    MODE_VFP,
    REGISTERS,
)

MODES = (
    0,
    MODE_PRIVILEGED | MODE_VFP,
    MODE_VFP | MODE_E | MODE_DOMAIN_SLOT,
    MODE_PRIVILEGED | MODE_VFP | MODE_VECTOR | MODE_ALIGN | MODE_SWP,
)
IT_CONTEXTS = (0, 0x08, 0x18, 0xA4, 0xBC, 0xE2)
"""Outside an IT block; the last instruction of one, or one with more after it; EQ, NE, GE, LT, AL."""
T32_MODES = tuple(MODE_T | mode for mode in MODES) + (
    MODE_T | MODE_PRIVILEGED | MODE_VFP | 0x18 << MODE_IT_SHIFT,
    MODE_T | MODE_VFP | 0xA4 << MODE_IT_SHIFT,
)
EXTENSION_REGISTERS = frozenset(f"{view}{n}" for view in ("d", "df", "s", "sf") for n in range(32))
SP = 13


class TestArm(TargetContract):
    target: ClassVar = "arm"
    encodings: ClassVar = (
        Encodings("a32", decode.a32(), 4, MODES),
        Encodings("t16", decode.t16(), 2, T32_MODES, IT_CONTEXTS),
        Encodings("t32", decode.t32(), 4, T32_MODES, IT_CONTEXTS),
    )
    undefined_callees: ClassVar = frozenset({"undefined"})
    random_fields: ClassVar = ("qf", *(f"d{n}" for n in range(32)))
    small_fields: ClassVar = {
        "ge": tuple(range(16)),
        "fpexc": (FPEXC_EN, FPEXC_EN, 0),
        "fpscr_nzcv": tuple(n << 28 for n in range(16)),
        "fp_rounding": (0, 1, 2, 3),
        "fp_flush": (0, 1),
        "fp_default_nan": (0, 1),
        "event": (0, 1),
        "cpacr": (0xF << 20, 0),
        "dacr": (0x55555555, 0x51),
    }
    fills: ClassVar = 2
    unmasking: ClassVar = frozenset({"CPS", "MSR_reg", "RFE", "ERET", "LDM_eret"})

    def may_change_before_fault(self, pattern: Pattern, word: int, field: Field) -> bool:
        """After an abort the base is as before, and what was to be loaded is UNKNOWN (ARM DDI 0406C, B1.9.8)."""
        if pattern.name.startswith("VLDM"):
            return field.name in EXTENSION_REGISTERS
        if pattern.name.startswith("LDM"):
            return field in REGISTERS and field is not REGISTERS[pattern.values(word).get("n", SP)]
        return False
