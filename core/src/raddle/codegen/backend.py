# SPDX-License-Identifier: Apache-2.0
"""The protocol between the core and a host back end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import ClassVar, Final, NamedTuple

from raddle.codegen.allocation import Allocation
from raddle.codegen.fields import Chaining, Reloc, Shape
from raddle.codegen.template import Template
from raddle.ir.builder import Callee, Instruction, Local
from raddle.ir.header import Reaches
from raddle.ir.types import Field, FloatRules, LiteralKind, StateLayout, Type

TRACE_HASH_FACTOR: Final = 0x01000193
"""Odd, so that multiplying loses nothing."""
TRACE_HASH_ROTATION: Final = 29
"""With instruction counting, each block sets the header's ``trace_hash`` to (``trace_hash`` xor the low 32 bits of its
address) * factor, rotated right."""


class CodegenConfig(NamedTuple):
    """What code generation depends on for one machine.

    ``callee_number`` maps a Callee to its index in the CPU's helper table; ``parallel`` is true when several vCPUs run
    at the same time (atomics and barriers are emitted); ``fences`` are the MemoryOrder bits that barriers must give to
    every access, because the guest counts on them and the host does not keep them.
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
    allocation: Allocation = Allocation.USUAL
    """How registers are chosen; other choices are for tests."""
    floats: FloatRules = FloatRules()
    """The guest's choices in IEEE 754; the header's ``fp_rules`` says the same."""
    strict: bool = False
    """Whether reservations are exact: stores and exclusives use the words of granules (runtime/native/granules.c)."""
    common_indices: int = 0
    """A bit for each MMU index whose TLB entries have a common addend (``FrontEnd.linear_indices``), if the back end is
    one with `BackEnd.common_addends`."""


class Thunks(NamedTuple):
    """Code that a machine needs once: ``enter`` (C: ``uint64_t enter(env, code)``) and the header's thunk pointers."""

    enter: bytes
    by_field: dict[str, bytes]
    """Code for each ``thunk_*`` field of the header; each refers to C functions by absolute address."""
    synchronise: bytes = b""
    """C: ``void f(void)``. Each vCPU's thread calls it before it runs code in memory that a flush has freed. For hosts
    that may still run code fetched from there before (Arm: ISB); empty on others."""


class Stub(NamedTuple):
    """Code of a block besides its instructions, at most 65535 bytes; and its fields, at most eight."""

    code: bytes
    relocs: tuple[Reloc, ...] = ()


class JoinRules(NamedTuple):
    """The host's part of a block; runtime/native/join.c says where each piece goes."""

    entry: Stub
    """The entry check, which begins each block."""
    leave: Stub
    """Where the entry check goes to leave the block."""
    chainable: Stub
    """For a jump that may be chained to its target later."""
    indirect: Stub
    """For a jump that always uses the jump cache."""
    falls_through: Template
    """A chainable jump to the next instruction; it stands for no guest bytes."""
    shapes: tuple[Shape, ...]
    """Of all fields, by number; at most 32."""
    chaining: Chaining
    nops: tuple[bytes, ...] = ()
    """Codes that do nothing, of different lengths below `Chaining.span`: they move a chainable jump to where its field
    can be written as a whole."""


class BackEnd(ABC):
    """Compiles IR for one host. Not thread-safe: the translator calls it under its lock."""

    config: CodegenConfig
    features: Hashable = None
    """The host's extensions that it uses. Code depends only on these, the class, the configuration and the function, so
    that the next machine can use it again. None: it may depend on more."""
    renames = False
    """Whether templates can have open registers."""
    literal_kinds: ClassVar[tuple[LiteralKind, ...]] = ()
    """Kinds of literals for which the host has shorter code than for any literal, the shortest first. Words that differ
    only in literals of one such kind share a template of their own."""
    strict: ClassVar[bool] = False
    """Whether it implements `CodegenConfig.strict`: exact reservations."""
    common_addends: ClassVar[bool] = False
    """Whether loads take the common addend from the header, where there is one, and look for it in an entry only if
    TLB_APART is set in its comparator (``raddle.runtime.layout``)."""
    reaches: ClassVar[Reaches]
    """How far from ``env`` the host's loads and stores reach: the header's fields are laid out for it."""
    disassembler: tuple[str, str] | None = None
    """Capstone's names for the host's instruction set, for logs (raddle.debug.disassembly); None: it has none."""

    @abstractmethod
    def __init__(self, config: CodegenConfig) -> None: ...

    @abstractmethod
    def template(
        self,
        code: list[Instruction],
        locals: list[Local],
        size: int,
        decode_state: int,
        next_decode_state: int,
        open_registers: Mapping[int, Field] | None = None,
    ) -> Template:
        """Compile one instruction of ``size`` guest bytes; ``decode_state`` goes into its table row.

        The runtime will put other registers in place of ``open_registers`` (by number); only if the host ``renames``.
        """

    def place(self, field: Field) -> int:
        """The kind of place, with its bank, that the host keeps the field in. Fields of one kind can be renamed to one
        another. At most 16 kinds.
        """
        return 0

    def encode(self, form: int, fields: Sequence[Field]) -> bytes:
        """Encode the host instruction ``form`` (see `pack_cut`). Its registers are the first of these fields, as many
        as it has. At most 16 bytes. Only if the host ``renames``. Thread-safe."""
        raise NotImplementedError

    @property
    def footprint(self) -> int:
        """Bytes of memory, about, that it keeps for templates besides themselves; they count in the memo's budget."""
        return 0

    def forget(self) -> None:
        """Drop what it keeps for templates with open registers: earlier templates, and the forms of their cuts, are no
        longer used. Under the translator's lock, while no vCPU runs."""

    @abstractmethod
    def routine(self, code: list[Instruction], locals: list[Local]) -> bytes:
        """Compile an IR routine to a position-independent C function ``uint64_t f(env, a0, a1, a2, a3)``."""

    @staticmethod
    @abstractmethod
    def constant(value: int) -> bytes | None:
        """A position-independent C function ``uint32_t f(void)`` that returns ``value``.

        The runtime tries memory for code with it before anything is compiled. None: something else than this machine
        runs the code.
        """

    @abstractmethod
    def rules(self) -> JoinRules:
        """How blocks are joined."""

    @abstractmethod
    def thunks(self, functions: dict[str, int]) -> Thunks:
        """The machine's thunks; ``functions`` gives addresses of the runtime's C functions by name."""
