# SPDX-License-Identifier: Apache-2.0
"""The interrupt controller's state: one block of host memory (`Gic.memory`) with bytes, and 32-bit words in the host's
byte order, so that native code (raddle_target_arm.devices.gic_routines) can serve the registers that guests use all the
time. It is changed only under the big lock.

Bit arrays have 16 words: words 0 to 7 hold interrupts 0-31 of CPU 0 to 7 (SGIs and PPIs are banked), words 8 to 15
interrupts 32-287. For a CPU, interrupts 32w to 32w + 31 are in word `cpu` if w is 0, else in word 7 + w.
"""

from __future__ import annotations

from typing import Final

INTERRUPTS: Final = 288
WORDS: Final = INTERRUPTS // 32
MAX_CPUS: Final = 8
SGIS: Final = 16
PRIVATE: Final = 32
"""Interrupts below are a CPU's own: SGIs 0-15, PPIs 16-31."""
OTHER_GROUP: Final = 1022
"""What IAR and HPPIR return for an interrupt of group 1 while AckCtl is 0."""
SPURIOUS: Final = 1023
IDLE_PRIORITY: Final = 0xFF

# Byte offsets in the block.
ENABLED: Final = 0x000
LATCHED: Final = 0x040
"""Pending by itself: an edge has come, ISPENDR was written, or (SGIs) SGI_SOURCES is not 0."""
LEVEL: Final = 0x080
"""The input line is high."""
ACTIVE: Final = 0x0C0
EDGE: Final = 0x100
"""Edge-triggered; the others are pending as long as their line is high."""
TARGETED: Final = 0x140
"""8 words for each CPU: which of the interrupts 32-287 go to it. Derived from TARGETS."""
PRIORITY: Final = 0x240
"""A byte for each interrupt: 32 for each CPU, then 256 for interrupts 32-287."""
TARGETS: Final = 0x440
"""A byte for each of the interrupts 32-287: the CPUs it goes to."""
SGI_SOURCES: Final = 0x540
"""A byte for each SGI of each CPU: the CPUs that have sent it and are not acknowledged yet."""
GROUP: Final = 0x5C0
"""The interrupt is in group 1."""
DISTRIBUTOR_CTLR: Final = 0x600
READY: Final = 0x700
"""16 words for each CPU, of which 9 are used, in the CPU's numbering: the interrupts that are pending, enabled, not
active and targeted at it. Derived from the rest; `refresh` updates it."""
READY_WORDS: Final = 16
READY_SUMMARY: Final = 0x900
"""A word for each CPU: which of its words in READY are not 0."""
ASSERTED: Final = 0x920
"""A word for each CPU: which of its lines, IRQ and FIQ, is up."""
RUNNING: Final = 0x940
"""A word for each CPU: the running priority. Derived from APR and NSAPR."""
INTERFACE: Final = 0x980
"""16 words for each CPU, of which 12 are used: the registers below."""
STATE_SIZE: Final = 0x1000

CTLR, PMR, BPR, ABPR, APR, NSAPR = 0, 1, 2, 3, 4, 8
"""Words of a CPU's interface. APR and NSAPR have four each: the active priorities of group 0 and of group 1."""
INTERFACE_WORDS: Final = 16

GROUP_ENABLES: Final = 3
"""In both CTLR: bit 0 enables group 0, bit 1 group 1."""
CTLR_ACKNOWLEDGE: Final = 1 << 2
"""AckCtl: IAR acknowledges interrupts of group 1, too."""
CTLR_FIQ: Final = 1 << 3
"""FIQEn: FIQ signals interrupts of group 0."""
CTLR_COMMON_POINT: Final = 1 << 4
"""CBPR: BPR holds for group 1, too."""
CTLR_EOI_MODE: Final = 1 << 9
"""EOIR and AEOIR drop the priority only; DIR deactivates."""

ABPR_MIN: Final = 1

SGI_EDGES: Final = 0xFFFF
