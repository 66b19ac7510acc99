# SPDX-License-Identifier: Apache-2.0
"""A buffer of x86-64 code under construction, and the field of its jumps."""

from __future__ import annotations

from struct import Struct
from typing import Final

from raddle.codegen import code_buffer
from raddle.codegen.code_buffer import EncodingError, Label

__all__ = ["CodeBuffer", "EncodingError", "Label"]

_REL32: Final = Struct("<i")


class CodeBuffer(code_buffer.CodeBuffer):
    """Machine code under construction. Every field is of one kind, rel32."""

    __slots__ = ()

    def refer_near(self, label: Label) -> None:
        """Append the distance from the end of this four-byte field to the label."""
        self.code += b"\0\0\0\0"
        self.refer_at(label, len(self.code) - 4, None)

    def aim(self, offset: int, field: None, position: int) -> None:
        _REL32.pack_into(self.code, offset, position - offset - 4)
