# SPDX-License-Identifier: Apache-2.0
"""The protocol between the core and a host back end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from raddle.codegen.template import Block, Entry, Template
from raddle.ir.builder import Callee, Instruction, Local
from raddle.ir.types import Field, StateLayout, Type


@dataclass(frozen=True, slots=True)
class CodegenConfig:
    """What code generation depends on for one machine.

    ``callee_number`` maps a Callee to its index in the CPU's helper table; ``parallel`` is true when several vCPUs run
    at the same time (atomics and barriers are emitted); ``fences`` is the set of MemoryOrder bits that every access
    must be given by barriers because the guest promises them and the host does not.
    """

    state: StateLayout
    word: Type
    page_bits: int
    callee_number: Callable[[Callee], int]
    parallel: bool = True
    icount: bool = False
    fences: int = 0
    call_helper: int = 0
    """Address of ``raddle_call_helper``, through which routines reach Python helpers."""
    first_python: int = 1 << 32
    """Helper numbers from here on are Python helpers and not in the table."""


@dataclass(frozen=True, slots=True)
class Thunks:
    """Code that a machine needs once: ``enter`` (C: ``uint64_t enter(env, code)``) and the header's thunk pointers."""

    enter: bytes
    by_field: dict[str, bytes]
    """Code for each ``thunk_*`` field of the header; each refers to C functions by absolute address."""


class BackEnd(ABC):
    """Compiles IR for one host. Not thread-safe: the translator calls it under its lock."""

    @abstractmethod
    def __init__(self, config: CodegenConfig) -> None: ...

    @abstractmethod
    def template(
        self, code: list[Instruction], locals: list[Local], size: int, context: int, next_context: int
    ) -> Template:
        """Compile one instruction of ``size`` guest bytes; ``context`` goes into its table row."""

    def place(self, field: Field) -> int:
        """What kind of place the host keeps the field in: fields of one kind can be renamed to one another."""
        return 0

    @abstractmethod
    def routine(self, code: list[Instruction], locals: list[Local]) -> bytes:
        """Compile an IR routine to a position-independent C function ``uint64_t f(env, a0, a1, a2, a3)``."""

    @abstractmethod
    def join(self, entries: Sequence[Entry], pc: int, falls_through: bool) -> Block:
        """Join instructions to a block that starts at guest address ``pc``."""

    @abstractmethod
    def thunks(self, functions: dict[str, int]) -> Thunks:
        """The machine's thunks; ``functions`` gives addresses of the runtime's C functions by name."""
