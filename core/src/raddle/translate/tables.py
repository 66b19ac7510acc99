# SPDX-License-Identifier: Apache-2.0
"""The tables that a translator keeps in Python, and an estimate of their memory.

When the memo's budget is used up, the translator drops them together with the runtime's memo, and makes new `Tables`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from raddle.codegen.template import Template
from raddle.translate.families import Families
from raddle.translate.frontend import InstructionSet
from raddle.translate.pattern import Pattern
from raddle.translate.sharing import Models

__all__ = ["Mode", "Scope", "Tables"]

# Estimates of the bytes that one more item takes in each table. A test of a guest with many kinds of words checks them
# (test_memo_budget.py).
_TEMPLATE: Final = 600
_FAMILY: Final = 300
_FAMILIES: Final = 2000
_MODEL: Final = 450
_MODE: Final = 1500


class Scope:
    """Translations that are valid in one block mode, or in several that a class of instructions does not tell apart."""

    __slots__ = ("families", "table")

    def __init__(self, table: Any) -> None:
        self.table = table
        """The runtime's table of entries: raddle_table *."""
        self.families: dict[tuple[int, int, int], Any] = {}
        """The families that the runtime has (raddle_known_family *), by fixed bits, values of these, and decode state.
        """


class Mode:
    """One block mode."""

    __slots__ = ("decode_state", "mode", "own", "set", "shared")

    def __init__(
        self, mode: int, instruction_set: InstructionSet, decode_state: int, own: Scope, shared: Sequence[Scope]
    ) -> None:
        self.mode = mode
        self.set = instruction_set
        self.decode_state = decode_state
        """The decode state of a block's first instruction."""
        self.own = own
        """Translations for this mode only."""
        self.shared = shared
        """For each class of `FrontEnd.mode_masks`, the translations for all modes with the same bits in its mask."""


class Tables:
    """The tables, which grow with the distinct words, modes and registers of the guest. Under the translator's lock."""

    def __init__(self, places: Sequence[int | None]) -> None:
        """`places` has the kind of place of each register; None for one that is always zero."""
        self.modes: dict[int, Mode] = {}
        self.shared_scopes: dict[tuple[int, int], Scope] = {}
        self.families: dict[Pattern, Families] = {}
        self.templates: dict[tuple[object, ...], Template] = {}
        """The key is the pattern or its `Sharing`, the bits of the word that the code depends on, the model's
        registers, decode state, mode, whether the literal of the `Sharing` is open, and kinds of literals. For an
        undefined word it is size, decode state and mode."""
        self.fixed: dict[Template, int] = {}
        """The registers that a model's code uses besides those that are replaced: bit n stands for register n."""
        self.models = Models(places)
        self.known_families = 0
        """How many families the runtime has, in all scopes."""

    @property
    def footprint(self) -> int:
        """An estimate of the bytes that the tables take, without the templates themselves."""
        return (
            _TEMPLATE * len(self.templates)
            + _FAMILY * self.known_families
            + _FAMILIES * len(self.families)
            + _MODEL * len(self.models)
            + _MODE * (len(self.modes) + len(self.shared_scopes))
        )
