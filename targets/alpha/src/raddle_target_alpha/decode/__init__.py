# SPDX-License-Identifier: Apache-2.0
"""The decode table of Alpha, of several parts: ``*.dec``, and a line for each PALcode function of ``pal.TABLE``.

A `Fields` of these tables has the operands that the heads of the `.dec` files list.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from raddle.translate.decode import Decoder, Table, table_text
from raddle_target_alpha import pal
from raddle_target_alpha.cpus import Feature
from raddle_target_alpha.decode.operands import FUNCTIONS

__all__ = ["alpha", "table"]

_FILES: Final = ("integer.dec", "float.dec")


FEATURES: Final = {feature.name: int(feature) for feature in Feature if feature.name}
WIDTH: Final = 32


def _pal_lines() -> str:
    rows = (f"{function.__name__} 000000 {number:026b}\n" for number, function in pal.TABLE.items())
    return "".join(rows)


def table(trusted: bool = False) -> Table:
    """The table of all instructions, words of 32 bits."""
    whole = Table.parse(_pal_lines(), "pal.TABLE", WIDTH, FUNCTIONS, trusted=trusted)
    for name in _FILES:
        text = table_text(__name__, name)
        whole = whole.extend(Table.parse(text, name, WIDTH, FUNCTIONS, constants=FEATURES, trusted=trusted))
    return whole


@cache
def alpha() -> Decoder:
    """The decoder. Built at the first call."""
    return table(trusted=True).compile()
