# SPDX-License-Identifier: Apache-2.0
"""The builder emits what the verifier takes, and refuses what it can see to be wrong; layouts and descriptors."""

from __future__ import annotations

import pytest

from raddle.ir.builder import (
    Builder,
    FloatCompare,
    FloatToInt,
    IntToFloat,
    Rounding,
    native,
    python,
    routine,
)
from raddle.ir.opcodes import TABLE, Op
from raddle.ir.printer import print_function
from raddle.ir.types import Align, Condition, FlagCondition, Hole, MemOp, StateLayout, Type
from raddle.ir.verifier import verify
from raddle.ordering import MemoryOrder
from raddle.testing.ir_programs import LAYOUT

WORD = MemOp(4)
ALIGNED = MemOp(4, align=Align.NATURAL)
IMM = Hole(0, "imm")


def build_everything(b: Builder) -> None:
    """Every method of the builder but ``ret``, once at least."""
    f = LAYOUT.fields
    x, y, bit = b.get(f["r0"]), b.get(f["r1"]), b.get(f["c"])
    wide = b.zext(x, Type.I64)
    b.set(f["r2"], b.get_at(LAYOUT.arrays["r"], 3))
    b.set_at(LAYOUT.arrays["r"], x, IMM)
    local = b.local(Type.I32, 5, "x")
    b.assign(local, b.read(local))
    total = b.add(x, y)
    b.set_nzcv(total)
    b.set_nz(b.sub(x, 1))
    b.carry_of(b.adc(x, IMM, bit))
    b.overflow_of(b.sbc(5, x, 1))
    b.select(b.cond(FlagCondition.HI), x, 0)
    for value in (b.and_(x, y), b.or_(x, 1), b.xor(x, -1), b.not_(x), b.not_(bit), b.neg(x), b.mul(x, y)):
        b.icmp(Condition.NE, value, value)
    for value in (b.umulh(x, y), b.smulh(x, y), b.udiv(x, y), b.sdiv(x, y)):
        b.eq(value, 0)
    for value in (b.shl(x, 3), b.shr(x, y), b.sar(x, IMM), b.ror(x, 1), b.shl(1, x, Type.I64)):
        b.ne(value, 0)
    for unary in (b.clz, b.ctz, b.popcnt, b.bswap, b.bitrev, b.sext8, b.sext16, b.zext8, b.zext16):
        unary(x)
        unary(wide)
    b.trunc(b.sext(x), Type.I1)
    b.deposit(b.extract(x, 4, 8), b.sextract(x, 0, 32), 8, 8)
    b.bit(x, 31)
    b.pc(8)
    b.pc(4, IMM)
    b.store(x, b.load(x, WORD, 0), WORD, 1)
    b.store(x, 5, WORD, 1)
    b.store(x, 5, MemOp(8), 1, Type.I64)
    b.store_exclusive(x, b.load_exclusive(x, ALIGNED, 0), ALIGNED, 0)
    b.clear_exclusive()
    fetches = [op for op in Op if op.name.startswith("ATOMIC_FETCH_")]
    for op in (Op.ATOMIC_XCHG, *fetches):
        b.atomic(op, x, y, ALIGNED, 0)
    b.atomic_cmpxchg(x, x, y, ALIGNED, 0)
    b.mb(MemoryOrder.ALL)
    s, d = b.bitcast(x, Type.F32), b.get(f["d0"])
    for value in (
        b.fadd(s, s),
        b.fsub(s, s),
        b.fmul(s, s),
        b.fdiv(s, s),
        b.fsqrt(s),
        b.fma(s, s, s),
        b.fneg(s),
        b.fabs(s),
    ):
        b.fcmp(value, value, FloatCompare.QUIET)
    b.fcvt(d, Type.F32)
    b.ftoi(d, Type.I32, FloatToInt(True, Rounding.ZERO))
    b.itof(x, Type.F64, IntToFloat(False, 3))
    b.call(native("a"), x, 5, type=Type.I64)
    b.call(routine("b"), wide, bit)
    b.call(python("c"), IMM)
    with b.if_(bit):
        b.goto(8)
    with b.if_(bit):
        b.goto(8, IMM)
    with b.if_(bit):
        b.exit_main()
    then, other = b.label("then"), b.label("else")
    b.brcond(bit, then, other)
    b.bind(then)
    b.br(other)
    b.bind(other)
    b.goto_indirect(x)


def test_all_methods_emit_valid_ir() -> None:
    b = Builder(Type.I32, LAYOUT.nzcv)
    build_everything(b)
    verify(b, layout=LAYOUT)
    used = {i.op for i in b.code} | {arg.op for i in b.code for arg in i.args}
    assert set(TABLE) - used == {Op.RET}


def test_routines_return() -> None:
    b = Builder(Type.I64)
    with b.if_(b.get(LAYOUT.fields["c"])):
        b.ret()
    b.ret(b.const(5))
    verify(b, routine=True)
    assert print_function(b).endswith("       ret 5:i64\n")


def test_literals_take_the_type_that_is_wanted() -> None:
    b = Builder(Type.I64)
    assert b.add(1, 2).type is Type.I64
    assert b.add(b.get(LAYOUT.fields["r0"]), -1).args[1].aux == 0xFFFFFFFF
    assert b.add(1, b.get(LAYOUT.fields["r0"])).type is Type.I32
    assert b.const(IMM).type is Type.I64
    assert b.const(-1, Type.I1).aux == 1
    assert b.load(-8, MemOp(8), 0).args[0].aux == (1 << 64) - 8


def test_values_of_another_type_are_refused() -> None:
    b = Builder(Type.I32)
    with pytest.raises(TypeError, match="stands where i32 is wanted"):
        b.set(LAYOUT.fields["r0"], b.get(LAYOUT.fields["q0"]))
    with pytest.raises(TypeError, match="stands where i32 is wanted"):
        b.load(b.get(LAYOUT.fields["q0"]), WORD, 0)


def test_a_label_is_bound_once() -> None:
    b = Builder()
    label = b.label("here")
    b.bind(label)
    with pytest.raises(ValueError, match="here is bound twice"):
        b.bind(label)


def test_layouts_are_naturally_aligned() -> None:
    layout = StateLayout()
    one = layout.field("one", Type.I1, hot=1)
    wide = layout.field("wide", Type.I64)
    array = layout.array("a", Type.I32, 3, ("x", "y", "z"), hot=(0,))
    assert (one.offset, wide.offset, array.offset, layout.size) == (0, 8, 16, 28)
    assert [f.offset for f in array] == [16, 20, 24]
    assert (array[1], len(array)) == (layout.fields["y"], 3)
    assert layout.hot_fields == (array[0], one)
    with pytest.raises(ValueError, match="'x' is declared twice"):
        layout.field("x", Type.I1)


def test_an_array_with_other_numbers_of_names_or_ranks_than_elements() -> None:
    layout = StateLayout()
    with pytest.raises(ValueError, match="'r' has 3 elements, and 4 ranks in `hot`"):
        layout.array("r", Type.I32, 3, hot=(0, 1, 2, 3))
    for names in (("x", "y"), ("x", "y", "z", "w")):
        with pytest.raises(ValueError, match=f"'r' has 3 elements, and {len(names)} names"):
            layout.array("r", Type.I32, 3, names)


@pytest.mark.parametrize(
    ("memop", "mmu_index", "word", "align"),
    [
        (MemOp(1), 0, 0x000, 1),
        (MemOp(4), 1, 0x102, 1),
        (MemOp(8, align=Align.NATURAL), 3, 0x363, 8),
        (MemOp(2, signed=True, big_endian=True, align=Align.WORD), 2, 0x259, 4),
        (MemOp(16, align=Align.QUAD), 0, 0x084, 16),
    ],
)
def test_the_word_that_slow_paths_get(memop: MemOp, mmu_index: int, word: int, align: int) -> None:
    assert memop.encode(mmu_index) == word
    assert memop.align_bytes == align
