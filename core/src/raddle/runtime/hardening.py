# SPDX-License-Identifier: Apache-2.0
"""What may forbid memory for code to a process on Linux, and how to allow it: for a user to whom it is forbidden."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["guards"]

STATUS: Final = Path("/proc/self/status")
ENFORCE: Final = Path("/sys/fs/selinux/enforce")
PR_GET_MDWE: Final = 66
"""Linux, include/uapi/linux/prctl.h; since 6.3."""
SECCOMP_FILTER: Final = "2"
"""Linux, Documentation/filesystems/proc.rst: Seccomp."""


def guards() -> list[str]:
    """What is in force for this process, each with the remedy. Any thread."""
    found = []
    status = _fields(STATUS)
    if status.get("Seccomp") == SECCOMP_FILTER:
        found.append("a seccomp filter (in a container, its profile has to allow memfd_create and mmap with PROT_EXEC)")
    if _refuses_gains():
        found.append("PR_SET_MDWE of prctl (in a service of systemd: MemoryDenyWriteExecute=no)")
    if _text(ENFORCE).strip() == "1":
        found.append("SELinux (its policy has to allow execmem: setsebool deny_execmem off)")
    if "M" in status.get("PaX", ""):
        found.append("PaX MPROTECT (for Python: paxctl -m)")
    return found


def _refuses_gains() -> bool:
    """Whether the process may make no memory executable that was writable."""
    import ctypes  # only to explain a failure: the start of each machine would pay for it

    return bool(ctypes.CDLL(None).prctl(PR_GET_MDWE, 0, 0, 0, 0) > 0)


def _fields(path: Path) -> dict[str, str]:
    """Lines `NAME: VALUE`."""
    pairs = (line.partition(":") for line in _text(path).splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _text(path: Path) -> str:
    """Nothing, where the system has no such file."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
