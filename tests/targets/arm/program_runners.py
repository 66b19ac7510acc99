# SPDX-License-Identifier: Apache-2.0
"""Run the programs of ``sequences``: as generated code, and by Unicorn.

Beyond what single instructions are compared in, an exception tells at which instruction and with which CPSR it came,
ITSTATE and flags included.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from tests.targets.arm.differential import CODE, CODE_SIZE, DATA, DATA_SIZE, Case, Result
from tests.targets.arm.differential_vfp import UnicornVfp, Vfp, VfpResult, fpscr_of, set_fpscr

from native import EVENTS, VECTORS, NativeRunner
from raddle_target_arm.exceptions import CPSR_IT, CPSR_T
from raddle_target_arm.state import (
    FPEXC,
    FPEXC_EN,
    FPSCR_VECTOR,
    MODE_SWP,
    MODE_VECTOR,
    MODE_VFP,
    SCTLR_SW,
    SPSR,
    SYSTEM,
    D,
)

RETURN_OFFSETS = {"undefined": (4, 2), "svc": (0, 0), "breakpoint": (4, 4), "fault": (8, 8), "misaligned": (8, 8)}
"""From the address that is told to what LR holds, in A32 and T32: the instruction's, but for SVC the next one's."""


class NativePrograms(NativeRunner):
    """Runs programs on the host, with SWP and VFP enabled. Close it in the end."""

    def __init__(self) -> None:
        super().__init__(MODE_SWP | MODE_VFP)
        self._vfp = Vfp(Case("a32", 0, (0,) * 15, 0))

    def run_vfp(self, vfp: Vfp) -> VfpResult:
        self._vfp = vfp
        result = self.run(vfp.case)
        cpu = self.cpu
        event = EVENTS.get(int(cpu.header.pc) - VECTORS, "") and result.event
        if event:
            cpsr = cpu[SPSR[cpu["bank"]].name]
            lr = cpu["lr"]
            result = replace(result, pc=lr - RETURN_OFFSETS[event][bool(cpsr & CPSR_T)], cpsr=cpsr)
        return VfpResult(result, tuple(cpu[register.name] for register in D), fpscr_of(self.state))

    def _start(self, case: Case) -> None:
        super()._start(case)
        cpu = self.cpu
        self.memory.write(CODE, case.image.ljust(CODE_SIZE, b"\0"))
        cpu[SYSTEM["sctlr"].name] |= SCTLR_SW
        cpu[SYSTEM["cpacr"].name] = 0xF << 20
        cpu[FPEXC.name] = FPEXC_EN
        for register, value in zip(D, self._vfp.d, strict=True):
            cpu[register.name] = value
        set_fpscr(self.state, self._vfp.fpscr)
        if cpu[FPSCR_VECTOR.name]:
            cpu["mode"] |= MODE_VECTOR


class UnicornPrograms(UnicornVfp):
    """Runs programs by the peer.

    The peer goes on for some instructions after a store where there is no memory, so that its state is taken at the
    store; ITSTATE is not in the CPSR then.
    """

    EVENTS = {**UnicornVfp.EVENTS, 4: "misaligned"}

    def __init__(self) -> None:
        super().__init__()
        self.uc.hook_add(self.u.UC_HOOK_MEM_WRITE_UNMAPPED | self.u.UC_HOOK_MEM_WRITE_PROT, self._stored)
        self._at_store: VfpResult | None = None

    def run_vfp(self, vfp: Vfp) -> VfpResult:
        self._at_store = None
        self.uc.mem_write(CODE, bytes(CODE_SIZE))
        result = super().run_vfp(vfp)
        return self._at_store or result

    def _stored(self, *arguments: object) -> bool:
        if self._at_store is None:
            uc, arm = self.uc, self.arm
            registers = tuple(uc.reg_read(number) for number in self.numbers)
            pc, cpsr = uc.reg_read(arm.UC_ARM_REG_PC), uc.reg_read(arm.UC_ARM_REG_CPSR) & ~CPSR_IT
            result = Result("fault", registers, pc, cpsr, bytes(uc.mem_read(DATA, DATA_SIZE)))
            doubles = tuple(uc.reg_read(register) for register in self.doubles)
            self._at_store = VfpResult(result, doubles, uc.reg_read(arm.UC_ARM_REG_FPSCR))
        return False


def differences(own: VfpResult, peer: VfpResult) -> list[str]:
    """What differs, in words: Raddle's first."""
    found = own.differences(peer)
    if own.result.event and own.result.event == peer.result.event:
        one, two = own.result, peer.result
        if one.pc != two.pc:
            found.append(f"pc of {one.event} {one.pc:#x}, {two.pc:#x}")
        if one.cpsr != two.cpsr and (two.cpsr & CPSR_IT or one.cpsr & ~CPSR_IT != two.cpsr):
            found.append(f"cpsr at {one.event} {one.cpsr:#010x}, {two.cpsr:#010x}")
    return found
