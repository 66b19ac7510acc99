# SPDX-License-Identifier: Apache-2.0
"""A buffer of A64 code under construction, and the fields of its jumps."""

from __future__ import annotations

from typing import Final, NamedTuple

from raddle.codegen import code_buffer
from raddle.codegen.code_buffer import EncodingError, Label

__all__ = ["BRANCH14", "BRANCH19", "BRANCH26", "CodeBuffer", "EncodingError", "Label", "Reach"]


class Reach(NamedTuple):
    """The field of a jump that holds the distance from the jump itself, in instructions."""

    at: int
    """Its lowest bit."""
    width: int

    def encode(self, distance: int) -> int:
        """The field for a distance in bytes. EncodingError when it cannot reach so far."""
        words = distance >> 2
        if distance & 3 or not -1 << self.width - 1 <= words < 1 << self.width - 1:
            raise EncodingError(f"a jump of {self.width} bits cannot reach {distance} bytes")
        return (words & (1 << self.width) - 1) << self.at


BRANCH26: Final = Reach(0, 26)
BRANCH19: Final = Reach(5, 19)
BRANCH14: Final = Reach(5, 14)


class CodeBuffer(code_buffer.CodeBuffer):
    """Machine code under construction. A field is a `Reach`, at the offset of its instruction."""

    __slots__ = ()

    def refer(self, label: Label, reach: Reach) -> None:
        """Aim the jump that is the last instruction of the code, and has distance 0, at the label."""
        self.refer_at(label, len(self.code) - 4, reach)

    def aim(self, offset: int, field: Reach, position: int) -> None:
        code = self.code
        word = int.from_bytes(code[offset : offset + 4], "little") | field.encode(position - offset)
        code[offset : offset + 4] = word.to_bytes(4, "little")
