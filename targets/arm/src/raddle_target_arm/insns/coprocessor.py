# SPDX-License-Identifier: Apache-2.0
"""Coprocessor instructions: system registers in coprocessors 14 and 15. Others are absent, and undefined."""

from __future__ import annotations

from raddle.ir.builder import Builder
from raddle.ir.types import Type
from raddle.translate.decode import Fields
from raddle_target_arm import sysregs
from raddle_target_arm.insns.common import PC, read, undefined, wide, write
from raddle_target_arm.state import CF, NF, VF, ZF


def MRC(b: Builder, f: Fields) -> None:
    """MRC<c> <coproc>, <opc1>, <Rt>, <CRn>, <CRm>{, <opc2>}; the flags instead of the pc   (A8.8.107)"""
    value = sysregs.read(b, (f.p, f.o, f.n, f.m, f.q), f.it, f.mode)
    if value is None:
        undefined(b, f)
    elif f.t == PC:
        for field, place in ((NF, 31), (ZF, 30), (CF, 29), (VF, 28)):
            b.set(field, b.bit(value, place))
    else:
        write(b, f, f.t, value)


def MCR(b: Builder, f: Fields) -> None:
    """MCR<c> <coproc>, <opc1>, <Rt>, <CRn>, <CRm>{, <opc2>}   (A8.8.98)"""
    end = sysregs.write(b, (f.p, f.o, f.n, f.m, f.q), read(b, f, f.t), f.it, f.mode)
    if end is None:
        undefined(b, f)
    else:
        sysregs.finish(b, end, f.length, f.next_it)


def MRRC(b: Builder, f: Fields) -> None:
    """MRRC<c> <coproc>, <opc1>, <Rt>, <Rt2>, <CRm>   (A8.8.108)"""
    value = sysregs.read(b, (f.p, f.o, f.m), f.it, f.mode)
    if value is None:
        undefined(b, f)
        return
    write(b, f, f.t, b.trunc(value, Type.I32))
    write(b, f, f.u, b.trunc(b.shr(value, 32), Type.I32))


def MCRR(b: Builder, f: Fields) -> None:
    """MCRR<c> <coproc>, <opc1>, <Rt>, <Rt2>, <CRm>   (A8.8.99)"""
    value = wide(b, read(b, f, f.u), read(b, f, f.t))
    end = sysregs.write(b, (f.p, f.o, f.m), value, f.it, f.mode)
    if end is None:
        undefined(b, f)
    else:
        sysregs.finish(b, end, f.length, f.next_it)


def CDP(b: Builder, f: Fields) -> None:
    """CDP<c> <coproc>, <opc1>, <CRd>, <CRn>, <CRm>, <opc2>   (A8.8.30)"""
    undefined(b, f)


def LDC(b: Builder, f: Fields) -> None:
    """LDC{L}<c> <coproc>, <CRd>, [<Rn>, …]   (A8.8.55, A8.8.56)"""
    undefined(b, f)


def STC(b: Builder, f: Fields) -> None:
    """STC{L}<c> <coproc>, <CRd>, [<Rn>, …]   (A8.8.198)"""
    undefined(b, f)
