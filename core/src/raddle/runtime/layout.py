# SPDX-License-Identifier: Apache-2.0
"""The layout of a vCPU's software TLBs and of its jump cache.

``env`` points at the guest's own state. Below it lies the header (``raddle.ir.header``), and below that, at
``env - HEADER_SIZE - TLB_BYTES``, lie the TLBs.
"""

from __future__ import annotations

from raddle.ir.header import HEADER_SIZE
from raddle.ir.types import MMU_INDICES

TLB_ENTRIES = 1024
"""Entries of the direct-mapped software TLB of one MMU index; a power of two."""
TLB_ENTRY_SIZE = 32
"""Bytes: the comparators of loads, stores and fetches, and an addend, 8 bytes each."""
TLB_READ, TLB_ADDEND, TLB_WRITE, TLB_EXEC = range(0, TLB_ENTRY_SIZE, 8)
"""Where they are. A host that loads two neighbours at once gets the addend with either comparator."""
VICTIM_ENTRIES = 8

TLB_INVALID = 1 << 11
"""Comparator bits below the page number (pages are at least 4 KiB); any of them makes the fast path miss."""
TLB_MMIO = 1 << 10
TLB_NOTDIRTY = 1 << 9
TLB_WATCH = 1 << 8
TLB_APART = 1 << 7
"""In `read` only, of MMU indices with a common addend (``FrontEnd.linear_indices``): the entry has another one. Only
fast paths that use the common one miss by it."""

JUMP_GROUP_BITS = 8
JUMP_CACHE_ENTRIES = 64 << JUMP_GROUP_BITS
"""Direct-mapped, 32 bytes an entry: ``pc`` u64, ``mode`` u32, ``local`` u32, ``code`` u64, ``block`` u64. The index of
a pc is ``((pc >> 12) & 63) << 8 | ((pc >> 1) ^ (pc >> 9)) & 255``, so that the entries of one 4 KiB are in a group of
``1 << JUMP_GROUP_BITS`` neighbours."""

GRANULE_BITS = 6
"""A reservation is of ``1 << GRANULE_BITS`` bytes. No aligned access is in two granules. A guest's package shows the
number where its architecture has a register for it."""
GRANULE_LOCK = 31
"""The bit of a granule's word that locks it (granules.c); bits below are vCPUs'."""

TLB_BYTES = MMU_INDICES * TLB_ENTRIES * TLB_ENTRY_SIZE
TLB_OFFSET = -HEADER_SIZE - TLB_BYTES
"""Offset from ``env`` of MMU index 0's TLB; the others follow."""
