# SPDX-License-Identifier: Apache-2.0
"""Which barriers a block leaves out, on each host: its instruction is shorter then than in a block of its own.

tests/ordering/test_merging.py shows that the order which the guest counts on is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

import pytest

from raddle.codegen.backend import BackEnd, CodegenConfig
from raddle.codegen.joiner import Joiner
from raddle.codegen.template import Block
from raddle.ir.builder import Builder, Callee, Label, native
from raddle.ir.opcodes import Op
from raddle.ir.types import Align, MemOp, Type
from raddle.ir.verifier import verify
from raddle.ordering import MemoryOrder
from raddle.testing.ir_programs import LAYOUT
from raddle.translate.translator import Translator
from raddle_host_aarch64.backend import AArch64BackEnd
from raddle_host_aarch64.features import BASELINE as ARM
from raddle_host_x86_64.backend import X86BackEnd
from raddle_host_x86_64.emitter import Emitter
from raddle_host_x86_64.features import BASELINE as X86
from raddle_host_x86_64.fields import HOT
from raddle_host_x86_64.registers import RSP
from raddle_target_arm.frontend import FRONT_END as ARM_GUEST
from raddle_target_arm.state import MODE_PRIVILEGED

LD_LD, LD_ST, ST_LD, ST_ST = MemoryOrder.LD_LD, MemoryOrder.LD_ST, MemoryOrder.ST_LD, MemoryOrder.ST_ST
ALL: Final = MemoryOrder.ALL
ALIGNED: Final = MemOp(4, align=Align.NATURAL)
PC: Final = 0x8000
HELPER: Final[Callee] = native("helper")
HOSTS: Final[dict[str, Callable[[CodegenConfig], BackEnd]]] = {
    "x86_64": lambda config: X86BackEnd(config, X86),
    "aarch64": lambda config: AArch64BackEnd(config, ARM),
}
Build = Callable[[Builder], object]

# -- guest instructions ------------------------------------------------------------------------------------------------


def barrier(*orders: MemoryOrder) -> Build:
    def build(b: Builder) -> None:
        for order in orders:
            b.mb(order)

    return build


def load(b: Builder) -> None:
    """From an address that is computed first."""
    b.set(LAYOUT.fields["r0"], b.load(b.add(b.get(LAYOUT.fields["r1"]), 4), ALIGNED, 0))


def load_exclusive(b: Builder) -> None:
    b.set(LAYOUT.fields["r0"], b.load_exclusive(b.get(LAYOUT.fields["r1"]), ALIGNED, 0))


def store(b: Builder) -> None:
    b.store(b.get(LAYOUT.fields["r1"]), b.get(LAYOUT.fields["r2"]), ALIGNED, 0)


def atomic(b: Builder) -> None:
    b.set(LAYOUT.fields["r0"], b.atomic(Op.ATOMIC_XCHG, b.get(LAYOUT.fields["r1"]), b.const(1), ALIGNED, 0))


def add(b: Builder) -> None:
    b.set(LAYOUT.fields["r0"], b.add(b.get(LAYOUT.fields["r0"]), 1))


def call(b: Builder) -> None:
    b.call(HELPER)


def under_a_condition(build: Build) -> Build:
    def conditional(b: Builder) -> None:
        with b.if_(b.ne(b.get(LAYOUT.fields["r3"]), 0)):
            build(b)

    return conditional


def with_rare_code(*bodies: Build, before: Build | None = None, after: Build | None = None) -> Build:
    """An instruction that does `bodies` in rare code, between `before` and `after`."""

    def build(b: Builder) -> None:
        if before is not None:
            before(b)
        rare, on = Label(rare=True), Label()
        b.brcond(b.ne(b.get(LAYOUT.fields["r3"]), 0), rare, on)
        b.bind(on)
        with b.rarely(rare):
            for body in bodies:
                body(b)
        if after is not None:
            after(b)

    return build


def leave(b: Builder) -> None:
    b.exit_main()


full, wmb = barrier(ALL), barrier(ST_ST)

# -- blocks ------------------------------------------------------------------------------------------------------------


def backend_of(host: str, fences: MemoryOrder = MemoryOrder.NONE, parallel: bool = True) -> BackEnd:
    return HOSTS[host](CodegenConfig(LAYOUT, Type.I32, 12, lambda callee: 7, parallel, fences=int(fences)))


def block_of(backend: BackEnd, *instructions: Build) -> Block:
    joiner = Joiner(backend)
    templates = []
    for build in instructions:
        b = Builder(Type.I32, LAYOUT.nzcv)
        build(b)
        verify(b)
        templates.append(backend.template(b.code, b.locals, 4, 0, 0))
    return joiner.join([joiner.enter(None, 0, one, ()) for one in templates], PC)


def sizes(block: Block) -> list[int]:
    """Of each instruction's hot part."""
    return [hot for hot, *_ in struct.iter_unpack("<HHBBH", block.table)]


def left_out(backend: BackEnd, *instructions: Build) -> list[int]:
    """The numbers of the instructions whose barriers are left out."""
    alone = [sizes(block_of(backend, one))[0] for one in instructions]
    together = sizes(block_of(backend, *instructions))
    size = len(hot_of(block_of(backend, full))) if backend.config.parallel else 0
    assert all(before - after in (0, size) for before, after in zip(alone, together, strict=True))
    return [number for number, (before, after) in enumerate(zip(alone, together, strict=True)) if before != after]


def hot_of(block: Block) -> bytes:
    """The hot parts of all instructions."""
    return block.code[block.hot_start : block.hot_start + sum(sizes(block))]


@pytest.fixture(params=HOSTS)
def backend(request: pytest.FixtureRequest) -> BackEnd:
    return backend_of(request.param)


@pytest.fixture(params=HOSTS)
def fenced(request: pytest.FixtureRequest) -> BackEnd:
    """For a guest that is sequentially consistent."""
    return backend_of(request.param, ALL)


def test_of_equal_barriers_the_first_stays(backend: BackEnd) -> None:
    assert left_out(backend, full, full) == [1]
    assert left_out(backend, full, add, full, add, full) == [2, 4]


def test_a_barrier_stays_behind_what_it_orders(backend: BackEnd) -> None:
    assert left_out(backend, full, store, full) == []
    assert left_out(backend, full, load, store, full) == []
    assert left_out(backend, full, atomic, full) == []


def test_a_helper_may_access_anything(backend: BackEnd) -> None:
    assert left_out(backend, full, call, full) == []


def test_a_store_under_a_condition_is_one(backend: BackEnd) -> None:
    assert left_out(backend, full, under_a_condition(store), full) == []
    assert left_out(backend, full, under_a_condition(add), full) == [2]


def test_a_barrier_under_a_condition_is_none(backend: BackEnd) -> None:
    assert left_out(backend, under_a_condition(full), full) == []


def test_the_example_in_the_documentation() -> None:
    """docs/memory-order.md, "Barriers that are merged". Of the barrier for stores, x86-64 emits nothing."""
    block = (wmb, add, full, load, full, wmb)
    assert left_out(backend_of("aarch64"), *block) == [0, 5]
    assert left_out(backend_of("x86_64"), *block) == [4]


def test_rare_code_between_barriers_may_access_memory(backend: BackEnd) -> None:
    """It is in the cold part; what it calls may store. Rare code that computes only ends nothing."""
    assert left_out(backend, full, with_rare_code(call), full) == []
    assert left_out(backend, full, with_rare_code(add), full) == [2]
    assert left_out(backend, full, with_rare_code(call), add, full, full) == [4]


def test_a_barrier_in_rare_code_is_none(backend: BackEnd) -> None:
    """The other path has not met it."""
    assert left_out(backend, with_rare_code(full), full) == []
    assert left_out(backend, with_rare_code(call, full), full) == []


def test_rare_code_between_two_barriers_of_an_instruction(backend: BackEnd) -> None:
    """Both stay in the hot part, since the second one orders what the rare code calls; and so does one in rare code."""
    code = hot_of(block_of(backend, full))
    for bodies, cold in (((call,), 0), ((call, full), 1), ((call, full, call), 1)):
        block = block_of(backend, with_rare_code(*bodies, before=full, after=full))
        assert hot_of(block).count(code) == 2
        assert block.code[block.cold_start :].count(code) == cold
    # The first one can be left out on account of one before it. It must not take the second one with it.
    both = with_rare_code(call, before=full, after=full)
    assert left_out(backend, full, both) == [1]
    assert hot_of(block_of(backend, full, both)).count(code) == 2
    # What holds behind the second one holds at the end of the instruction.
    assert left_out(backend, both, full) == [1]


def test_a_block_begins_without_barriers(backend: BackEnd) -> None:
    """And it may be left behind each instruction that accesses memory."""
    assert left_out(backend, full) == []
    assert left_out(backend, load, full) == []


def test_a_load_matters_to_barriers_for_loads_only() -> None:
    assert left_out(backend_of("x86_64"), full, load, full) == [2]
    assert left_out(backend_of("aarch64"), full, load, full) == []
    assert left_out(backend_of("aarch64"), wmb, load, wmb) == [2]


def test_the_stronger_barrier_stays() -> None:
    arm, acquire = backend_of("aarch64"), barrier(LD_LD | LD_ST)
    assert left_out(arm, wmb, full) == [0]
    assert left_out(arm, full, wmb) == [1]
    assert left_out(arm, wmb, add, acquire, add, full, wmb) == [0, 2, 5]
    assert left_out(arm, wmb, acquire) == []
    assert left_out(arm, acquire, wmb) == []


def test_a_weaker_barrier_stays_if_the_block_may_be_left_before_the_stronger_one() -> None:
    arm = backend_of("aarch64")
    assert left_out(arm, wmb, load, full) == []
    assert left_out(arm, wmb, under_a_condition(leave), full) == []
    assert left_out(arm, wmb, call, full) == []


def test_a_barrier_is_left_out_only_for_orders_that_it_is_there_for() -> None:
    """DMB ISH is there for ST_LD, and keeps more: that does not hold where it is left out."""
    arm, waits = backend_of("aarch64"), barrier(ST_LD)
    assert left_out(arm, full, load, waits, barrier(LD_LD)) == [2]
    assert left_out(arm, waits, barrier(LD_LD)) == [1]


def test_of_a_fenced_guests_loads_the_first_one_waits(fenced: BackEnd) -> None:
    """Each waits for stores before it. On AArch64, an atomic operation does, too."""
    assert left_out(fenced, load_exclusive, load, load_exclusive) == [1, 2]
    assert left_out(fenced, load, load, load) == [1, 2]
    assert left_out(fenced, store, load, add, load, store, load, load) == [3, 6]
    assert left_out(fenced, load, atomic, load) == ([] if isinstance(fenced, X86BackEnd) else [1])


def test_neighbours_within_an_instruction_are_one(backend: BackEnd) -> None:
    one, two = backend, barrier(ALL, ALL)
    assert hot_of(block_of(one, two)) == hot_of(block_of(one, full))
    for weaker_first in (barrier(ST_ST, ALL), barrier(ALL, ST_ST)):
        assert hot_of(block_of(one, weaker_first)) == hot_of(block_of(one, full))


def test_code_with_other_registers_says_the_same() -> None:
    """The second load's code is renamed from the first one's."""
    config = CodegenConfig(ARM_GUEST.state, ARM_GUEST.word, ARM_GUEST.page_bits, lambda callee: 7, first_python=4096)
    translator = Translator(ARM_GUEST, X86BackEnd(config, X86), None)
    dmb, load_r1_r2, load_r5_r6 = "5bf07ff5", "001092e5", "005096e5"
    code = bytes.fromhex(dmb + load_r1_r2 + load_r5_r6 + dmb)
    assert [size > 0 for size in sizes(translator.block(MODE_PRIVILEGED, code, PC))] == [True, True, True, False]


def test_a_barrier_on_the_way_out_of_a_block_stays(backend: BackEnd) -> None:
    """It is in the cold part, behind a call."""

    def build(b: Builder) -> None:
        b.mb(ALL)
        with b.if_(b.ne(b.get(LAYOUT.fields["r3"]), 0)):
            b.call(HELPER)
            b.mb(ALL)
            b.exit_main()

    code = hot_of(block_of(backend, full))
    block = block_of(backend, build)
    assert (block.code[: block.cold_start].count(code), block.code[block.cold_start :].count(code)) == (1, 1)


def test_a_barrier_with_a_field_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The field would be filled in where the barrier is not."""

    def fence(self: Emitter, order: MemoryOrder) -> MemoryOrder:
        self.JMP_rel32(0)
        self.last_field(HOT, len(self.hot))
        self.LOCK_OR_mi(RSP, 0, 0)
        self.clobber()
        return ALL

    monkeypatch.setattr(Emitter, "fence", fence)
    assert left_out(backend_of("x86_64"), add, full, add, full) == []


def test_one_thread_has_no_barriers() -> None:
    for host in HOSTS:
        assert sizes(block_of(backend_of(host, ALL, parallel=False), full, full)) == [0, 0]


def test_the_table_of_code_lengths_has_what_is_left(fenced: BackEnd) -> None:
    """By it, the runtime finds the instruction that an address in the block belongs to."""
    instructions = (full, store, load, full, add, store, full, full, add)
    alone = {build: hot_of(block_of(fenced, build)) for build in (full, add)}
    block, at, found = block_of(fenced, *instructions), 0, []
    for build, size in zip(instructions, sizes(block), strict=True):
        found.append((build, hot_of(block)[at : at + size]))
        at += size
    assert [code for build, code in found if build is add] == 2 * [alone[add]]
    stays = [True, isinstance(fenced, AArch64BackEnd), True, False]  # of two neighbours, the first one
    assert [code for build, code in found if build is full] == [alone[full] * one for one in stays]
