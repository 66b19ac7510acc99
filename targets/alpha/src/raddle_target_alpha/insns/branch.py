# SPDX-License-Identifier: Apache-2.0
"""Branches and jumps (4.3)."""

from __future__ import annotations

from raddle.ir.builder import Builder
from raddle.translate.decode import Fields
from raddle_target_alpha.exceptions import INSTRUCTION_BYTES
from raddle_target_alpha.insns.common import test
from raddle_target_alpha.state import read, write


def _branch(b: Builder, f: Fields, condition: str) -> None:
    with b.if_(test(b, condition, read(b, f.a))):
        b.goto(0, f.disp)
    b.goto(INSTRUCTION_BYTES)


def BR(b: Builder, f: Fields) -> None:
    """Ra = address of the next instruction; BSR differs in what it tells a predictor of returns."""
    write(b, f.a, b.pc(INSTRUCTION_BYTES))
    b.goto(0, f.disp)


BSR = BR


def BEQ(b: Builder, f: Fields) -> None:
    _branch(b, f, "EQ")


def BNE(b: Builder, f: Fields) -> None:
    _branch(b, f, "NE")


def BLT(b: Builder, f: Fields) -> None:
    _branch(b, f, "LT")


def BLE(b: Builder, f: Fields) -> None:
    _branch(b, f, "LE")


def BGT(b: Builder, f: Fields) -> None:
    _branch(b, f, "GT")


def BGE(b: Builder, f: Fields) -> None:
    _branch(b, f, "GE")


def BLBC(b: Builder, f: Fields) -> None:
    _branch(b, f, "LBC")


def BLBS(b: Builder, f: Fields) -> None:
    _branch(b, f, "LBS")


def JMP(b: Builder, f: Fields) -> None:
    """Ra = address of the next instruction; go to Rbv without its two lowest bits. All jumps do the same (4.3.3)."""
    target = b.and_(read(b, f.b), ~3)
    write(b, f.a, b.pc(INSTRUCTION_BYTES))
    b.goto_indirect(target)


JSR = RET = JSR_COROUTINE = JMP
