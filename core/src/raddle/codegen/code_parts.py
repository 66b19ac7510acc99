# SPDX-License-Identifier: Apache-2.0
"""The code that an emitter has made so far, in its two parts, and what is to be filled in there."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from raddle.ir.types import Hole

if TYPE_CHECKING:
    from raddle.codegen.fields import FieldKind, OpenHole, Reloc
    from raddle.codegen.renaming import Traced
    from raddle.ir.builder import Instruction, Label


class HostLabel(Protocol):
    """A label of the host's assembler."""

    position: int
    """Offset in its part, once it is known."""


L = TypeVar("L", bound=HostLabel)


class CodeParts(Generic[L]):
    """Parts, fields and labels of one function. A mixin; the host's assembler has its abstract methods
    (`raddle.codegen.code_buffer.CodeBuffer`).
    """

    routine: bool
    """Whether the functions are IR routines. They have no cold part; a template has."""
    code: bytearray
    """What the assembler appends to: the hot part, or the cold part."""
    hot: bytearray
    """The hot part."""
    cold: bytearray
    """The cold part, which lies behind the hot parts of all of the block's instructions."""
    hot_relocs: list[Reloc]
    cold_relocs: list[Reloc]
    hot_holes: list[OpenHole]
    cold_holes: list[OpenHole]
    trace: list[Traced]
    """The host instructions, if the host renames."""
    jumps: list[tuple[bytearray, int, int, L]]
    """(part, shape, offset of the field, label) of each jump within a part, if the host renames."""
    labels: dict[Label, L]

    @abstractmethod
    def start_code(self) -> None:
        """Begin again: the code is empty, and there are no labels."""

    @abstractmethod
    def finish(self) -> bytes:
        """The hot part. Raises the assembler's error if a label has been used and is not bound."""

    @abstractmethod
    def label(self) -> L:
        """A new label of the assembler's."""

    @abstractmethod
    def bind(self, label: L) -> None:
        """Bind a label to the end of the part at hand."""

    def begin_parts(self) -> None:
        """Call this before emitting a function."""
        self.start_code()
        self.hot, self.cold = self.code, bytearray()
        self.hot_relocs, self.cold_relocs, self.hot_holes, self.cold_holes = [], [], [], []
        self.labels, self.trace, self.jumps = {}, [], []

    @property
    def in_cold(self) -> bool:
        """Whether the cold part is being emitted, which has no cold part of its own."""
        return self.code is self.cold

    def host_label(self, label: Label) -> L:
        """The host's label for an IR label."""
        host = self.labels.get(label)
        if host is None:
            host = self.labels[label] = self.label()
        return host

    def field(self, kind: FieldKind, offset: int, value: int, literal: Instruction | None = None) -> None:
        """Note a field at ``offset`` of the current part that holds ``value``, plus a `HOLE`'s literal if given."""
        cold = self.code is self.cold
        if literal is None:
            (self.cold_relocs if cold else self.hot_relocs).append((kind, offset, value))
            return
        hole = literal.aux
        assert isinstance(hole, Hole)
        (self.cold_holes if cold else self.hot_holes).append((offset, hole.index, value, kind))

    def last_field(self, kind: FieldKind, value: int, literal: Instruction | None = None) -> None:
        """The same for the field in the last four bytes of the code."""
        self.field(kind, len(self.code) - 4, value, literal)
