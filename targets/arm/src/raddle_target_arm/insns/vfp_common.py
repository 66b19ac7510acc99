# SPDX-License-Identifier: Apache-2.0
"""What the VFP's semantics functions share: the check that the VFP is enabled, and the registers.

Registers of each size are fields of that size over the same bytes (A2.6.2), so no function converts between views.
``decode/vfp.dec`` lists the functions' operands.
"""

from __future__ import annotations

from functools import wraps

from raddle.ir.builder import Builder, Value, routine
from raddle.ir.types import Field, Type
from raddle.translate.decode import Fields
from raddle.translate.semantics import Semantics
from raddle_target_arm.insns.common import undefined
from raddle_target_arm.state import DF, FPEXC, MODE_T, MODE_VECTOR, MODE_VFP, SF, D, S


def check_enabled(b: Builder, f: Fields) -> None:
    """Emit the Undefined Instruction exception, taken while FPEXC.EN, the only bit kept of FPEXC, is 0.

    It exits to the execution loop: a branch would end the block after every VFP instruction.
    """
    with b.if_(b.eq(b.get(FPEXC), 0)):
        b.call(routine("undefined"), b.pc(2 if f.mode & MODE_T else 4), b.const(f.it, Type.I32))
        b.exit_main()


def enabled(semantics: Semantics) -> Semantics:
    """Undefined unless CPACR and FPEXC allow the VFP (CheckVFPEnabled, B1.11.2)."""

    @wraps(semantics)
    def checked(b: Builder, f: Fields) -> None:
        if f.mode & MODE_VFP:
            check_enabled(b, f)
            semantics(b, f)
        else:
            undefined(b, f)

    return checked


def scalar(semantics: Semantics) -> Semantics:
    """``enabled``, and undefined if FPSCR selects short vectors, which this CPU does not have (A2.6.1)."""

    @wraps(semantics)
    def checked(b: Builder, f: Fields) -> None:
        if f.mode & (MODE_VFP | MODE_VECTOR) == MODE_VFP:
            check_enabled(b, f)
            semantics(b, f)
        else:
            undefined(b, f)

    return checked


def read(b: Builder, f: Fields, number: int) -> Value:
    """S[number] or D[number], by ``f.double``, as F32 or F64."""
    return b.get(DF[number] if f.double else SF[number])


def write(b: Builder, f: Fields, value: Value) -> None:
    """S[d] or D[d] = value, which is F32 or F64."""
    b.set(DF[f.d] if f.double else SF[f.d], value)


def bits(f: Fields, number: int) -> Field:
    """S[number] or D[number] as a bit pattern: a field of I32 or I64."""
    return D[number] if f.double else S[number]
