# SPDX-License-Identifier: Apache-2.0
"""Guest physical memory: the address space of a machine and the host memory behind its RAM and ROM."""

from __future__ import annotations

from raddle.memory.host import HostMemory
from raddle.memory.space import SMALLEST_PAGE, AddressSpace, IoHandler, Kind, MemoryAccessError, Region

__all__ = ["SMALLEST_PAGE", "AddressSpace", "HostMemory", "IoHandler", "Kind", "MemoryAccessError", "Region"]
