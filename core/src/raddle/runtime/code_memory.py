# SPDX-License-Identifier: Apache-2.0
"""The host memory for translated code: chosen by what the user asks for and what the host allows, with a description
for the user.

Code is written at one address and executed at another (`split-wx=on`), or both at one (`off`). By default, Raddle uses
two addresses if the host maps the same memory twice and runs what was written last, and otherwise one, with a warning.
Each start tries this: an emulator that runs Raddle may go on running old code after new code was written at the other
address.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, NamedTuple

from raddle.runtime._native import ffi, lib
from raddle.runtime.hardening import guards

__all__ = ["CodeMemory", "choose"]

Constant = Callable[[int], bytes | None]
"""The machine code of a C function ``uint32_t f(void)`` that returns a value: `BackEnd.constant`."""

TRIED: Final[tuple[int, ...]] = (0x1234_5678, 0x5EED_C0DE)
"""The return values of two functions that are written one after the other to the same place."""

SPLIT: Final = int(lib.RADDLE_FLAG_DUAL_MAP | lib.RADDLE_FLAG_DUAL_ONLY)


class CodeMemory(NamedTuple):
    """How translated code is mapped."""

    flags: int
    """The runtime's flags."""
    description: str
    """One line, for a user."""
    warnings: tuple[str, ...] = ()
    """Warnings for a user who has asked for nothing and gets less than usual."""
    refusal: str | None = None
    """Why there is no memory for code, or none of the kind that the user asked for; None if there is."""


def choose(split_wx: bool | None, constant: Constant | None) -> CodeMemory:
    """The code memory of this process's machines; `split_wx` is None if the user asked for nothing.

    If `constant` is None, or returns None, there is no host to try it with.
    """
    if split_wx is False:
        return _at_one_address("split-wx=off was asked for")
    codes = [code for code in map(constant, TRIED) if code is not None] if constant else []
    fault = _split_fault(codes)
    if fault is None:
        flags = SPLIT if split_wx else int(lib.RADDLE_FLAG_DUAL_MAP)
        tried = "" if codes else ", not tried: no host makes code for this machine"
        return CodeMemory(flags, f"translated code is written at one address and executed at another (split-wx{tried})")
    if split_wx:
        return _refused(f"split-wx=on: {fault}")
    chosen = _at_one_address(fault)
    if chosen.refusal is None:
        warning = f"{chosen.description}; --accel tcg,split-wx=on refuses to run so"
        chosen = chosen._replace(warnings=(warning,))
    return chosen


def _split_fault(codes: list[bytes]) -> str | None:
    """Why code cannot be written at one address and executed at another; None if it can, or was not tried."""
    if codes:
        error, results = _trial(codes)
    else:
        error, results = min(0, lib.raddle_code_views(SPLIT)), TRIED
    if error:
        return f"the host does not map the same memory twice ({os.strerror(-error)})"
    if results != TRIED:
        return "the host runs old code at one address when new code is written at another"
    return None


def _trial(codes: list[bytes]) -> tuple[int, tuple[int, ...]]:
    """0 or a negative error number, and the results of two functions that were written and run one after the other."""
    size = max(map(len, codes))
    results = ffi.new("uint32_t[2]")
    error = int(lib.raddle_code_trial(SPLIT, *(code.ljust(size, b"\0") for code in codes), size, results))
    return error, tuple(results)


def _at_one_address(reason: str) -> CodeMemory:
    error = lib.raddle_code_views(0)
    if error < 0:
        guarded = " and ".join(guards()) or "nothing that Raddle knows of"
        return _refused(
            f"the host refuses memory that is writable and executable ({os.strerror(-error)}), and {reason}; in force "
            f"for this process: {guarded}",
        )
    return CodeMemory(0, f"translated code is writable where it is executed: {reason}")


def _refused(refusal: str) -> CodeMemory:
    return CodeMemory(0, f"there is no memory for translated code: {refusal}", refusal=refusal)
