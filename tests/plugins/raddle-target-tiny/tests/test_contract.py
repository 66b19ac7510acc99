# SPDX-License-Identifier: Apache-2.0
"""The tiny guest passes the target contract."""

from __future__ import annotations

from typing import ClassVar

from raddle_target_tiny.frontend import load_table
from raddle_target_tiny.insns import INSTRUCTION_BYTES
from raddle_target_tiny.state import REGISTERS

from raddle.testing.target_contract import Encodings, TargetContract


class TestTiny(TargetContract):
    target: ClassVar = "tiny"
    encodings: ClassVar = (Encodings("tiny", load_table().compile(), INSTRUCTION_BYTES, modes=(0,)),)
    undefined_callees: ClassVar = frozenset({"undefined"})
    random_fields: ClassVar = tuple(register.name for register in REGISTERS)
    fills: ClassVar = 30
