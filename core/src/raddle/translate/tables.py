# SPDX-License-Identifier: Apache-2.0
"""What a translator keeps of a guest's code in Python, and about how much memory that takes.

It is forgotten as a whole, together with the runtime's memo, when the memo's budget is used up: then the translator
takes new `Tables`.
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

# Bytes, about, as tests/core/test_memo_budget.py measures them: of each table's part for one more.
_TEMPLATE: Final = 600
_FAMILY: Final = 300
_FAMILIES: Final = 2000
_MODEL: Final = 450
_MODE: Final = 1500


class Scope:
    """Translations that hold in one block mode, or in several that are equal to most instructions."""

    __slots__ = ("families", "table")

    def __init__(self, table: Any) -> None:
        self.table = table
        """The runtime's: raddle_table *."""
        self.families: dict[tuple[int, int, int], Any] = {}
        """The families that the runtime knows (raddle_known_family *), by fixed bits, their values, and decode
        state."""


class Mode:
    """What is known of one block mode."""

    __slots__ = ("decode_state", "mode", "own", "set", "shared")

    def __init__(
        self, mode: int, instruction_set: InstructionSet, decode_state: int, own: Scope, shared: Sequence[Scope]
    ) -> None:
        self.mode = mode
        self.set = instruction_set
        self.decode_state = decode_state
        """Of a block's first instruction."""
        self.own = own
        self.shared = shared
        """Of all modes that have the same bits in `FrontEnd.mode_masks`, by class."""


class Tables:
    """The tables. Under the translator's lock; they grow with the distinct words, modes and registers of the guest."""

    def __init__(self, places: Sequence[int | None]) -> None:
        """`places` has the kind of place of each register, None for one that is always zero."""
        self.modes: dict[int, Mode] = {}
        self.shared_scopes: dict[tuple[int, int], Scope] = {}
        self.families: dict[Pattern, Families] = {}
        self.templates: dict[tuple[object, ...], Template] = {}
        """By the pattern, the bits of the word that the code depends on, the model's registers, decode state, mode, and
        whether the literal of `Sharing` is open; undefined words by size, decode state and mode."""
        self.fixed: dict[Template, int] = {}
        """Of models: the registers that the code uses besides those that are open, as a set of bits."""
        self.models = Models(places)
        self.known_families = 0
        """In all scopes."""

    @property
    def footprint(self) -> int:
        """Bytes of memory that the tables take, about, without the templates themselves."""
        return (
            _TEMPLATE * len(self.templates)
            + _FAMILY * self.known_families
            + _FAMILIES * len(self.families)
            + _MODEL * len(self.models)
            + _MODE * (len(self.modes) + len(self.shared_scopes))
        )
