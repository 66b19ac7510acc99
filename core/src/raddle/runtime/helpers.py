# SPDX-License-Identifier: Apache-2.0
"""Native helpers: the C functions of the runtime that IR may call, by name. One table for C and Python.

A helper's number is its row in ``HELPERS``; the C function of a row is ``raddle_helper_<name>`` (floating-point rows,
which come from ``native/fp.h``, are named there). All take ``(env, a0, a1, a2, a3)`` as 64-bit words and return one.
Numbers from ``FIRST_ROUTINE`` on are free for a machine's compiled routines; from ``FIRST_PYTHON`` on they are Python
callbacks.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

__all__ = ["FIRST_PYTHON", "FIRST_ROUTINE", "HELPERS", "NUMBER", "Helper"]

FIRST_ROUTINE = 512
FIRST_PYTHON = 4096

NATIVE = Path(__file__).parent / "native"


class Helper(NamedTuple):
    """One row: parameters as a caller gives them, and what the helper does and returns."""

    name: str
    parameters: str
    meaning: str
    may_exit: bool = False
    """It may set exit_now: set pc to the next instruction before the call."""
    function: str = ""

    @property
    def arity(self) -> int | None:
        """How many arguments it takes; None where the table does not tell (floating point)."""
        if self.function:
            return None
        return len(self.parameters.split(", ")) if self.parameters else 0

    @property
    def symbol(self) -> str:
        """Name of the C function."""
        return self.function or f"raddle_helper_{self.name}"


def _flushes() -> list[Helper]:
    kinds = (
        ("tlb_flush", "", "everything"),
        ("tlb_flush_by_mmuidx", "indices", "all of the MMU indices in a bit mask"),
        ("tlb_flush_page", "address, indices", "one page in the MMU indices of a bit mask"),
        (
            "tlb_flush_range",
            "address, length, indices",
            "the pages of an address range in the MMU indices of a bit mask",
        ),
    )
    scopes = (
        ("", "this vCPU's TLB, at once: "),
        ("_all_cpus", "every vCPU's TLB (this one's at once, the others' by the time that tlb_sync returns): "),
        ("_all_cpus_synced", "every vCPU's TLB, before it returns: "),
    )
    return [Helper(name + tail, args, f"flush {whose}{what}") for tail, whose in scopes for name, args, what in kinds]


def _memory() -> list[Helper]:
    loads = [
        Helper(f"phys_load{n}", "paddr", f"{n} bits of physical memory; 0 where none answers") for n in (8, 16, 32, 64)
    ]
    stores = [Helper(f"phys_store{n}", "paddr, value", f"store {n} bits to physical memory") for n in (8, 16, 32, 64)]
    swaps = [
        Helper(
            f"phys_cmpxchg{n}",
            "paddr, expected, new",
            f"atomic compare and exchange of {n} bits of RAM; the old value, or ~expected where there is no RAM, or "
            "for a misaligned address",
        )
        for n in (32, 64)
    ]
    return loads + stores + swaps


def _host_memory() -> list[Helper]:
    return [
        helper
        for n in (8, 32)
        for helper in (
            Helper(f"host_load{n}", "host address", f"{n} bits of a device's own state; the big lock is held"),
            Helper(f"host_store{n}", "host address, value", f"change {n} bits of a device's own state; likewise"),
        )
    ]


_CORE: tuple[Helper, ...] = (
    Helper(
        "tlb_set",
        "address, paddr, prot | size_log2 << 8 | mmu_index << 16",
        "enter address's page into this vCPU's TLB; prot: 1 read, 2 write, 4 execute, "
        "8 for a mapping that belongs only to the current address space; paddr is that of address itself, "
        "size_log2 that of the mapping (0: the smallest page)",
    ),
    *_flushes(),
    Helper(
        "tlb_flush_local",
        "indices",
        "flush this vCPU's TLB, at once: entries that belong to one address space only, in the MMU indices of a mask",
    ),
    Helper("tlb_sync", "", "wait until all flushes that this vCPU asked of others are done"),
    *_memory(),
    Helper("phys_is_memory", "paddr, size", "1 when the range lies in one RAM or ROM region"),
    Helper(
        "io_python",
        "offset, size | is_write << 8, value, region id",
        "in the routine of an I/O region: let the region's Python handler do the access; returns what was read",
    ),
    *_host_memory(),
    Helper("big_lock", "", "take the big lock (recursive)"),
    Helper("big_unlock", "", "release the big lock"),
    Helper("wfi", "", "halt until an interrupt line that interrupt_mask names is pending", may_exit=True),
    Helper("wfe", "", "take the event if there is one, else sleep until an event or interrupt", may_exit=True),
    Helper("sev", "", "set the event register of every vCPU"),
    Helper("yield_", "", "round-robin: give up the time slice", may_exit=True),
    Helper("interrupt_set", "cpu_index, lines", "raise interrupt lines of a vCPU"),
    Helper("interrupt_clear", "cpu_index, lines", "lower interrupt lines of a vCPU"),
    Helper(
        "exception",
        "place",
        "count an exception that an instruction takes by a routine; place identifies the instruction",
    ),
    Helper("clock_ns", "", "virtual time in nanoseconds"),
    Helper("clock_ticks", "frequency", "virtual time in ticks of a frequency in Hz, rounded down; saturates"),
    Helper(
        "ticks_to_ns",
        "ticks, frequency",
        "the first nanosecond at which a clock of that frequency shows ticks; saturates",
    ),
    Helper("timer_set", "timer, deadline_ns", "set a timer's deadline (its number comes from raddle_timer_new)"),
    Helper("timer_cancel", "timer", "remove a timer's deadline"),
)


def _floating_point() -> tuple[Helper, ...]:
    """The rows of ``RADDLE_FP_HELPERS`` in ``fp.h``, in its order."""
    header = NATIVE / "fp.h"
    if not header.exists():
        return ()
    names = re.findall(r"^\s*X\((fp_\w+)", header.read_text(), re.MULTILINE)
    return tuple(Helper(name, "", "floating point: see fp.h", function=name) for name in names)


_CODE = (
    Helper(
        "icache_sync",
        "",
        "synchronise instruction fetches: no block that runs from now on is older than this vCPU's stores, or than "
        "those of others that it has seen",
    ),
)

_COUNTING = (
    Helper(
        "instructions",
        "",
        "with -icount: how many instructions this vCPU has retired before the one that asks; without, 0",
    ),
)

HELPERS: tuple[Helper, ...] = _CORE + _floating_point() + _CODE + _COUNTING
"""All native helpers; the index is the number."""

NUMBER: dict[str, int] = {helper.name: number for number, helper in enumerate(HELPERS)}
"""Helper number by name."""

if len(HELPERS) > FIRST_ROUTINE or len(NUMBER) != len(HELPERS):
    raise AssertionError("too many native helpers, or two of one name")


def c_table() -> str:
    """The C text of the helper table: ``RADDLE_HELPERS(X)`` with ``X(number, name, symbol)`` rows."""
    rows = "".join(f" \\\n    X({i}, {h.name}, {h.symbol})" for i, h in enumerate(HELPERS))
    return f"#define RADDLE_HELPERS(X){rows}\n#define RADDLE_HELPER_COUNT {len(HELPERS)}\n"
