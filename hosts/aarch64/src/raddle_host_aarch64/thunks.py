# SPDX-License-Identifier: Apache-2.0
"""The thunks: how generated code is entered and left, and how it calls the runtime's C functions.

C functions find the guest's registers, flags and floating-point flags in the state, and FPCR as it was before `enter`.
They may change all of these, so thunks load them again afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from raddle.codegen.backend import Thunks
from raddle.codegen.locations import FRAME_BYTES, Register
from raddle.ir.header import OFFSET
from raddle.ir.types import Field, Type
from raddle.runtime.layout import JUMP_GROUP_BITS, TLB_ENTRIES, TLB_ENTRY_SIZE, TLB_OFFSET
from raddle_host_aarch64.assembler import Assembler
from raddle_host_aarch64.emitter import (
    CALLEE_SAVED,
    ENV,
    SCRATCH,
    SCRATCH2,
    TLBS,
    Emitter,
    emit_constant,
    emit_float_control,
    emit_float_flags,
    load_host_flags,
    store_host_flags,
)
from raddle_host_aarch64.registers import (
    SP,
    V8,
    V9,
    V10,
    V11,
    V12,
    V13,
    V14,
    V15,
    X0,
    X1,
    X2,
    X3,
    X19,
    X20,
    X21,
    X22,
    X23,
    X24,
    X25,
    X26,
    X27,
    X28,
    X29,
    X30,
)

_SAVED_FLOATS: Final = (V8, V9, V10, V11, V12, V13, V14, V15)
"""C functions preserve the low 64 bits of these."""
_SAVED: Final = ((X19, X20), (X21, X22), (X23, X24), (X25, X26), (X27, X28), (X29, X30))
_SAVED_BYTES: Final = 16 * len(_SAVED) + 8 * len(_SAVED_FLOATS)
_PAIR_REACH: Final = 64
"""A pair's displacement is a signed number of seven bits, in units of its registers' size."""


def make_thunks(functions: dict[str, int], emitter: Emitter) -> Thunks:
    """The thunks of a machine whose generated code keeps fields, flags and values where this emitter says."""
    return _Maker(emitter).thunks(functions)


class _Maker:
    def __init__(self, emitter: Emitter) -> None:
        self._pinned = emitter.pinned_fields
        self._values = emitter.general.registers
        self._nzcv = emitter.nzcv_fields() if emitter.pins_flags else ()
        self._floats = emitter.inline_floats

    def thunks(self, functions: dict[str, int]) -> Thunks:
        by_field = {
            "thunk_exit": self._leave_thunk(0),
            "thunk_chain": self._leave_thunk(-1),
            "thunk_indirect": self._indirect_thunk(),
            "thunk_load": self._slow_thunk(functions["raddle_slow_load"]),
            "thunk_store": self._slow_thunk(functions["raddle_slow_store"]),
            "thunk_atomic": self._slow_thunk(functions["raddle_slow_atomic"]),
            "thunk_call": self._call_thunk(functions["raddle_call_helper"]),
        }
        return Thunks(self._enter_thunk(), by_field, self._synchronise())

    @staticmethod
    def _synchronise() -> bytes:
        a = Assembler()
        a.ISB()
        a.RET()
        return a.finish()

    # -- the guest's state ---------------------------------------------------------------------------------------------

    def _pairs(self) -> Iterator[tuple[tuple[Field, Register], tuple[Field, Register] | None]]:
        """Pinned fields and their registers, two at a time where the fields are neighbours within a pair's reach."""
        rest = sorted(self._pinned, key=lambda pin: pin[0].offset)
        while rest:
            first, *rest = rest
            size = first[0].type.size
            near = -_PAIR_REACH * size <= first[0].offset < _PAIR_REACH * size
            if rest and near and rest[0][0].type is first[0].type and rest[0][0].offset == first[0].offset + size:
                second, *rest = rest
                yield first, second
            else:
                yield first, None

    def _load_state(self, a: Assembler) -> None:
        if self._floats:
            a.MSR_FPSR_x(31)
            emit_float_control(a)
        if self._nzcv:
            load_host_flags(a, self._nzcv)
        for (field, register), second in self._pairs():
            wide = field.type is Type.I64
            if second is None:
                (a.GET_xxi if wide else a.GET_wxi)(register.number, ENV, field.offset)
            else:
                (a.LDP_xxxi if wide else a.LDP_wwxi)(register.number, second[1].number, ENV, field.offset)

    def _store_state(self, a: Assembler) -> None:
        """Overwrites the scratch registers x16 and x17 if there are flags or floats."""
        for (field, register), second in self._pairs():
            wide = field.type is Type.I64
            if second is None:
                (a.PUT_xxi if wide else a.PUT_wxi)(register.number, ENV, field.offset)
            else:
                (a.STP_xxxi if wide else a.STP_wwxi)(register.number, second[1].number, ENV, field.offset)
        if self._nzcv:
            store_host_flags(a, self._nzcv)
        if self._floats:
            emit_float_flags(a)
            a.GET_xxi(SCRATCH, ENV, OFFSET["host_fp_control"])
            a.MSR_FPCR_x(SCRATCH)

    # -- in and out ----------------------------------------------------------------------------------------------------

    def _enter_thunk(self) -> bytes:
        a = Assembler()
        a.SUB_xxi(SP, SP, _SAVED_BYTES)
        for n, (first, second) in enumerate(_SAVED):
            a.STP_xxxi(first, second, SP, 16 * n)
        for n, register in enumerate(_SAVED_FLOATS):
            a.STR_dxi(register, SP, 16 * len(_SAVED) + 8 * n)
        a.SUB_xxi(SP, SP, FRAME_BYTES)
        a.MOV_xx(ENV, X0)
        a.MOV_xsp(SCRATCH)
        a.PUT_xxi(SCRATCH, ENV, OFFSET["saved_sp"])
        emit_constant(a, SCRATCH, TLB_OFFSET & (1 << 64) - 1)
        a.ADD_xxx(TLBS[0], ENV, SCRATCH)
        for one, following in pairwise(TLBS):
            a.ADD_xxi(following, one, TLB_ENTRIES * TLB_ENTRY_SIZE)
        if self._floats:
            a.MRS_x_FPCR(SCRATCH)
            a.PUT_xxi(SCRATCH, ENV, OFFSET["host_fp_control"])
        a.MOV_xx(X0, X1)
        self._load_state(a)
        a.BR_x(X0)
        return a.finish()

    @staticmethod
    def _return_to_loop(a: Assembler) -> None:
        """Return to the caller of `enter`: x0 is the result. The state holds all guest registers."""
        a.GET_xxi(SCRATCH, ENV, OFFSET["saved_sp"])
        a.ADD_xxi(SP, SCRATCH, FRAME_BYTES)
        for n, (first, second) in enumerate(_SAVED):
            a.LDP_xxxi(first, second, SP, 16 * n)
        for n, register in enumerate(_SAVED_FLOATS):
            a.LDR_dxi(register, SP, 16 * len(_SAVED) + 8 * n)
        a.ADD_xxi(SP, SP, _SAVED_BYTES)
        a.RET()

    def _leave_thunk(self, answer: int) -> bytes:
        """If `answer` is negative, x0 holds the result already."""
        a = Assembler()
        self._store_state(a)
        if answer >= 0:
            a.MOVZ_xi(X0, answer)
        self._return_to_loop(a)
        return a.finish()

    def _indirect_thunk(self) -> bytes:
        """Look the guest address in x0 up in the jump cache, and go on there.

        The jump cache's index: see `raddle.runtime.layout.JUMP_CACHE_ENTRIES`.
        """
        a = Assembler()
        miss = a.label()
        a.PUT_xxi(X0, ENV, OFFSET["pc"])
        a.LSR_xxi(SCRATCH, X0, 1)
        a.EOR_xxx_lsr(SCRATCH, SCRATCH, X0, JUMP_GROUP_BITS + 1)
        a.UBFX_xxii(SCRATCH, SCRATCH, 0, JUMP_GROUP_BITS)
        a.UBFX_xxii(SCRATCH2, X0, 12, 6)
        a.BFI_xxii(SCRATCH, SCRATCH2, JUMP_GROUP_BITS, 6)
        a.GET_xxi(SCRATCH2, ENV, OFFSET["jump_cache"])
        a.ADD_xxx_lsl(SCRATCH, SCRATCH2, SCRATCH, 5)
        a.LDR_xxi(SCRATCH2, SCRATCH, 0)
        a.EOR_xxx(SCRATCH2, SCRATCH2, X0)
        a.CBNZ_x_label(SCRATCH2, miss)
        a.LDR_wxi(SCRATCH2, SCRATCH, 8)
        a.GET_wxi(X0, ENV, OFFSET["mode"])
        a.EOR_www(SCRATCH2, SCRATCH2, X0)
        a.CBNZ_w_label(SCRATCH2, miss)
        a.LDR_xxi(SCRATCH, SCRATCH, 16)
        a.BR_x(SCRATCH)
        a.bind(miss)
        self._store_state(a)
        a.MOVZ_xi(X0, 0)
        self._return_to_loop(a)
        return a.finish()

    # -- calls ---------------------------------------------------------------------------------------------------------

    def _slow_thunk(self, function: int) -> bytes:
        """Call f(env, return address, oi, operation). oi (`MemOp.encode`) is in w16, the operation, if any, in w0.

        A result other than 0 leaves the block. Value registers keep their values.
        """
        a = Assembler()
        kept = [X30, *(register.number for register in self._values if register.number not in CALLEE_SAVED)]
        room = -(-8 * len(kept) // 16) * 16
        a.SUB_xxi(SP, SP, room)
        for n, register in enumerate(kept):
            a.STR_xxi(register, SP, 8 * n)
        a.MOV_ww(X1, SCRATCH)
        self._store_state(a)
        a.MOV_ww(X3, X0)
        a.MOV_ww(X2, X1)
        a.LDR_xxi(X1, SP, 0)
        a.MOV_xx(X0, ENV)
        return self._call(a, function, kept, room)

    def _call_thunk(self, function: int) -> bytes:
        """Call the helper whose number is in w16. Its arguments and its result are in the header."""
        a = Assembler()
        a.SUB_xxi(SP, SP, 16)
        a.STR_xxi(X30, SP, 0)
        a.MOV_ww(X1, SCRATCH)
        self._store_state(a)
        a.LDR_xxi(X2, SP, 0)
        a.MOV_xx(X0, ENV)
        return self._call(a, function, (X30,), 16)

    def _call(self, a: Assembler, function: int, kept: Sequence[int], room: int) -> bytes:
        """The end of a thunk: call the C function, and go on in the block, or leave it if the result is not 0.

        The stack holds, in `room` bytes, the registers `kept`. The first is the return address: the link register may
        be overwritten with the address of a field that is far from `ENV`.
        """
        leave = a.label()
        emit_constant(a, SCRATCH, function)
        a.BLR_x(SCRATCH)
        a.CBNZ_w_label(X0, leave)
        self._load_state(a)
        for n, register in enumerate(kept):
            a.LDR_xxi(register, SP, 8 * n)
        a.ADD_xxi(SP, SP, room)
        a.RET()
        a.bind(leave)
        a.MOVZ_xi(X0, 0)
        self._return_to_loop(a)
        return a.finish()
