# SPDX-License-Identifier: Apache-2.0
"""Where a value is kept: in a register of one of the host's classes, in the frame, or in the guest's state.

A host may have more kinds (such as condition flags), as subclasses of `Location`. There is one object for each
register, slot and place in the state, so locations are compared by identity and are keys of dictionaries.
"""

from __future__ import annotations

from typing import Final, final

from raddle.ir.builder import Location


@final
class Register(Location):
    """A host register; made by its `RegisterClass`."""

    __slots__ = ("number", "register_class")

    def __init__(self, register_class: RegisterClass, number: int) -> None:
        self.register_class = register_class
        self.number = number
        """From 0, as in the host's encodings."""

    def __repr__(self) -> str:
        return f"{self.register_class.name} register {self.number}"


@final
class RegisterClass:
    """Registers that hold values of the same kind: general registers, or vector registers. A host has one object for
    each of its classes. Immutable.
    """

    __slots__ = ("_registers", "name")

    def __init__(self, name: str, count: int) -> None:
        self.name = name
        """For messages."""
        self._registers = tuple([Register(self, number) for number in range(count)])

    def __getitem__(self, number: int) -> Register:
        return self._registers[number]

    def __len__(self) -> int:
        return len(self._registers)

    def __repr__(self) -> str:
        return f"register class {self.name}"


@final
class Slot(Location):
    """A slot of 8 bytes in the frame; made by `slot`. A value of 16 bytes takes the next one, too."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __repr__(self) -> str:
        return f"frame slot {self.number}"


@final
class InState(Location):
    """A place in the guest's state or the header; made by `in_state`."""

    __slots__ = ("offset",)

    def __init__(self, offset: int) -> None:
        self.offset = offset
        """Bytes from ``env``; below 0 in the header."""

    def __repr__(self) -> str:
        return f"state at {self.offset}"


FRAME_SLOTS: Final = 64
"""Slots of 8 bytes in the frame: slot 0 is the host's own, locals and spilled values follow."""

FRAME_BYTES: Final = 8 * FRAME_SLOTS

SLOTS: Final = tuple([Slot(number) for number in range(FRAME_SLOTS)])
"""The slots of the frame."""

_IN_STATE: Final[dict[int, InState]] = {}


def in_state(offset: int) -> InState:
    """The place at `offset` bytes from ``env``. Thread-safe."""
    place = _IN_STATE.get(offset)
    return _IN_STATE.setdefault(offset, InState(offset)) if place is None else place
