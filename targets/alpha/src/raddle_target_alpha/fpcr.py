# SPDX-License-Identifier: Apache-2.0
"""The floating-point control register, FPCR (Alpha Architecture Reference Manual, 4.7.8).

====================  ================================================================================================
status and control    the field ``fpcr_rest``, in their places
INV, DZE, OVF, UNF    bits 55:52; also bits 3:0 of the common field ``fp_flags``: the status bit is 1 if either one is
SUM                   bit 63: whether a status bit is 1
====================  ================================================================================================

IEEE arithmetic without traps leaves exceptions in ``fp_flags``. All other instructions look at what is there, and move
it to ``fpcr_rest``.

An instruction with /S sets only the status bits of exceptions that its qualifiers ask for. So few of them set INE, and
bit 4 of ``fp_flags``, by which the core says that a result was inexact, is 1 but within those that do: hosts need not
look whether a result is inexact where that is known.

FPCR also decides what instructions with /S are: without traps, denormal operands and results included, they are what
IEEE 754 says by default, and so are their translations. All else is ``MODE_CARE`` in the block mode.
"""

from __future__ import annotations

from typing import Any, Final

from raddle.ir.builder import Builder, Value
from raddle.ir.header import COMMON
from raddle.ir.types import Condition, Type
from raddle.translate.frontend import RoutineBuilder, View
from raddle_target_alpha.state import DYNAMIC, FPCR_REST, MODE_CARE

INV, DZE, OVF, UNF, INE, IOV = (1 << n for n in range(6))
"""Exceptions in the order of FPCR's status bits; the common field ``fp_flags`` has all but IOV so, too."""

STATUS_SHIFT: Final = 52
SUM_SHIFT: Final = 63
IN_FLAGS: Final = INV | DZE | OVF | UNF
"""The status bits that ``fp_flags`` has, too."""
STATUS: Final = IN_FLAGS | INE | IOV
INED, UNFD, UNDZ, DNZ, DNOD = (1 << n for n in (62, 61, 60, 48, 47))
DYN_SHIFT: Final = 58
INVD_SHIFT, UNFD_SHIFT = 49, 61
"""INVD, DZED and OVFD, and UNFD and INED, are the disables of the exceptions, in the same order."""
INVD_TO_OVFD: Final = 7 << INVD_SHIFT
CONTROL: Final = INED | UNFD | UNDZ | 3 << DYN_SHIFT | INVD_TO_OVFD | DNZ | DNOD
_REST: Final = CONTROL | STATUS << STATUS_SHIFT

_EASY_MASK: Final = INED | UNFD | UNDZ | INVD_TO_OVFD | DNZ | DNOD
_EASY: Final = INED | UNFD | INVD_TO_OVFD | DNOD
"""All traps are disabled, denormal operands are handled, and nothing is flushed to zero."""


def read_fpcr(b: Builder) -> Value:
    """Emit IR for FPCR, I64."""
    status = b.zext(b.and_(b.get(COMMON["fp_flags"]), IN_FLAGS), Type.I64)
    value = b.or_(b.get(FPCR_REST), b.shl(status, STATUS_SHIFT))
    summary = b.ne(b.and_(value, STATUS << STATUS_SHIFT), 0)
    return b.or_(value, b.shl(b.zext(summary, Type.I64), SUM_SHIFT))


def write_fpcr(b: Builder, value: Value) -> None:
    """Emit IR that sets FPCR and the block mode; the block must end after it."""
    b.set(FPCR_REST, b.and_(value, _REST))
    b.set(COMMON["fp_flags"], INE)
    # DYN 0 chopped, 1 down, 2 nearest, 3 up; fp_rounding 3 zero, 2 down, 0 nearest, 1 up
    code = b.xor(b.trunc(b.extract(value, DYN_SHIFT, 2), Type.I32), 2)
    b.set(DYNAMIC, b.xor(code, b.shr(code, 1)))
    care = b.shl(b.zext(b.ne(b.and_(value, _EASY_MASK), _EASY), Type.I32), MODE_CARE.bit_length() - 1)
    b.set(COMMON["mode"], b.or_(b.and_(b.get(COMMON["mode"]), ~MODE_CARE), care))


def get_fpcr(cpu: Any) -> int:
    """FPCR of a vCPU that is paused or the calling thread's own."""
    value = int(cpu[FPCR_REST.name] | (cpu["fp_flags"] & IN_FLAGS) << STATUS_SHIFT)
    return value | bool(value >> STATUS_SHIFT & STATUS) << SUM_SHIFT


def set_fpcr(cpu: Any, value: int) -> None:
    """The same for a write, with the block mode."""
    cpu[FPCR_REST.name] = value & _REST
    cpu["fp_flags"] = INE
    cpu[DYNAMIC.name] = (3, 2, 0, 1)[value >> DYN_SHIFT & 3]
    cpu["mode"] = cpu["mode"] & ~MODE_CARE | (0 if value & _EASY_MASK == _EASY else MODE_CARE)


def large_to_integer(b: Builder) -> None:
    """CVTTQ of a T number of at least 2**63, infinity or NaN: the low 64 bits of its integer. The exceptions go into
    ``fp_flags``, IOV too, which the caller takes out.
    """
    value, flags = b.get(COMMON["arg0"]), COMMON["fp_flags"]
    exponent = b.trunc(b.extract(value, 52, 11), Type.I32)
    with b.if_(b.eq(exponent, 0x7FF)):
        b.set(flags, b.or_(b.get(flags), INV))
        b.ret(b.const(0, Type.I64))
    with b.if_(b.ne(value, _LEAST_INTEGER)):
        b.set(flags, b.or_(b.get(flags), IOV | INE))
    shift = b.sub(exponent, 1023 + 52)
    mantissa = b.or_(b.extract(value, 0, 52), 1 << 52)
    low = b.select(b.icmp(Condition.ULT, shift, 64), b.shl(mantissa, shift), 0)
    b.ret(b.select(b.bit(value, 63), b.neg(low), low))


_LEAST_INTEGER: Final = 0xC3E0_0000_0000_0000
"""-2**63."""

ROUTINES: Final[dict[str, RoutineBuilder]] = {"large_to_integer": large_to_integer}
VIEWS: Final = {"fpcr": View(get_fpcr, set_fpcr, 64)}
