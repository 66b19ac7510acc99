# SPDX-License-Identifier: Apache-2.0
"""What Raddle warns of at each start on this machine, for tests that expect no other lines."""

from __future__ import annotations

import functools

from raddle.plugins import registry
from raddle.runtime import code_memory

__all__ = ["host_warnings"]


@functools.cache
def host_warnings() -> str:
    """Nothing on most machines. An emulator that runs old code, as QEMU's of user programs does, is warned of."""
    backend = registry().load(registry().host_for())
    return "".join(f"raddle: warning: {warning}\n" for warning in code_memory.choose(None, backend.constant).warnings)
