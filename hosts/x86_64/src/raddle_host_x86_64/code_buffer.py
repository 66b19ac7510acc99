# SPDX-License-Identifier: Apache-2.0
"""A buffer of x86-64 code under construction, and the fields of its jumps."""

from __future__ import annotations

from struct import Struct
from typing import Final

from raddle.codegen import code_buffer
from raddle.codegen.code_buffer import EncodingError, Label

__all__ = ["CodeBuffer", "EncodingError", "Label", "distance8"]

_REL32: Final = Struct("<i")


class CodeBuffer(code_buffer.CodeBuffer):
    """Machine code under construction. A field is its size in bytes: 1 or 4."""

    __slots__ = ()

    def refer_near(self, label: Label) -> None:
        """Append the distance from the end of this four-byte field to the label."""
        self.code += b"\0\0\0\0"
        self.refer_at(label, len(self.code) - 4, 4)

    def refer_short(self, label: Label) -> None:
        """Append the distance from the end of this byte to the label."""
        self.code.append(0)
        self.refer_at(label, len(self.code) - 1, 1)

    def aim(self, offset: int, field: int, position: int) -> None:
        if field == 4:
            _REL32.pack_into(self.code, offset, position - offset - 4)
        else:
            self.code[offset] = distance8(position - offset - 1)


def distance8(distance: int) -> int:
    """A rel8 field. EncodingError when it cannot reach so far."""
    if not -128 <= distance <= 127:
        raise EncodingError(f"a short jump cannot reach {distance} bytes; use the near form")
    return distance & 0xFF
