# SPDX-License-Identifier: Apache-2.0
"""The Alpha front end: what the core asks of a guest, tied together."""

from __future__ import annotations

from functools import cache, cached_property
from typing import Any

from raddle.ir.types import FloatRules, NanChoice, Type
from raddle.translate.frontend import FrontEnd, InstructionSet, register_lines
from raddle_target_alpha import fpcr, system, vax
from raddle_target_alpha.cpus import MODELS, CpuModel
from raddle_target_alpha.registers import AlphaRegisters
from raddle_target_alpha.state import FEN, INDEX_KERNEL, MODE_FEN, MODE_MASKS, PS, PS_IPL, PS_USER, REGISTERS, STATE, R


class AlphaFrontEnd(FrontEnd):
    """One CPU model of Alpha with OSF/1 PALcode."""

    name = "alpha"
    word = Type.I64
    page_bits = system.PAGE_BITS
    mmu_indices = system.MMU_INDICES
    fetch_index_shift = 0
    linear_indices = (INDEX_KERNEL,)
    # Architecture Reference Manual, 4.7.5, 4.7.10.4 and 4.7.10.3
    floats = FloatRules(True, NanChoice.LAST, negative_default_nan=True)
    state = STATE
    registers = REGISTERS
    register_names = tuple(name for name in AlphaRegisters.__annotations__ if name != "pc")
    mode_masks = MODE_MASKS
    views = fpcr.VIEWS
    python_helpers = system.PYTHON_HELPERS | {"vax": vax.helper}

    def __init__(self, model: CpuModel) -> None:
        self.model = model
        self.routines = fpcr.ROUTINES | system.routines(model)

    # Late, because it reads its decode tables
    @cached_property
    def _instructions(self) -> InstructionSet:
        from raddle_target_alpha.insns import AlphaInstructions

        return AlphaInstructions(self.model)

    def instruction_set(self, mode: int) -> InstructionSet:
        """The only one."""
        return self._instructions

    def connect(self, engine: Any) -> None:
        system.connect(engine)

    def reset(self, cpu: Any, entry: int, argument: int) -> None:
        """Kernel mode at IPL 7 with floating point enabled, FPCR 0; r16 (a0) is ``argument``.

        On the vCPU's own thread, or before it runs. The TLB is whoever calls' to flush.
        """
        self.clear(cpu, system.KEPT_BY_RESET)
        cpu[R[16].name] = argument
        cpu[FEN.name] = 1
        cpu["mode"] = MODE_FEN
        fpcr.set_fpcr(cpu, 0)
        cpu["pc"] = entry & ~3
        system.reset(cpu)

    def describe(self, cpu: Any) -> str:
        """Integer registers and pc, four in a line, and the processor status."""
        lines = register_lines([(name, cpu[name]) for name in (*(register.name for register in R), "pc")], 16)
        ps = cpu[PS.name]
        lines.append(f"  ps {'user' if ps & PS_USER else 'kernel'}, IPL {ps & PS_IPL}; fen={cpu[FEN.name]}")
        return "\n".join(lines) + "\n"


@cache
def front_end(cpu: str) -> AlphaFrontEnd:
    """The front end for a CPU model, by the name that the plug-in's descriptor gives it."""
    return AlphaFrontEnd(MODELS[cpu])
