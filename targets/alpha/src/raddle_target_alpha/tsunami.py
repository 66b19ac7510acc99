# SPDX-License-Identifier: Apache-2.0
"""The 21272 chipset (Tsunami, Typhoon) as PALcode sees it: addresses, and bits of its registers.

Sources: Tsunami/Typhoon 21272 Chipset Hardware Reference Manual (EC-R2U9A), chapters 8 and 10; DP264 Technical
Reference Manual.
"""

from __future__ import annotations

from typing import Final

CCHIP: Final = 0x801_A000_0000
DCHIP: Final = 0x801_B000_0000
PCHIP: Final = 0x801_8000_0000
PCI_MEMORY: Final = 0x800_0000_0000
PCI_MEMORY_SIZE: Final = 1 << 32
INTERRUPT_ACKNOWLEDGE: Final = 0x801_F800_0000
"""A read is an acknowledge cycle on the PCI bus: the interrupt controller behind it answers with its vector."""
PCI_IO: Final = 0x801_FC00_0000
PCI_IO_SIZE: Final = 32 << 20
PCI_CONFIGURATION: Final = 0x801_FE00_0000
PCI_CONFIGURATION_SIZE: Final = 16 << 20

MAX_CPUS: Final = 4

CSC: Final = 0x000
MISC: Final = 0x080
DIM: Final = (0x200, 0x240, 0x600, 0x640)
"""Device interrupt masks, by CPU."""
DIR: Final = (0x280, 0x2C0, 0x680, 0x6C0)
"""Device interrupts that are requested and not masked, by CPU."""
DRIR: Final = 0x300

MISC_TIMER: Final = 4
"""The first of four bits, one for each CPU: the interval timer interrupts. Written with 1: it no longer does."""
MISC_IPI: Final = 8
"""Likewise for interrupts from other CPUs."""
MISC_IPI_REQUEST: Final = 12
"""Likewise; written with 1: send one."""

ISA_INTERRUPT: Final = 55
"""The device interrupt of the 8259s."""

# Bits of the common field interrupt_request, in the order of the CPU's pins, and the CPU's own alarm.
LINE_ERROR, LINE_DEVICE, LINE_TIMER, LINE_IPI, LINE_ALARM = 1, 2, 4, 8, 16
LINES: Final = 31
