# SPDX-License-Identifier: Apache-2.0
"""Semantics functions: each emits the IR of the instructions that a decode table calls by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from types import FunctionType

from raddle.ir.builder import Builder
from raddle.translate.decode import Fields

__all__ = ["Semantics", "semantics"]

Semantics = Callable[[Builder, Fields], None]
"""Called with the operands that the table lists as attributes of the fields, and what the guest adds."""


def semantics(package: str, modules: Iterable[str]) -> dict[str, Semantics]:
    """The semantics functions of a package's modules, by name: those whose names start with a capital letter."""
    return {
        name: function
        for module in modules
        for name, function in vars(import_module(f"{package}.{module}")).items()
        if isinstance(function, FunctionType) and name[0].isupper() and function.__module__.startswith(package)
    }
