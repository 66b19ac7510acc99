# SPDX-License-Identifier: Apache-2.0
"""Which guest a command is for, where no machine and no kernel says so."""

from __future__ import annotations

from collections.abc import Callable

from raddle.errors import UsageError
from raddle.plugins import GUEST_REMEDY, Registry, Target

__all__ = ["only_guest"]


def only_guest(found: Registry, has: Callable[[Target], bool], what: str) -> Target:
    """The only installed guest that has `what`. Raises UsageError if none has it, or several have."""
    able = [target for target in found.targets() if has(target)]
    if len(able) == 1:
        return able[0]
    if not able:
        installed = ", ".join(target.name for target in found.targets()) or "none"
        raise UsageError(f"no installed guest has {what} (installed: {installed}); {GUEST_REMEDY}")
    raise UsageError(f"several guests have {what}; say which: --target {'|'.join(one.name for one in able)}")
