# SPDX-License-Identifier: Apache-2.0
"""The operating system's side of the CPU, tied together: what the runtime, exceptions and PALcode ask of it."""

from __future__ import annotations

from typing import Any, Final

from raddle.translate.frontend import PythonHelper, RoutineBuilder
from raddle_target_alpha import console, delivery, mmu, process, tsunami
from raddle_target_alpha.cpus import CpuModel
from raddle_target_alpha.state import PS, USER_INDEX, USER_INDICES
from raddle_target_alpha.system_state import ALARM_TIMER, LAST_USER_INDEX, WHAMI

PAGE_BITS: Final = mmu.PAGE_BITS
MMU_INDICES: Final = 1 + len(USER_INDICES)


def connect(engine: Any) -> None:
    """Tell each vCPU of the engine what it must know of its machine; called once."""
    for number, cpu in enumerate(engine.cpus):
        cpu[WHAMI.name] = number
        cpu[ALARM_TIMER.name] = engine.routine_timer(cpu, "alarm_expire").number


def reset(cpu: Any) -> None:
    """Give the fields of ``system_state`` what a reset gives, when all fields are 0 that reset does not keep."""
    cpu[PS.name] = delivery.IPL_ERROR
    cpu[USER_INDEX.name] = cpu[LAST_USER_INDEX.name] = USER_INDICES[0]
    cpu["interrupt_mask"] = tsunami.LINES


KEPT_BY_RESET: Final = frozenset({WHAMI.name, ALARM_TIMER.name})
"""What ``connect`` sets once."""


def routines(model: CpuModel) -> dict[str, RoutineBuilder]:
    """The routines by name."""
    return mmu.ROUTINES | delivery.ROUTINES | process.routines(model.frequency) | console.ROUTINES


PYTHON_HELPERS: Final[dict[str, PythonHelper]] = console.PYTHON_HELPERS
