# SPDX-License-Identifier: Apache-2.0
"""The Alpha guest passes the target contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from raddle.ir.interpreter import CpuState
from raddle.testing.guest_runs import Surroundings
from raddle.testing.target_contract import Encodings, TargetContract
from raddle_target_alpha import decode
from raddle_target_alpha.exceptions import Entry
from raddle_target_alpha.fpcr import DNOD, DNZ, INE, INED, INV, INVD_TO_OVFD, OVF, STATUS_SHIFT, UNDZ, UNFD
from raddle_target_alpha.mmu import KSEG
from raddle_target_alpha.state import INDEX_KERNEL, MODE_CARE, MODE_FEN, USER_INDICES, R
from raddle_target_alpha.system_state import KSP

MODES = (INDEX_KERNEL | MODE_FEN, USER_INDICES[0] | MODE_FEN | MODE_CARE, USER_INDICES[1])


class TestAlpha(TargetContract):
    target: ClassVar = "alpha"
    encodings: ClassVar = (Encodings("alpha", decode.alpha(), 4, MODES),)
    undefined_callees: ClassVar = frozenset({Entry.IF.routine})
    random_fields: ClassVar = (
        *(f"r{n}" for n in range(31)),
        *(f"f{n}" for n in range(31)),
        *("unique", "pcc_offset", "intr_flag"),
    )
    small_fields: ClassVar = {
        "fpcr_rest": (0, INED | UNFD | INVD_TO_OVFD | DNOD, INED | UNDZ | UNFD, DNZ, DNOD, INE << STATUS_SHIFT),
        "fp_flags": (INE, INE | INV | OVF),
        "dynamic_rounding": (0, 1, 2, 3),
    }
    fills: ClassVar = 4
    unmasking: ClassVar = frozenset({"SWPIPL", "RTI"})

    def takes_interrupt(self, surroundings: Surroundings, pc: int, state: bytes, header: Mapping[str, int]) -> bool:
        """An interrupt without a stack halts the CPU; so give it one."""
        cpu = CpuState(bytearray(state))
        for pointer in (R[30], KSP):
            cpu.write(pointer, KSEG + 0x1_0000)
        return super().takes_interrupt(surroundings, pc, bytes(cpu.state), header)
