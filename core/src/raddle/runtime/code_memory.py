# SPDX-License-Identifier: Apache-2.0
"""The host memory of translated code, as a user may ask for it, and what to say about what the host gives.

Code is written at one address and executed at another (`split-wx=on`), or both at one (`off`). Left to itself, the
runtime takes the first where the host lets it, and the second, with a warning, where not.
"""

from __future__ import annotations

import os

from raddle.runtime._native import lib

__all__ = ["describe", "flags", "refusal", "warnings"]


def flags(split_wx: bool | None) -> int:
    """The runtime's flags for what was asked for; None is nothing."""
    if split_wx is None:
        return int(lib.RADDLE_FLAG_DUAL_MAP)
    return int(lib.RADDLE_FLAG_DUAL_MAP | lib.RADDLE_FLAG_DUAL_ONLY) if split_wx else 0


def describe(split_wx: bool | None = None) -> str:
    """How this host maps the code of a machine: one line, for a user."""
    views = lib.raddle_code_views(flags(split_wx))
    if views < 0:
        return f"there is no memory for translated code: {refusal(split_wx)}"
    if views == 2:
        return "translated code is written at one address and executed at another (split-wx)"
    reason = "split-wx=off was asked for" if split_wx is False else _why_not_split()
    return f"translated code is writable where it is executed: {reason}"


def warnings(split_wx: bool | None) -> tuple[str, ...]:
    """What a user should know who has asked for nothing and gets less than usual."""
    if split_wx is not None or lib.raddle_code_views(flags(None)) != 1:
        return ()
    reason = _why_not_split()
    return (f"translated code is writable where it is executed: {reason}; --accel tcg,split-wx=on refuses to run so",)


def refusal(split_wx: bool | None) -> str | None:
    """Why there is no memory for code at all; None when there is."""
    views = lib.raddle_code_views(flags(split_wx))
    if views >= 0:
        return None
    if split_wx:
        return f"split-wx=on: {_why_not_split()}"
    return (
        f"the host refuses executable memory: {os.strerror(-views)} "
        "(it may be forbidden to this process, by seccomp, SELinux or prctl)"
    )


def _why_not_split() -> str:
    error = lib.raddle_code_views(flags(True))
    return f"the host does not map the same memory twice ({os.strerror(-error)})"
