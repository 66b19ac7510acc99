# SPDX-License-Identifier: Apache-2.0
"""The registers of an Alpha CPU as a user of Python meets them: their names, for people and type checkers.

machine: raddle.Machine[AlphaRegisters] = raddle.Machine("clipper")
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["AlphaRegisters"]


class AlphaRegisters(Protocol):
    """All of them, as unsigned numbers. Exact while the machine is paused. `f0` … `f30` are bit patterns in register
    format.
    """

    r0: int
    r1: int
    r2: int
    r3: int
    r4: int
    r5: int
    r6: int
    r7: int
    r8: int
    r9: int
    r10: int
    r11: int
    r12: int
    r13: int
    r14: int
    r15: int
    r16: int
    r17: int
    r18: int
    r19: int
    r20: int
    r21: int
    r22: int
    r23: int
    r24: int
    r25: int
    r26: int
    r27: int
    r28: int
    r29: int
    r30: int
    f0: int
    f1: int
    f2: int
    f3: int
    f4: int
    f5: int
    f6: int
    f7: int
    f8: int
    f9: int
    f10: int
    f11: int
    f12: int
    f13: int
    f14: int
    f15: int
    f16: int
    f17: int
    f18: int
    f19: int
    f20: int
    f21: int
    f22: int
    f23: int
    f24: int
    f25: int
    f26: int
    f27: int
    f28: int
    f29: int
    f30: int
    pc: int
    fpcr: int
    ps: int
    unique: int
    ksp: int
    usp: int
    ptbr: int
    pcbb: int
