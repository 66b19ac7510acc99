# SPDX-License-Identifier: Apache-2.0
"""CPU models: which extensions of the architecture each has.

Alpha Architecture Reference Manual, 4th edition: 4.11.1 (AMASK), 4.11.5 (IMPLVER) and appendix D.3.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Final, NamedTuple


class Feature(IntFlag):
    """Bits of AMASK, in their places."""

    NONE = 0
    BWX = 1 << 0
    """Loads, stores and sign extension of bytes and words."""
    FIX = 1 << 1
    """Square root, and moves between integer and floating-point registers."""
    CIX = 1 << 2
    """Counts of bits."""
    MVI = 1 << 8
    """Minima and maxima of bytes and words."""
    PRECISE = 1 << 9
    """Arithmetic traps are precise."""
    PREFETCH = 1 << 12
    """Prefetches with the intent to modify."""


class CpuModel(NamedTuple):
    """What distinguishes a model."""

    name: str
    features: Feature
    implementation: int
    """What IMPLVER returns."""
    frequency: int
    """Of the cycle counter that RPCC reads, in Hz: one that such CPUs were sold with, since Linux takes no other. The
    cycles have nothing to do with how fast the CPU is here."""


_EV56: Final = Feature.BWX
_EV6: Final = Feature.BWX | Feature.FIX | Feature.MVI | Feature.PRECISE
_EV67: Final = _EV6 | Feature.CIX | Feature.PREFETCH

MODELS: Final = {
    model.name: model
    for model in (
        CpuModel("ev4", Feature.NONE, 0, 200_000_000),
        CpuModel("ev45", Feature.NONE, 0, 275_000_000),
        CpuModel("ev5", Feature.NONE, 1, 300_000_000),
        CpuModel("ev56", _EV56, 1, 500_000_000),
        CpuModel("pca56", _EV56 | Feature.MVI, 1, 533_000_000),
        CpuModel("ev6", _EV6, 2, 500_000_000),
        CpuModel("ev67", _EV67, 2, 667_000_000),
        CpuModel("ev68", _EV67, 2, 833_000_000),
    )
}
