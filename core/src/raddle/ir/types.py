# SPDX-License-Identifier: Apache-2.0
"""Value types, guest state fields, memory-operation descriptors and literal holes: the nouns of the IR."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Any, NamedTuple


class Type(IntEnum):
    """Type of an IR value or of a state field. ``I1`` is a truth value (0 or 1, one byte in the guest state).

    ``V128`` is for state fields only, which Python can read and write: no IR operation works on it.
    """

    VOID = 0
    I1 = 1
    I32 = 2
    I64 = 3
    F32 = 4
    F64 = 5
    V128 = 6

    @property
    def bits(self) -> int:
        """Width of the value in bits."""
        return _BITS[self]

    @property
    def size(self) -> int:
        """Bytes that a state field of this type takes."""
        return _SIZES[self]


_BITS = {Type.VOID: 0, Type.I1: 1, Type.I32: 32, Type.I64: 64, Type.F32: 32, Type.F64: 64, Type.V128: 128}
_SIZES = {Type.VOID: 0, Type.I1: 1, Type.I32: 4, Type.I64: 8, Type.F32: 4, Type.F64: 8, Type.V128: 16}


class Condition(IntEnum):
    """Integer comparison of ``icmp``: the unsigned orders start with ``U``, the signed ones with ``S``.

    A condition and its negation differ in the lowest bit only.
    """

    EQ = 0
    NE = 1
    ULT = 2
    UGE = 3
    ULE = 4
    UGT = 5
    SLT = 6
    SGE = 7
    SLE = 8
    SGT = 9


class FlagCondition(IntEnum):
    """Condition over the guest's N, Z, C and V flags, for ``cond``.

    C is the carry of an addition and the *inverted* borrow of a subtraction. A condition and its negation differ in
    the lowest bit only.
    """

    EQ = 0
    NE = 1
    CS = 2
    CC = 3
    MI = 4
    PL = 5
    VS = 6
    VC = 7
    HI = 8
    LS = 9
    GE = 10
    LT = 11
    GT = 12
    LE = 13


class NanChoice(IntEnum):
    """Which of several NaN operands the result of a floating-point operation comes from."""

    SIGNALLING_FIRST = 0
    """The first signalling one in the order of the operands, else the first one."""
    FIRST = 1
    LAST = 2


class FloatRules(NamedTuple):
    """What IEEE 754 leaves to an architecture, as a guest's front end declares it. See raddle.ir.floats."""

    tiny_after_rounding: bool = False
    """Whether tininess, and so underflow and flushing to zero, is detected after rounding: what rounds to the least
    normal number, were there no end to the exponents, is not tiny."""
    nan: NanChoice = NanChoice.SIGNALLING_FIRST
    negative_default_nan: bool = False
    """The sign of the default NaN: the result of an invalid operation and, with ``fp_default_nan``, each NaN result."""

    @property
    def bits(self) -> int:
        """For the common field ``fp_rules``: tiny_after_rounding | nan << 1 | negative_default_nan << 3."""
        return self.tiny_after_rounding | self.nan << 1 | self.negative_default_nan << 3

    @classmethod
    def from_bits(cls, bits: int) -> FloatRules:
        """What the common field ``fp_rules`` holds."""
        return cls(bool(bits & 1), NanChoice(bits >> 1 & 3), bool(bits >> 3 & 1))


LiteralRange = tuple[int, int]
"""(least, greatest) value of a literal, as a signed number of 32 bits."""

ANY_LITERAL: LiteralRange = (-(1 << 31), (1 << 31) - 1)


class LiteralKind(NamedTuple):
    """Literals from ``low`` to ``high``, signed numbers of 32 bits, that are multiples of ``step``, a power of two."""

    low: int
    high: int
    step: int = 1

    def has(self, other: LiteralKind) -> bool:
        """Whether all literals of the other kind are of this kind."""
        return self.low <= other.low and other.high <= self.high and other.step % self.step == 0


def _refused(operator: str) -> Callable[..., Any]:
    """A method of `Hole` that raises TypeError for Python's `operator`."""

    def refuse(hole: Hole, *_: object) -> Any:
        raise TypeError(
            f"Python's {operator} cannot look at {hole.name}, which is a literal hole: words with other values share "
            f"this translation. Emit IR that computes with it (`b.add`, `b.eq` ... take a hole where they take a "
            f"number), or let the decode table say {hole.name}=function(...) instead of ~, so that each value is "
            "translated by itself"
        )

    return refuse


@dataclass(frozen=True, slots=True, eq=False)
class Hole:
    """A literal operand left open when an instruction is translated; filled in for every word that shares the template.

    ``index`` is its place in the decode pattern's ``hole_values``. A hole is a 32-bit constant to the IR (sign-extended
    where a 64-bit operand is wanted). Python can neither compute with it nor ask whether it is 0 (TypeError), so no
    semantics function depends on its value. Holes are equal if they are the same literal. A host may look at its
    ``range`` and ``step``, to choose a shorter form of an instruction for literals that all fit there.
    """

    index: int
    name: str
    find_range: Callable[[], LiteralRange] | None = field(default=None, repr=False)
    """Finds ``range``; None: nothing is known of it."""
    never: frozenset[int] = field(default=frozenset(), repr=False)
    """Values that the literal has in no word that shares the template: whether it is one of them may be asked."""
    step: int = field(default=1, repr=False)
    """A power of two of which the literal is a multiple in every word that shares the template."""

    @property
    def range(self) -> LiteralRange:
        """The least and the greatest value that the literal can have in a word that shares the template, as a signed
        number of 32 bits."""
        return ANY_LITERAL if self.find_range is None else self.find_range()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Hole):
            return (self.index, self.name) == (other.index, other.name)
        if not isinstance(other, int):
            return NotImplemented
        if other not in self.never:
            _refused("==")(self)
        return False

    def __hash__(self) -> int:
        return hash((self.index, self.name))

    def __bool__(self) -> bool:
        if 0 not in self.never:
            _refused("condition")(self)
        return True

    __int__ = __index__ = _refused("int()")
    __lt__ = __le__ = __gt__ = __ge__ = _refused("comparison")
    __add__ = __radd__ = _refused("+")
    __sub__ = __rsub__ = _refused("-")
    __mul__ = __rmul__ = _refused("*")
    __floordiv__ = __rfloordiv__ = _refused("//")
    __mod__ = __rmod__ = _refused("%")
    __and__ = __rand__ = _refused("&")
    __or__ = __ror__ = _refused("|")
    __xor__ = __rxor__ = _refused("^")
    __lshift__ = __rlshift__ = _refused("<<")
    __rshift__ = __rrshift__ = _refused(">>")
    __neg__ = _refused("-")
    __invert__ = _refused("~")


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """One named, typed field of a guest's CPU state.

    ``offset`` is in bytes from the start of the guest state. ``hot`` is the field's rank among those that the host
    should keep in registers of its own (0 is the hottest), -1 for none.
    """

    name: str
    type: Type
    offset: int
    hot: int = -1

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, eq=False)
class FieldArray:
    """An array of equal fields: ``elements[i]`` is for ``get``/``set``, the whole for ``get_at``/``set_at``."""

    name: str
    type: Type
    offset: int
    elements: tuple[Field, ...]

    def __getitem__(self, index: int) -> Field:
        if not -len(self.elements) <= index < len(self.elements):
            raise IndexError(f"{self.name} has {len(self.elements)} elements, and none has the number {index}")
        return self.elements[index]

    def __len__(self) -> int:
        return len(self.elements)

    def __iter__(self) -> Iterator[Field]:
        return iter(self.elements)


class StateLayout:
    """The layout of a guest's CPU state: fields get their offsets in the order in which they are declared.

    Declare hot fields first: some hosts encode offsets below 128 in fewer bytes. ``hot`` ranks fields that the host
    should keep in registers of its own (0 is the hottest). ``nzcv`` names the four I1 fields that ``set_nzcv`` and
    ``cond`` use.
    """

    def __init__(self) -> None:
        self.fields: dict[str, Field] = {}
        self.arrays: dict[str, FieldArray] = {}
        self.size = 0
        self.nzcv: tuple[Field, Field, Field, Field] | None = None

    def field(self, name: str, type: Type, hot: int = -1) -> Field:
        """Append one field, naturally aligned. Raises ValueError when the name is taken."""
        if name in self.fields:
            raise ValueError(f"state field {name!r} is declared twice")
        size = type.size
        self.size = -(-self.size // size) * size
        field = Field(name, type, self.size, hot=hot)
        self.size += size
        self.fields[name] = field
        return field

    def array(
        self, name: str, type: Type, count: int, names: tuple[str, ...] | None = None, hot: tuple[int, ...] = ()
    ) -> FieldArray:
        """Append ``count`` fields named ``name0``… (or as ``names`` says); element i is hot as ``hot[i]``, and those
        after the last of ``hot`` have no rank. Raises ValueError when a name is taken, or when there are not as many
        names as fields, or more ranks.
        """
        if len(names or range(count)) != count:
            raise ValueError(f"array {name!r} has {count} elements, and {len(names or ())} names")
        if len(hot) > count:
            raise ValueError(f"array {name!r} has {count} elements, and {len(hot)} ranks in `hot`")
        elements = tuple(
            self.field(names[i] if names else f"{name}{i}", type, hot[i] if i < len(hot) else -1) for i in range(count)
        )
        array = FieldArray(name, type, elements[0].offset, elements)
        self.arrays[name] = array
        return array

    @cached_property
    def hot_fields(self) -> tuple[Field, ...]:
        """Fields with a rank, hottest first."""
        return tuple(sorted((f for f in self.fields.values() if f.hot >= 0), key=lambda f: f.hot))


class Align(IntEnum):
    """Alignment that an access must have, as log2 of bytes. ``NATURAL`` is resolved by ``MemOp`` to its own size."""

    NONE = 0
    HALF = 1
    WORD = 2
    DOUBLE = 3
    QUAD = 4
    NATURAL = 7


MMU_INDICES = 4
"""How many MMU indices a target may use for its accesses (0 … MMU_INDICES - 1)."""


@dataclass(frozen=True, slots=True)
class MemOp:
    """How memory is accessed.

    ``size`` is in bytes (1, 2, 4, 8, 16); a load narrower than its result is sign- or zero-extended; ``align`` is the
    alignment whose violation raises the guest's alignment fault (``Align.NONE``: any address will do); ``order`` is the
    set of MemoryOrder bits that the access itself carries beyond the guest's default: a load's are LD_LD | LD_ST
    (acquire), a store's LD_ST | ST_ST (release), an atomic operation's all three. Whatever else is wanted, ST_LD above
    all, is a barrier of its own (``mb``). So acquire and release are RCpc: a release may be seen after a later acquire
    of the same vCPU. RCsc is ``mb(ST_LD)`` before each access that acquires.
    """

    size: int
    signed: bool = False
    big_endian: bool = False
    align: Align = Align.NONE
    order: int = 0

    @property
    def align_bytes(self) -> int:
        """Required alignment in bytes, 1 when any address will do."""
        return self.size if self.align is Align.NATURAL else 1 << self.align

    @property
    def swaps(self) -> bool:
        """Whether the bytes are in the reverse order of a little-endian host's."""
        return self.big_endian and self.size > 1

    def encode(self, mmu_index: int) -> int:
        """For slow paths: size_log2 | signed << 3 | big_endian << 4 | align_log2 << 5 | mmu_index << 8."""
        align = self.size.bit_length() - 1 if self.align is Align.NATURAL else int(self.align)
        return (self.size.bit_length() - 1) | self.signed << 3 | self.big_endian << 4 | align << 5 | mmu_index << 8
