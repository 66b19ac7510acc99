# SPDX-License-Identifier: Apache-2.0
"""CPU models: the values of identification registers, and reset values.

Cortex-A15 Technical Reference Manual (ARM DDI 0438), chapter 4, for revision r2p1. The values report no Security and
Virtualization Extensions (ID_PFR1, ID_DFR0) and no Advanced SIMD (MVFR1), which this CPU lacks. Their instructions are
undefined, except for HVC, which calls the board's firmware.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class CpuModel(NamedTuple):
    """Register values, 32 bits each; ``ids`` has the registers that read as a constant, by name."""

    name: str
    midr: int
    sctlr_reset: int
    sctlr_writable: int
    fpsid: int
    mvfr0: int
    mvfr1: int
    breakpoints: int
    watchpoints: int
    event_counters: int
    cache_sizes: tuple[int, ...]
    """CCSIDR by CSSELR."""
    ids: Mapping[str, int]


CORTEX_A15: Final = CpuModel(
    name="cortex-a15",
    midr=0x412F_C0F1,
    sctlr_reset=0x00C5_0078,
    # TE, AFE, TRE, EE, UWXN, WXN, V, I, Z, SW, C, A, M
    sctlr_writable=0x7218_3C07,
    fpsid=0x4104_30F0,
    mvfr0=0x1011_0222,
    mvfr1=0x1100_0011,
    breakpoints=6,
    watchpoints=4,
    event_counters=6,
    cache_sizes=(0x701F_E00A, 0x201F_E00A, 0x711F_E07A),
    ids={
        "CTR": 0x8444_C004,
        "TCMTR": 0,
        "TLBTR": 0,
        "REVIDR": 0,
        "ID_PFR0": 0x0000_1131,
        "ID_PFR1": 0x0001_0001,
        "ID_DFR0": 0x0201_0505,
        "ID_AFR0": 0,
        "ID_MMFR0": 0x1020_1105,
        "ID_MMFR1": 0x2000_0000,
        "ID_MMFR2": 0x0124_0000,
        "ID_MMFR3": 0x0210_2211,
        "ID_ISAR0": 0x0210_1110,
        "ID_ISAR1": 0x1311_2111,
        "ID_ISAR2": 0x2123_2041,
        "ID_ISAR3": 0x1111_2131,
        "ID_ISAR4": 0x1001_1142,
        "ID_ISAR5": 0,
        "CLIDR": 0x0A20_0023,
        "AIDR": 0,
        "DBGDIDR": 0x3515_F021,
        "DBGDEVID": 0x0111_0F13,
        "DBGDEVID1": 0,
        "DBGDEVID2": 0,
        # Implemented, not enabled: debug events never happen, and DBGDSCR.MDBGen reads as 0
        "DBGAUTHSTATUS": 0x0000_00AA,
        # SW_INCR
        "PMCEID0": 0x0000_0001,
        "PMCEID1": 0,
    },
)
