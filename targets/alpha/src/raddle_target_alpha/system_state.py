# SPDX-License-Identifier: Apache-2.0
"""The state that OSF/1 PALcode keeps for the operating system (Architecture Reference Manual, part II-B, chapter 2).

All fields are I64 unless their comment says otherwise. They belong to the same layout as those of ``state``.
"""

from __future__ import annotations

from typing import Final

from raddle.ir.types import Field, Type
from raddle_target_alpha.state import STATE


def _field(name: str) -> Field:
    return STATE.field(name, Type.I64)


KSP: Final = _field("ksp")
"""Kernel stack pointer while the CPU is in user mode; else r30 has it."""
USP: Final = _field("usp")
"""User stack pointer while the CPU is in kernel mode; else r30 has it."""
KGP: Final = _field("kgp")
"""Kernel global pointer, which exceptions load into r29."""
PCBB: Final = _field("pcbb")
"""Physical address of the current process control block."""
PTBR: Final = _field("ptbr")
"""Page frame number of the first-level page table."""
VPTB: Final = _field("vptb")
"""Virtual address at which the page tables map themselves."""
ASN: Final = _field("asn")
"""Address space number."""
SYSVAL: Final = _field("sysval")
"""CALL_PAL WRVAL and RDVAL: the operating system's value for this CPU."""
MCES: Final = _field("mces")
"""Machine check error summary."""
WHAMI: Final = _field("whami")
"""Number of this CPU; set by whoever builds the machine, not by reset."""
ALARM_TIMER: Final = STATE.field("alarm_timer", Type.I32)
"""Number of the runtime's timer for the CPU's alarm; set once by whoever builds the machine."""
ALARM: Final = _field("alarm")
"""When the alarm comes, in nanoseconds of the machine's clock; 0 for never."""

ADDRESS_SPACES: Final = STATE.array("address_space", Type.I64, 4)
"""By MMU index of user mode: whose translations it has (``mmu``); 0 for none."""
LAST_USER_INDEX: Final = STATE.field("last_user_index", Type.I32)
"""The MMU index that was last given to an address space."""
KERNEL_LOCAL: Final = STATE.field("kernel_local", Type.I32)
"""1 when kernel mode's MMU index may have translations that belong to one address space."""

ENTRY_POINTS: Final = STATE.array(
    "entry", Type.I64, 6, ("ent_int", "ent_arith", "ent_mm", "ent_if", "ent_una", "ent_sys")
)
"""Where exceptions go, by the number that CALL_PAL WRENT gives them; ``exceptions.Entry`` has the numbers."""
