# SPDX-License-Identifier: Apache-2.0
"""What this machine's CPU has beyond Armv8.0-A with floating point and Advanced SIMD."""

from __future__ import annotations

import os
from pathlib import Path
from struct import iter_unpack
from typing import Final, NamedTuple

from raddle_host_aarch64.plugin import MACHINE_NAMES

_AT_NULL: Final = 0
_AT_HWCAP: Final = 16
"""Linux, include/uapi/linux/auxvec.h."""

_HWCAP_BITS: Final = {"lse": 8, "lrcpc": 15}
"""Linux, Documentation/arch/arm64/elf_hwcaps.rst: HWCAP_ATOMICS and HWCAP_LRCPC."""


class Features(NamedTuple):
    """Optional extensions, each True if the emitter may use it. The default is baseline Armv8.0."""

    lse: bool = False
    """FEAT_LSE: atomic instructions (CAS, SWP, LDADD and their like)."""
    lrcpc: bool = False
    """FEAT_LRCPC: LDAPR, the load-acquire that may pass an earlier store-release."""


BASELINE = Features()


def from_hwcap(bits: int) -> Features:
    """The extensions in a value of AT_HWCAP. The kernel leaves out what it or the hypervisor has switched off."""
    return Features(**{name: bool(bits >> bit & 1) for name, bit in _HWCAP_BITS.items()})


def from_auxv(data: bytes) -> Features:
    """The extensions in the auxiliary vector of a 64-bit process; the baseline if it does not tell."""
    for key, value in iter_unpack("<QQ", data[: len(data) // 16 * 16]):
        if key == _AT_NULL:
            break
        if key == _AT_HWCAP:
            return from_hwcap(value)
    return BASELINE


def detect(auxv: Path = Path("/proc/self/auxv"), machine: str = "") -> Features:
    """The extensions of this machine; the baseline if the system does not tell, or if it is no AArch64 machine.

    ``machine`` is its name as `platform.machine()` returns it, by default this machine's.
    """
    if (machine or os.uname().machine) not in MACHINE_NAMES:
        return BASELINE
    try:
        return from_auxv(auxv.read_bytes())
    except OSError:
        return BASELINE
