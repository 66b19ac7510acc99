# SPDX-License-Identifier: Apache-2.0
"""Code for a guest with 64-bit registers, most of them in host registers: operations that become one with what follows
or stands before them. What the code does is the target contracts' to test.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raddle.codegen.backend import CodegenConfig
from raddle.codegen.joiner import Joiner
from raddle.ir.builder import Builder
from raddle.ir.types import Align, Hole, MemOp, StateLayout, Type
from raddle_host_x86_64.backend import X86BackEnd
from raddle_host_x86_64.features import Features

capstone = pytest.importorskip("capstone")

LAYOUT = StateLayout()
A, B, C = (LAYOUT.field(name, Type.I64, hot=rank) for rank, name in enumerate("abc"))
LITERAL = 0x1234
BYTE, LONG, UNALIGNED = MemOp(1), MemOp(4, signed=True, align=Align.NATURAL), MemOp(4)


def hot_part(emit: Callable[[Builder], None], common: bool = False) -> list[str]:
    """The hot part of a block of one instruction, without the jump at its end. a, b and c are in rbx, rsi and rdi."""
    config = CodegenConfig(LAYOUT, Type.I64, 13, lambda callee: 0, common_indices=int(common))
    backend = X86BackEnd(config, Features(*[True] * len(Features._fields)))
    b = Builder(Type.I64)
    emit(b)
    joiner = Joiner(backend)
    block = joiner.join([joiner.enter(None, 0, backend.template(b.code, b.locals, 4, 0, 0), (LITERAL,))], 0x8000)
    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    code = block.code[block.hot_start : block.cold_start]
    listed = [f"{name} {operands}" for _, _, name, operands in engine.disasm_lite(code, 0)]
    return [line for line in listed[:-1] if not line.startswith("nop")]


def displaced(b: Builder) -> object:
    return b.add(b.get(A), b.const(Hole(0, "disp"), Type.I64))


def test_a_load_adds_up_its_address() -> None:
    listed = hot_part(lambda b: b.set(B, b.load(displaced(b), LONG, 0, Type.I64)))
    assert listed[0] == "lea rdx, [rbx + 0x1234]"
    assert listed[-1] == "movsxd rsi, dword ptr [rcx + rbx + 0x1234]"
    assert len(listed) == 8


def test_the_end_of_an_unaligned_access_is_its_address_and_a_distance() -> None:
    listed = hot_part(lambda b: b.set(B, b.load(displaced(b), UNALIGNED, 0, Type.I64)))
    assert listed[3] == "lea rdx, [rdx + 3]"
    assert len(listed) == 9


def test_a_load_may_overwrite_its_base() -> None:
    listed = hot_part(lambda b: b.set(A, b.load(displaced(b), BYTE, 0, Type.I64)))
    assert listed[-1] == "movzx ebx, byte ptr [rcx + rbx + 0x1234]"


def test_a_store_adds_up_its_address() -> None:
    listed = hot_part(lambda b: b.store(displaced(b), b.get(B), LONG, 0))
    assert listed[-1] == "mov dword ptr [rcx + rbx + 0x1234], esi"
    assert len(listed) == 8


def test_a_store_of_a_constant_adds_up_its_address() -> None:
    listed = hot_part(lambda b: b.store(displaced(b), b.const(0, Type.I64), LONG, 0))
    assert listed[-2:] == ["lea rcx, [rcx + rbx + 0x1234]", "mov dword ptr [rcx], 0"]


def test_a_base_that_is_overwritten_before_the_access_is_added_up_before() -> None:
    def emit(b: Builder) -> None:
        address = displaced(b)
        b.set(A, b.get(B))
        b.store(address, b.get(B), LONG, 0)

    assert "[rcx + rbx" not in hot_part(emit)[-1]


def test_a_base_that_is_a_copy_is_added_up_before() -> None:
    """The access comes when the copy's register may have another value."""

    def emit(b: Builder) -> None:
        base = b.get(A)
        b.set(A, b.get(B))
        b.store(b.add(base, b.const(Hole(0, "disp"), Type.I64)), b.get(C), LONG, 0)

    assert "0x1234" not in hot_part(emit)[-1]


def test_the_common_addend_takes_no_instruction_more() -> None:
    apart, common = (
        hot_part(lambda b: b.set(B, b.load(displaced(b), LONG, 0, Type.I64)), common) for common in (False, True)
    )
    assert apart[-2].startswith("mov rcx, qword ptr [rbp + rcx")
    assert common[-2].startswith("mov rcx, qword ptr [rbp - ")
    assert len(common) == len(apart)


def test_stores_look_for_the_addend_in_the_entry() -> None:
    emit = lambda b: b.store(b.get(A), b.get(B), LONG, 0)  # noqa: E731
    assert hot_part(emit, common=True) == hot_part(emit)


def test_a_scaled_sum_with_a_literal_is_one_instruction() -> None:
    listed = hot_part(lambda b: b.set(B, b.add(b.shl(b.get(A), 2), b.const(Hole(0, "imm"), Type.I64))))
    assert listed == ["lea rsi, [rbx*4 + 0x1234]"]


def test_what_is_sign_extended_is_computed_in_its_place() -> None:
    listed = hot_part(lambda b: b.set(A, b.sextract(b.mul(b.get(A), b.get(B)), 0, 32)))
    assert listed == ["imul rbx, rsi", "movsxd rbx, ebx"]


def test_what_is_subtracted_from_another_is_not_overwritten_first() -> None:
    listed = hot_part(lambda b: b.set(B, b.sextract(b.sub(b.get(A), b.get(B)), 0, 32)))
    assert listed == ["mov rax, rbx", "sub rax, rsi", "movsxd rsi, eax"]
