# SPDX-License-Identifier: Apache-2.0
"""The warning, once in a machine's life, about a guest that only takes exceptions at one place."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from raddle.debug.listing import around
from raddle.runtime._native import lib

if TYPE_CHECKING:
    from raddle.threads.vcpu import VCpu

__all__ = ["warn"]


def warn(cpu: VCpu) -> None:
    """Write a warning with the registers and the code to the log `raddle.machine`, which goes to the standard error
    unless a program redirects it. On the vCPU's own thread, outside `raddle_run`.
    """
    pc = int(lib.raddle_stuck_at(cpu.env))
    with cpu.engine.exclusive():  # see Instruments.around
        code = around(cpu, pc)
    logging.getLogger("raddle.machine").warning(
        "%s",
        "\n".join(
            [
                f"raddle: warning: vCPU {cpu.index} does nothing any more but take exceptions at pc {pc:#010x}; "
                "is there memory at its vectors, and an exception handler?",
                cpu.engine.frontend.describe(cpu).rstrip(),
                *code,
            ]
        ),
    )
