# SPDX-License-Identifier: Apache-2.0
"""Which operands are registers, so that instructions that differ in them alone share templates.

All operands a, b and c are numbers of `state.REGISTERS`, and semantics do nothing with them but read and write the
register, compare them, and know those that are always zero.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from raddle.translate.pattern import Pattern
from raddle.translate.sharing import Sharing

_ACCESSES: Final = ("LD", "ST")


@cache
def make_sharing(pattern: Pattern, floating: bool) -> Sharing:
    """How the words of ``pattern`` share templates; ``floating``: they depend on more of the block mode."""
    given = pattern.operands()
    names = [name for name in "abc" if name in given]
    mode_class = -1 if floating or not names else 0 if pattern.name.startswith(_ACCESSES) else 1
    return Sharing(pattern, names, mode_class=mode_class)
