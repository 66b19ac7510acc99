# SPDX-License-Identifier: Apache-2.0
"""Floating point on the x86-64 back end with the runtime's helpers: what is computed in line, and what is called."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import pytest
from raddle.runtime._native import ffi
from tests.core.fp_library import COMPILER, build
from tests.core.test_fp import operands

from raddle.codegen.backend import BackEnd
from raddle.ir import floats
from raddle.ir.builder import Builder, FloatCompare, FloatToInt, IntToFloat, Rounding, Value
from raddle.ir.floats import F32, F64, INEXACT, FloatEnv, Format
from raddle.ir.opcodes import Op
from raddle.ir.types import Condition, Field, MemOp, Type
from raddle.testing.generate import ARENA_BASE, ARENA_SIZE, Program
from raddle.testing.host_contract import Backend, HostContract, check
from raddle.testing.host_harness import Harness
from raddle.testing.ir_programs import LAYOUT
from raddle_host_x86_64.backend import X86BackEnd
from raddle_host_x86_64.features import Features, detect

pytestmark = [
    pytest.mark.host("x86_64"),
    pytest.mark.skipif(not COMPILER, reason="needs a C compiler"),
]

ELSEWHERE = frozenset(op for op in Op if op.name.startswith("ATOMIC") or op.name.endswith("_EXCLUSIVE"))
"""Tested with the runtime."""
SIGNATURE = "uint64_t(*)(void *, uint64_t, uint64_t, uint64_t, uint64_t)"


class FloatHarness(Harness):
    """A harness whose callees ``fp_…`` are the runtime's; ``called`` has their names, as often as they were called."""

    def __init__(self, library: Path, features: Features | None = None) -> None:
        super().__init__(lambda config: X86BackEnd(config, features), tlb=True)
        self.library = ctypes.CDLL(str(library))
        self.called: list[str] = []
        self.keep: list[Any] = []

    def place_routines(self, backend: BackEnd, program: Program) -> None:
        native = [n for n, callee in enumerate(self.callees) if callee.name.startswith("fp_")]
        others = [callee for callee in self.callees if callee.name in program.routines]
        assert len(native) + len(others) == len(self.callees)
        if not native:
            super().place_routines(backend, program)
            return
        for number, callee in enumerate(self.callees):
            if number in native:
                self.table[number] = self._counted(callee.name)
            else:
                routine = program.routines[callee.name]
                code = self.place(backend.routine(routine.code, routine.locals))
                self.table[number] = ffi.cast("void *", code)

    def _counted(self, name: str) -> Any:
        function = ffi.cast(SIGNATURE, ctypes.cast(self.library[name], ctypes.c_void_p).value)

        def call(*arguments: Any) -> int:
            self.called.append(name)
            return int(function(*arguments))

        callback = ffi.callback(SIGNATURE, call)
        self.keep.append(callback)
        return ffi.cast("void *", callback)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("fp"))


class TestContract(HostContract):
    unsupported: ClassVar[frozenset[Op]] = ELSEWHERE
    programs_per_seed = 3

    @pytest.fixture
    def backend(self, library: Path) -> Backend:
        return FloatHarness(library)


# -- each operation by itself ------------------------------------------------------------------------------------------

Make = Callable[[Builder, list[Value]], Value]


def fields(fmt: Format) -> list[Field]:
    return [LAYOUT.fields[f"{'s' if fmt is F32 else 'd'}{n}"] for n in range(3)]


def rows() -> Iterator[tuple[str, Format, Make]]:
    """(name, format of the operands s0 … s2 or d0 … d2, what is computed)."""
    for fmt, other in ((F32, Type.F64), (F64, Type.F32)):
        size = fmt.bits
        yield f"add{size}", fmt, lambda b, v: b.fadd(v[0], v[1])
        yield f"sub{size}", fmt, lambda b, v: b.fsub(v[0], v[1])
        yield f"mul{size}", fmt, lambda b, v: b.fmul(v[0], v[1])
        yield f"div{size}", fmt, lambda b, v: b.fdiv(v[0], v[1])
        yield f"sqrt{size}", fmt, lambda b, v: b.fsqrt(v[0])
        yield f"fma{size}", fmt, lambda b, v: b.fma(v[0], v[1], v[2])
        yield f"mla{size}", fmt, lambda b, v: b.fadd(v[2], b.fneg(b.fmul(v[0], v[1])))
        yield f"cvt{size}", fmt, lambda b, v, other=other: b.fcvt(v[0], other)
        for kind in FloatCompare:
            yield f"cmp{size}_{kind.name}", fmt, lambda b, v, kind=kind: b.fcmp(v[0], v[1], kind)
        zero = lambda b, v: b.fcmp(v[0], b.const(0, v[0].type), FloatCompare.QUIET)  # noqa: E731
        yield f"cmp{size}_zero", fmt, zero
        for condition, order in ((Condition.EQ, 0), (Condition.ULE, 1), (Condition.EQ, 1), (Condition.EQ, 2)):
            name = f"cmp{size}_{condition.name}_{order}"
            yield name, fmt, lambda b, v, test=(condition, order): truth(b, b.icmp(test[0], compared(b, v), test[1]))
        name = f"cmp{size}_unordered"
        yield name, fmt, lambda b, v: truth(b, b.eq(compared(b, v), 3))
        bits = Type.I64 if fmt is F64 else Type.I32
        yield f"add{size}_bits", fmt, lambda b, v, bits=bits: b.bitcast(b.fadd(v[0], v[1]), bits)
        yield f"mul{size}_bits", fmt, lambda b, v, bits=bits: b.bitcast(b.fmul(v[0], v[1]), bits)
        for signed, word in ((False, Type.I32), (True, Type.I32), (True, Type.I64)):
            for rounding in Rounding:
                how = FloatToInt(signed, rounding)
                name = f"to_int{size}_{word.name}_{signed}_{rounding.name}"
                yield name, fmt, lambda b, v, how=how, word=word: b.ftoi(v[0], word, how)


def compared(b: Builder, v: list[Value]) -> Value:
    return b.fcmp(v[0], v[1], FloatCompare.QUIET)


def truth(b: Builder, value: Value) -> Value:
    return b.zext(value, Type.I32)


def program(make: Make, values: tuple[int, ...], fmt: Format, header: dict[str, int]) -> Program:
    b = Builder(Type.I32)
    result = make(b, [b.get(field) for field in fields(fmt)])
    target = {Type.F32: "s3", Type.F64: "d1", Type.I32: "r0", Type.I64: "q0"}[result.type]
    b.set(LAYOUT.fields[target], result)
    state = bytearray(LAYOUT.size)
    for field, value in zip(fields(fmt), values, strict=True):
        state[field.offset : field.offset + field.type.size] = value.to_bytes(field.type.size, "little")
    return Program(b, bytes(state), header, b"", (), 0)


def environment(random: Random) -> dict[str, int]:
    """Mostly the one in which the host computes."""
    if random.random() < 0.7:
        return {"fp_flags": INEXACT | random.choice((0, 1)), "fp_default_nan": random.getrandbits(1)}
    names = {"fp_rounding": 4, "fp_flush": 2, "fp_default_nan": 2}
    return {name: random.randrange(count) for name, count in names.items()} | {"fp_flags": random.choice((0, INEXACT))}


def integer_range(random: Random, fmt: Format, count: int) -> tuple[int, ...]:
    """Numbers round the limits of 32-bit and 64-bit integers, and halves."""
    exponents = [fmt.bias + random.choice((-2, -1, 0, 10, 30, 31, 32, 33, 62, 63, 64)) for _ in range(count)]
    fractions = [
        random.getrandbits(fmt.fraction_bits) & -1 << random.randrange(fmt.fraction_bits) for _ in range(count)
    ]
    signs = [random.getrandbits(1) << fmt.bits - 1 for _ in range(count)]
    return tuple(s | e << fmt.fraction_bits | f for s, e, f in zip(signs, exponents, fractions, strict=True))


@pytest.mark.parametrize(("name", "fmt", "make"), list(rows()), ids=lambda x: x if isinstance(x, str) else "")
def test_against_the_oracle(library: Path, name: str, fmt: Format, make: Make) -> None:
    backend, random = FloatHarness(library), Random(name)
    for _ in range(120):
        values = (integer_range if "int" in name and random.random() < 0.7 else operands)(random, fmt, 3)
        check(program(make, values, fmt, environment(random)), backend)


@pytest.mark.parametrize("target", [Type.F32, Type.F64])
@pytest.mark.parametrize("source", [Type.I32, Type.I64])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("fraction", [0, 5])
def test_from_int(library: Path, source: Type, target: Type, signed: bool, fraction: int) -> None:
    backend, random = FloatHarness(library), Random(f"{source}{target}{signed}")
    for _ in range(60):
        rounding = random.choice((Rounding.CURRENT, Rounding.NEAREST))
        value = (
            random.getrandbits(random.randrange(1, source.bits + 1)) * random.choice((1, -1)) & (1 << source.bits) - 1
        )
        b = Builder(Type.I32)
        field = LAYOUT.fields["r0" if source is Type.I32 else "q0"]
        result = b.itof(b.get(field), target, IntToFloat(signed, fraction, rounding))
        b.set(LAYOUT.fields["s3" if target is Type.F32 else "d1"], result)
        state = bytearray(LAYOUT.size)
        state[field.offset : field.offset + field.type.size] = value.to_bytes(field.type.size, "little")
        check(Program(b, bytes(state), environment(random), b"", (), 0), backend)


def ordinary(fmt: Format) -> tuple[int, ...]:
    """1.1, 2.2 and 3.3, more or less."""
    return tuple(fmt.bias + n << fmt.fraction_bits | (1 << fmt.fraction_bits) // 10 for n in range(3))


@pytest.mark.parametrize(("name", "fmt", "make"), list(rows()), ids=lambda x: x if isinstance(x, str) else "")
def test_ordinary_operations_make_no_call(library: Path, name: str, fmt: Format, make: Make) -> None:
    backend = FloatHarness(library)
    check(program(make, ordinary(fmt), fmt, {"fp_flags": INEXACT}), backend)
    assert (not backend.called) == (not name.startswith("fma") or detect().fma)


@pytest.mark.parametrize("fmt", [F32, F64])
def test_what_zeros_give_is_computed_in_line(library: Path, fmt: Format) -> None:
    """Unless it is no zero, or the operands were none."""
    backend = FloatHarness(library)
    one, infinite, least = fmt.bias << fmt.fraction_bits, fmt.infinity, 1 << fmt.fraction_bits
    for zero in (0, fmt.sign_bit):
        for values in ((zero, one, 0), (zero, fmt.sign_bit | one, 0), (zero, zero ^ 1, 0)):
            check(program(lambda b, v: b.fmul(v[0], v[1]), values, fmt, {"fp_flags": INEXACT}), backend)
            check(program(lambda b, v: b.fmul(v[1], v[0]), values, fmt, {"fp_flags": INEXACT}), backend)
            check(program(lambda b, v: b.fdiv(v[0], v[1]), values, fmt, {"fp_flags": INEXACT}), backend)
    assert not backend.called
    for values in ((0, infinite, 0), (0, infinite | 1, 0), (least, least, 0)):
        check(program(lambda b, v: b.fmul(v[0], v[1]), values, fmt, {"fp_flags": INEXACT}), backend)
    for values in ((0, 0, 0), (least, one * 2 - least, 0)):
        check(program(lambda b, v: b.fdiv(v[0], v[1]), values, fmt, {"fp_flags": INEXACT}), backend)
    assert len(backend.called) == 5


def test_fused_multiply_add_without_the_hosts(library: Path) -> None:
    backend = FloatHarness(library, Features())
    for fmt in (F32, F64):
        check(program(lambda b, v: b.fma(*v), ordinary(fmt), fmt, {"fp_flags": INEXACT}), backend)
    assert backend.called == ["fp_fma32", "fp_fma64"]


@pytest.mark.parametrize("fmt", [F32, F64])
def test_a_tiny_product_that_rounds_to_the_least_normal_number(library: Path, fmt: Format) -> None:
    """It underflows, for tininess is detected before rounding: the result alone does not tell."""
    below_one, least = (fmt.bias << fmt.fraction_bits) - 1, 1 << fmt.fraction_bits
    backend = FloatHarness(library)
    for make in (lambda b, v: b.fmul(v[0], v[1]), lambda b, v: b.fma(v[0], v[1], v[2])):
        check(program(make, (below_one, least, 0), fmt, {"fp_flags": INEXACT}), backend)
    assert floats.mul(below_one, least, fmt, env := FloatEnv()) == least
    assert env.flags == floats.UNDERFLOW | INEXACT


@pytest.mark.parametrize("address", [ARENA_BASE + 64, ARENA_BASE + 4093, ARENA_BASE + ARENA_SIZE])
@pytest.mark.parametrize(("loads", "stores"), [("d0", "d1"), ("d1", "d0"), ("d2", "d1"), ("d0", "d3")])
@pytest.mark.parametrize(("word", "base"), [(Type.I32, "r"), (Type.I64, "q")])
def test_memory_and_registers(library: Path, address: int, loads: str, stores: str, word: Type, base: str) -> None:
    """Aligned, across pages, where no memory is. r0, r1, d0 and d1 are pinned."""
    b = Builder(word)
    access = MemOp(8)
    b.set(LAYOUT.fields[loads], b.bitcast(b.load(b.get(LAYOUT.fields[f"{base}0"]), access, 0, Type.I64), Type.F64))
    b.store(b.get(LAYOUT.fields[f"{base}1"]), b.bitcast(b.get(LAYOUT.fields[stores]), Type.I64), access, 0)
    state = bytearray(LAYOUT.size)
    values = {f"{base}0": address, f"{base}1": address + 16} | {f"d{n}": 1 << 40 + n for n in range(4)}
    for name, value in values.items():
        field = LAYOUT.fields[name]
        state[field.offset : field.offset + field.type.size] = value.to_bytes(field.type.size, "little")
    memory = Random(loads).randbytes(ARENA_SIZE)
    check(Program(b, bytes(state), {}, memory, (), 0x1000), FloatHarness(library))
