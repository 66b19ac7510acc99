# SPDX-License-Identifier: Apache-2.0
"""State that can be saved and restored: a class lists its attributes that are state.

A saved state is plain data: None, bools, whole numbers, strings, bytes, and lists and dictionaries of these.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Any, ClassVar, Protocol, runtime_checkable

from raddle.errors import RaddleError, UsageError

__all__ = ["CanSave", "Saved", "Stateful"]

Saved = None | bool | int | str | bytes | list["Saved"] | dict[str, "Saved"]


@runtime_checkable
class CanSave(Protocol):
    """A part with a state of its own. Both methods are called under the big lock, or when nothing runs."""

    def save(self) -> Saved: ...

    def restore(self, saved: Any) -> None:
        """Raises ValueError or UsageError if it does not fit."""


class Stateful:
    """Saves and restores the attributes in `STATE`. Use it under the big lock, or when nothing runs."""

    STATE: ClassVar[tuple[str, ...]] = ()
    """The attributes that are state, without those of base classes: None, bools, numbers, strings, bytes, bytearrays,
    members of Enums, what has `save` and `restore` (timers, lines, host memory, other Stateful parts), and lists,
    tuples and deques of these. Leave out what follows from other state, and what never changes."""

    @classmethod
    def state_names(cls) -> tuple[str, ...]:
        """The attributes that are state, base classes first."""
        return tuple(dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base).get("STATE", ())))

    def save(self) -> dict[str, Saved]:
        """The state, as plain data that does not change later. Changes nothing."""
        try:
            return {name: _saved(getattr(self, name)) for name in self.state_names()}
        except TypeError as error:
            raise RaddleError(f"the state of {self._called()} cannot be saved: {error}") from None

    def restore(self, saved: Any) -> None:
        """Take over a state that `save` has returned, of an object that was made with the same arguments. No line calls
        its sink: both sides restore what they know of it. Raises UsageError if the state does not fit; reset the object
        then, since part of it may have been restored.
        """
        names = self.state_names()
        if not isinstance(saved, dict) or sorted(saved) != sorted(names):
            raise UsageError(f"the saved state does not fit: {self._called()} has {', '.join(names) or 'none'}")
        for name in names:
            try:
                setattr(self, name, _restored(getattr(self, name), saved[name]))
            except ValueError as error:
                raise UsageError(f"the saved state does not fit: {name} of {self._called()}: {error}") from None
        self.restored()

    def restored(self) -> None:
        """Called when the state has been restored: bring up to date what follows from it, but call no line."""

    def _called(self) -> str:
        return str(getattr(self, "NAME", type(self).__name__))


def _saved(value: Any) -> Saved:
    match value:
        case Enum():
            return _saved(value.value)
        case None | bool() | int() | str() | bytes():
            return value
        case bytearray():
            return bytes(value)
        case list() | tuple() | deque():
            return [_saved(one) for one in value]
        case CanSave():
            return value.save()
    raise TypeError(f"it has a {type(value).__name__}")


def _restored(old: Any, saved: Any) -> Any:
    """What an attribute becomes. Containers stay the same objects, since others may have them. Raises ValueError."""
    match old:
        case Enum():
            return type(old)(saved)
        case bytearray():
            _check(type(saved) is bytes and len(saved) == len(old), f"it is {len(old)} bytes")
            old[:] = saved
        case list() | tuple() | deque():
            _check(type(saved) is list, "it is a list")
            return _restored_elements(old, saved)
        case bool() | str() | bytes():
            _check(type(saved) is type(old), f"it is of type {type(old).__name__}")
            return saved
        case None | int():
            _check(saved is None or type(saved) is int, "it is a number or None")
            return saved
        case _:
            old.restore(saved)
    return old


def _restored_elements(old: Any, saved: list[Any]) -> Any:
    if any(isinstance(one, CanSave) for one in old):
        _check(len(saved) == len(old), f"there are {len(old)}")
        for one, state in zip(old, saved, strict=True):
            one.restore(state)
        return old
    elements = [_frozen(one) for one in saved]
    if isinstance(old, tuple):
        return tuple(elements)
    old.clear()
    old.extend(elements)
    return old


def _frozen(saved: Any) -> Any:
    return tuple(map(_frozen, saved)) if isinstance(saved, list) else saved


def _check(fits: bool, what: str) -> None:
    if not fits:
        raise ValueError(what)
