# SPDX-License-Identifier: Apache-2.0
"""What this machine's CPU has beyond baseline x86-64 (SSE2, CMOV, CMPXCHG8B)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

# The feature's name in Linux's /proc/cpuinfo, where it differs from ours.
_LINUX_NAMES = {"lzcnt": "abm"}


class Features(NamedTuple):
    """Optional extensions, each True if the emitter may use it. The default is baseline x86-64."""

    popcnt: bool = False
    lzcnt: bool = False
    bmi1: bool = False
    bmi2: bool = False
    fma: bool = False


BASELINE = Features()


def from_cpuinfo(text: str) -> Features:
    """The extensions that every processor in a Linux `/proc/cpuinfo` lists. The kernel leaves out what it or
    the hypervisor has switched off, so a listed extension is usable."""
    flags: set[str] | None = None
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() == "flags":
            listed = set(value.split())
            flags = listed if flags is None else flags & listed
    if not flags:
        return BASELINE
    return Features(**{name: _LINUX_NAMES.get(name, name) in flags for name in Features._fields})


def detect(cpuinfo: Path = Path("/proc/cpuinfo")) -> Features:
    """The extensions of this machine; the baseline if the system does not tell."""
    try:
        text = cpuinfo.read_text(encoding="ascii", errors="replace")
    except OSError:
        return BASELINE
    return from_cpuinfo(text)
