# SPDX-License-Identifier: Apache-2.0
"""The ARM front end: what the core asks of a guest, tied together."""

from __future__ import annotations

from collections.abc import Set
from functools import cached_property
from typing import Any, Final

from raddle.ir.builder import Builder
from raddle.ir.header import COMMON
from raddle.ir.types import FloatRules, NanChoice, Type
from raddle.translate.frontend import FrontEnd, InstructionSet, register_lines
from raddle_target_arm import exceptions, mmu, psci, sysregs, timers
from raddle_target_arm.cpus import CORTEX_A15
from raddle_target_arm.exceptions import CPSR_MASKS
from raddle_target_arm.registers import VIEWS, ArmRegisters
from raddle_target_arm.state import (
    BANK,
    BANK_OF_MODE,
    CPSR_M,
    MASKS,
    MODE_E,
    MODE_IT,
    MODE_IT_SHIFT,
    MODE_MASKS,
    MODE_PRIVILEGED,
    MODE_SVC,
    MODE_T,
    REGISTERS,
    STATE,
    it_state,
)

_KEPT_BY_RESET: Final = frozenset(
    {"cpu_count", "cbar", "timer_number_physical", "timer_number_virtual", "timer_number_event"}
)
"""Fields that ``connect`` sets once."""

_MODE_NAMES: Final = {0x10: "usr", 0x11: "fiq", 0x12: "irq", 0x13: "svc", 0x17: "abt", 0x1B: "und", 0x1F: "sys"}

PERIPHERAL_BASE: Final = 0x0800_0000


class ArmFrontEnd(FrontEnd):
    """ARMv7-A, Cortex-A15 class, without Security and Virtualization Extensions and without Advanced SIMD."""

    name = "arm"
    word = Type.I32
    page_bits = 12
    mmu_indices = 4
    linear_indices = (1, 3)  # PL1, for both slots of DACR (state.mmu_index)
    fetch_index_shift = MODE_PRIVILEGED.bit_length() - 1
    # ARM DDI 0406C, A2.7 and the FP pseudo-code of section A2.7.6
    floats = FloatRules(False, NanChoice.SIGNALLING_FIRST, negative_default_nan=False)
    state = STATE
    registers = REGISTERS
    register_names = tuple(name for name in ArmRegisters.__annotations__ if name != "pc")
    views = VIEWS
    mode_masks = MODE_MASKS
    routines = exceptions.ROUTINES | mmu.ROUTINES | timers.ROUTINES
    python_helpers = {"psci": psci.call, "board_timer_line": timers.set_line}

    # On first use, because each one reads its decode tables
    @cached_property
    def _a32(self) -> InstructionSet:
        from raddle_target_arm.insns import A32

        return A32()

    @cached_property
    def _t32(self) -> InstructionSet:
        from raddle_target_arm.insns import T32

        return T32()

    def instruction_set(self, mode: int) -> InstructionSet:
        """A32, or T32 when bit T of the block mode is set."""
        return self._t32 if mode & MODE_T else self._a32

    def initial_decode_state(self, mode: int) -> int:
        """ITSTATE of the block's first instruction."""
        return it_state(mode)

    def prologue(self, b: Builder, mode: int) -> None:
        """In a block that starts within an IT block, ITSTATE moves from the block mode into the translation."""
        if mode & MODE_IT:
            b.set(COMMON["mode"], mode & ~MODE_IT)

    def epilogue(self, b: Builder, mode: int, decode_state: int) -> None:
        """Emit what must follow the last instruction of a block that is cut short.

        A block that is cut within an IT block (at the end of its page or at its greatest length) leaves the rest of
        ITSTATE, ``decode_state``, in the block mode, where the next block's prologue finds it.
        """
        if decode_state:
            b.set(COMMON["mode"], mode & ~MODE_IT | decode_state << MODE_IT_SHIFT)

    def connect(self, engine: Any) -> None:
        """Make the vCPUs' timers, and set the fields that describe the machine."""
        timers.connect(engine)
        for cpu in engine.cpus:
            cpu["cpu_count"] = len(engine.cpus)
            cpu["cbar"] = PERIPHERAL_BASE

    def reset(self, cpu: Any, entry: int, argument: int) -> None:
        """Reset (B1.9.1) into Supervisor mode with A, I and F masked and the MMU off; r0 is ``argument``.

        Bit 0 of ``entry`` selects T32, as in a branch with exchange. On the vCPU's own thread, or before it runs. The
        caller flushes the TLB.
        """
        timers.reset(cpu)
        self._reset(cpu, entry, argument, _KEPT_BY_RESET)

    def power_down_reset(self, cpu: Any, entry: int, argument: int) -> None:
        """Reset all but the timers, which are always on: the device tree promises it, and they wake the CPU."""
        self._reset(cpu, entry, argument, _KEPT_BY_RESET | timers.STATE_NAMES)

    def _reset(self, cpu: Any, entry: int, argument: int, kept: Set[str]) -> None:
        self.clear(cpu, kept)
        for field, value in sysregs.reset_values():
            if field.name not in kept:
                cpu[field.name] = value
        cpu[CPSR_M.name] = MODE_SVC
        cpu[BANK.name] = BANK_OF_MODE[MODE_SVC]
        cpu[MASKS.name] = CPSR_MASKS
        cpu["interrupt_mask"] = exceptions.LINE_IRQ | exceptions.LINE_FIQ
        cpu[REGISTERS[0].name] = argument
        cpu["mode"] = MODE_PRIVILEGED | (MODE_T if entry & 1 else 0)
        cpu["pc"] = entry & ~1 if entry & 1 else entry & ~3

    def describe(self, cpu: Any) -> str:
        """Core registers, CPSR and the banked registers, four in a line."""
        lines = register_lines([(name, cpu[name]) for name in (*(register.name for register in REGISTERS), "pc")], 8)
        mode = cpu["mode"]
        flags = "".join(
            letter if cpu[field] else "-" for letter, field in zip("NZCVQ", ("nf", "zf", "cf", "vf", "qf"), strict=True)
        )
        masks = "".join(
            letter if cpu["masks"] & bit else "-" for letter, bit in (("A", 0x100), ("I", 0x80), ("F", 0x40))
        )
        number = cpu["cpsr_m"]
        processor_mode = _MODE_NAMES.get(number, f"mode {number:#x}")  # there is none in the middle of a reset
        state = "T32" if mode & MODE_T else "A32"
        endian = " big-endian" if mode & MODE_E else ""
        lines.append(f"cpsr {flags} {masks} {processor_mode} {state}{endian} ge={cpu['ge']:x} it={it_state(mode):02x}")
        return "\n".join(lines) + "\n"


FRONT_END: Final = ArmFrontEnd()
FRONT_ENDS: Final = {CORTEX_A15.name: FRONT_END}
"""By CPU model, as the plug-in's descriptor names them. The tables of system registers (raddle_target_arm.sysregs, pmu,
insns.vfp_transfer) are those of CORTEX_A15; with a second model they must become functions of the model."""
