# SPDX-License-Identifier: Apache-2.0
"""The thunks: how generated code is entered and left, and how it calls the runtime's C functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raddle.codegen.allocation import RegisterPool
from raddle.codegen.backend import Thunks
from raddle.codegen.locations import FRAME_BYTES, Register
from raddle.ir.header import OFFSET
from raddle.ir.types import Field, Type
from raddle.runtime.layout import JUMP_GROUP_BITS
from raddle_host_x86_64 import conditions as cc
from raddle_host_x86_64.assembler import Assembler
from raddle_host_x86_64.registers import (
    FLOATING,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
    RAX,
    RBP,
    RBX,
    RCX,
    RDI,
    RDX,
    RSI,
    RSP,
)  # fmt: skip

_SAVED: Final = (RBX, RBP, R12, R13, R14, R15)
_CALLER_SAVED: Final = (RAX, RCX, RDX, RSI, RDI, R8, R9, R10, R11)


def make_thunks(functions: dict[str, int], pinned: Sequence[tuple[Field, Register]], values: RegisterPool) -> Thunks:
    """The thunks of a machine whose generated code keeps ``pinned`` fields and its ``values`` in these registers."""
    return _Maker(pinned, values).thunks(functions)


class _Maker:
    def __init__(self, pinned: Sequence[tuple[Field, Register]], values: RegisterPool) -> None:
        self._pinned = pinned
        self._values = [register.number for register in values.registers]

    def thunks(self, functions: dict[str, int]) -> Thunks:
        by_field = {
            "thunk_exit": self._leave_thunk(0),
            "thunk_chain": self._leave_thunk(-1),
            "thunk_indirect": self._indirect_thunk(),
            "thunk_load": self._slow_thunk(functions["raddle_slow_load"], 1),
            "thunk_store": self._slow_thunk(functions["raddle_slow_store"], 1),
            "thunk_atomic": self._slow_thunk(functions["raddle_slow_atomic"], 2),
            "thunk_call": self._call_thunk(functions["raddle_call_helper"]),
        }
        return Thunks(self._enter_thunk(), by_field)

    def _load_pinned(self, a: Assembler) -> None:
        for field, register in self._pinned:
            if register.register_class is FLOATING:
                a.MOVQ_vm(register.number, RBP, field.offset)
                continue
            (a.MOVQ_rm if field.type is Type.I64 else a.MOV_rm)(register.number, RBP, field.offset)

    def _store_pinned(self, a: Assembler) -> None:
        for field, register in self._pinned:
            if register.register_class is FLOATING:
                a.MOVQ_mv(RBP, field.offset, register.number)
                continue
            (a.MOVQ_mr if field.type is Type.I64 else a.MOV_mr)(RBP, field.offset, register.number)

    def _enter_thunk(self) -> bytes:
        a = Assembler()
        for register in _SAVED:
            a.PUSH_r(register)
        a.SUBQ_ri(RSP, FRAME_BYTES + 8)
        a.MOVQ_rr(RBP, RDI)
        a.MOVQ_mr(RBP, OFFSET["saved_sp"], RSP)
        a.MOVQ_rr(RAX, RSI)
        self._load_pinned(a)
        a.JMP_r(RAX)
        return a.finish()

    @staticmethod
    def _return_to_loop(a: Assembler) -> None:
        """Return to the caller of `enter`: rax is the result. The state holds all guest registers."""
        a.MOVQ_rm(RSP, RBP, OFFSET["saved_sp"])
        a.ADDQ_ri(RSP, FRAME_BYTES + 8)
        for register in reversed(_SAVED):
            a.POP_r(register)
        a.RET()

    def _leave_thunk(self, answer: int) -> bytes:
        a = Assembler()
        self._store_pinned(a)
        if answer >= 0:
            a.XOR_rr(RAX, RAX)
        self._return_to_loop(a)
        return a.finish()

    def _indirect_thunk(self) -> bytes:
        """Look the guest address in rax up in the jump cache, and go on there.

        The jump cache's index: see `raddle.runtime.layout.JUMP_CACHE_ENTRIES`.
        """
        a = Assembler()
        miss = a.label()
        a.MOVQ_mr(RBP, OFFSET["pc"], RAX)
        a.MOVQ_rr(RCX, RAX)
        a.SHRQ_ri(RCX, 1)
        a.MOVQ_rr(RDX, RAX)
        a.SHRQ_ri(RDX, JUMP_GROUP_BITS + 1)
        a.XOR_rr(RCX, RDX)
        a.AND_ri(RCX, (1 << JUMP_GROUP_BITS) - 1)
        a.SHRQ_ri(RDX, 12 - (JUMP_GROUP_BITS + 1))
        a.AND_ri(RDX, 63)
        a.SHL_ri(RDX, JUMP_GROUP_BITS)
        a.OR_rr(RCX, RDX)
        a.SHL_ri(RCX, 5)
        a.ADDQ_rm(RCX, RBP, OFFSET["jump_cache"])
        a.CMPQ_rm(RAX, RCX, 0)
        a.Jcc_near(cc.NE, miss)
        a.MOV_rm(RDX, RBP, OFFSET["mode"])
        a.CMP_rm(RDX, RCX, 8)
        a.Jcc_near(cc.NE, miss)
        a.JMP_m(RCX, 16)
        a.bind(miss)
        self._store_pinned(a)
        a.XOR_rr(RAX, RAX)
        self._return_to_loop(a)
        return a.finish()

    def _slow_thunk(self, function: int, extra: int) -> bytes:
        """Call f(env, return address, oi[, operation]). oi (`MemOp.encode`) is in ecx, the operation in edx.

        A result of 1 leaves the block.
        """
        a = Assembler()
        self._store_pinned(a)
        kept = [r for r in self._values if r in _CALLER_SAVED]
        for register in kept:
            a.PUSH_r(register)
        # The stack is aligned to 16 bytes at the call if an odd number of registers lies above the return address.
        pad = 0 if len(kept) % 2 else 8
        if pad:
            a.SUBQ_ri(RSP, pad)
        if extra == 2:
            a.MOV_rr(R10, RDX)
        a.MOVQ_rr(RDI, RBP)
        a.MOVQ_rm(RSI, RSP, 8 * len(kept) + pad)
        a.MOV_rr(RDX, RCX)
        if extra == 2:
            a.MOV_rr(RCX, R10)
        return self._call(a, function, pad, kept)

    def _call_thunk(self, function: int) -> bytes:
        """Call the helper whose number is in eax. Its arguments and its result are in the header."""
        a = Assembler()
        self._store_pinned(a)
        a.MOVQ_rr(RDI, RBP)
        a.MOV_rr(RSI, RAX)
        a.MOVQ_rm(RDX, RSP, 0)
        a.SUBQ_ri(RSP, 8)
        return self._call(a, function, 8, ())

    def _call(self, a: Assembler, function: int, pad: int, kept: Sequence[int]) -> bytes:
        """The end of a thunk: call the C function, and go on in the block, or leave it if the result is 1.

        The stack holds, from the top: ``pad`` bytes, the registers ``kept``, the return address into the block.
        """
        leave = a.label()
        a.MOVABS_ri(RAX, function)
        a.CALL_r(RAX)
        a.TEST_rr(RAX, RAX)
        a.Jcc_near(cc.NE, leave)
        if pad:
            a.ADDQ_ri(RSP, pad)
        for register in reversed(kept):
            a.POP_r(register)
        self._load_pinned(a)
        a.RET()
        a.bind(leave)
        a.XOR_rr(RAX, RAX)
        self._return_to_loop(a)
        return a.finish()
