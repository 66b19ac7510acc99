# SPDX-License-Identifier: Apache-2.0
"""Moves between core registers and VFP registers, and the VFP's system registers (B4.1.57 … B4.1.64, B6.1.14)."""

from __future__ import annotations

from typing import Final

from raddle.ir.builder import Builder, Value
from raddle.ir.header import COMMON
from raddle.ir.types import Type
from raddle.translate.decode import Fields
from raddle_target_arm.cpus import CORTEX_A15
from raddle_target_arm.exceptions import end_after
from raddle_target_arm.insns.common import PC, is_privileged, read, undefined, wide, write
from raddle_target_arm.insns.vfp_common import enabled
from raddle_target_arm.state import (
    CF,
    FPEXC,
    FPEXC_EN,
    FPSCR_AHP,
    FPSCR_NZCV,
    FPSCR_QC,
    FPSCR_VECTOR,
    MODE_VECTOR,
    MODE_VFP,
    NF,
    VF,
    ZF,
    D,
    S,
    update_mode,
)

# -- moves -------------------------------------------------------------------------------------------------------------


@enabled
def VMOV_core_single(b: Builder, f: Fields) -> None:
    """VMOV<c> <Sn>, <Rt>; VMOV<c> <Rt>, <Sn>   (A8.8.343)"""
    if f.L:
        write(b, f, f.t, b.get(S[f.n]))
    else:
        b.set(S[f.n], read(b, f, f.t))


@enabled
def VMOV_core_scalar(b: Builder, f: Fields) -> None:
    """VMOV<c>.32 <Dd[x]>, <Rt>; VMOV<c>.32 <Rt>, <Dn[x]>   (A8.8.341, A8.8.342)"""
    both = b.get(D[f.n])
    if f.L:
        write(b, f, f.t, b.trunc(b.shr(both, 32) if f.i else both, Type.I32))
    else:
        b.set(D[f.n], b.deposit(both, b.zext(read(b, f, f.t), Type.I64), 32 * f.i, 32))


@enabled
def VMOV_core_two_singles(b: Builder, f: Fields) -> None:
    """VMOV<c> <Sm>, <Sm1>, <Rt>, <Rt2>; VMOV<c> <Rt>, <Rt2>, <Sm>, <Sm1>   (A8.8.344)"""
    if f.L:
        write(b, f, f.t, b.get(S[f.m]))
        write(b, f, f.u, b.get(S[f.m + 1]))
    else:
        b.set(S[f.m], read(b, f, f.t))
        b.set(S[f.m + 1], read(b, f, f.u))


@enabled
def VMOV_core_double(b: Builder, f: Fields) -> None:
    """VMOV<c> <Dm>, <Rt>, <Rt2>; VMOV<c> <Rt>, <Rt2>, <Dm>   (A8.8.345)"""
    if f.L:
        both = b.get(D[f.m])
        write(b, f, f.t, b.trunc(both, Type.I32))
        write(b, f, f.u, b.trunc(b.shr(both, 32), Type.I32))
    else:
        b.set(D[f.m], wide(b, read(b, f, f.u), read(b, f, f.t)))


# -- FPSCR -------------------------------------------------------------------------------------------------------------

_FPSCR_KEPT: Final = ((FPSCR_NZCV, 0xF << 28), (FPSCR_QC, 1 << 27), (FPSCR_AHP, 1 << 26), (FPSCR_VECTOR, 0x37 << 16))
"""Fields that have their bits in place; the trap enables read as 0."""
_FPSCR_COMMON: Final = (("fp_default_nan", 25, 1), ("fp_flush", 24, 1), ("fp_rounding", 22, 3), ("fp_flags", 0, 0x9F))
"""Common fields that hold bits of FPSCR: (name, lowest bit in FPSCR, mask of the field)."""


def _read_fpscr(b: Builder) -> Value:
    value = b.const(0, Type.I32)
    for field, _ in _FPSCR_KEPT:
        value = b.or_(value, b.get(field))
    for name, place, _ in _FPSCR_COMMON:
        value = b.or_(value, b.shl(b.get(COMMON[name]), place) if place else b.get(COMMON[name]))
    return value


def _write_fpscr(b: Builder, f: Fields, value: Value) -> None:
    for field, mask in _FPSCR_KEPT:
        b.set(field, b.and_(value, mask))
    for name, place, mask in _FPSCR_COMMON:
        b.set(COMMON[name], b.and_(b.shr(value, place) if place else value, mask))
    # The block mode says whether FPSCR selects short vectors.
    vector = b.get(FPSCR_VECTOR)
    with b.if_(b.eq(vector, 0) if f.mode & MODE_VECTOR else b.ne(vector, 0)):
        update_mode(b)
        end_after(b, f.length, f.next_it)


def _flags_from_fpscr(b: Builder) -> None:
    nzcv = b.get(FPSCR_NZCV)
    for flag, place in ((NF, 31), (ZF, 30), (CF, 29), (VF, 28)):
        b.set(flag, b.bit(nzcv, place))


@enabled
def _vmrs_fpscr(b: Builder, f: Fields) -> None:
    if f.t == PC:
        _flags_from_fpscr(b)
    else:
        write(b, f, f.t, _read_fpscr(b))


@enabled
def _vmsr_fpscr(b: Builder, f: Fields) -> None:
    _write_fpscr(b, f, read(b, f, f.t))


# -- the system registers ----------------------------------------------------------------------------------------------

_FPSCR, _FPEXC = 1, 8
_CONSTANTS: Final = {0: CORTEX_A15.fpsid, 6: CORTEX_A15.mvfr1, 7: CORTEX_A15.mvfr0}
"""FPSID, MVFR1 and MVFR0, by register number."""


def _system_access(f: Fields) -> bool:
    """Registers other than FPSCR are accessible only at PL1, but also while FPEXC.EN is 0."""
    return is_privileged(f) and bool(f.mode & MODE_VFP)


def VMRS(b: Builder, f: Fields) -> None:
    """VMRS<c> <Rt>, <spec_reg>; VMRS<c> APSR_nzcv, FPSCR   (A8.8.348, B9.3.22)"""
    if f.r == _FPSCR:
        _vmrs_fpscr(b, f)
    elif not _system_access(f):
        undefined(b, f)
    elif f.r == _FPEXC:
        write(b, f, f.t, b.get(FPEXC))
    else:
        write(b, f, f.t, b.const(_CONSTANTS[f.r], Type.I32))


def VMSR(b: Builder, f: Fields) -> None:
    """VMSR<c> <spec_reg>, <Rt>: a write to FPSID is ignored   (A8.8.349, B9.3.23)"""
    if f.r == _FPSCR:
        _vmsr_fpscr(b, f)
    elif not _system_access(f):
        undefined(b, f)
    elif f.r == _FPEXC:
        b.set(FPEXC, b.and_(read(b, f, f.t), FPEXC_EN))
