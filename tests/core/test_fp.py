# SPDX-License-Identifier: Apache-2.0
"""The runtime's floating-point helpers against ``raddle.ir.floats``: results and flags, in every environment."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from random import Random

import pytest
from tests.core.fp_library import COMPILER, build
from tests.core.halves import half_to_single, single_to_half

from raddle.ir import floats, header
from raddle.ir.floats import F32, F64, INEXACT, NEAREST, FloatEnv, Format
from raddle.ir.types import FloatRules, NanChoice

pytestmark = pytest.mark.skipif(not COMPILER, reason="needs a C compiler")

RULES = [FloatRules(*rules) for rules in product((False, True), NanChoice, (False, True))]
ENVIRONMENTS = [FloatEnv(*e) for e in product(range(4), (False, True), (False, True), (0, INEXACT), RULES)]
"""Rounding, flush, default NaN, whether inexact is raised (the host's arithmetic is used only if it is), and rules."""


class Native:
    """The helpers, compiled apart from the rest of the runtime, and one environment."""

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))
        self.header = ctypes.create_string_buffer(header.HEADER_SIZE)

    def _field(self, name: str) -> ctypes.c_uint32:
        return ctypes.c_uint32.from_buffer(self.header, header.HEADER_SIZE + header.OFFSET[name])

    def call(self, name: str, env: FloatEnv, *args: int) -> tuple[int, int]:
        """The result, and the flags after it."""
        for field in ("rounding", "flush", "default_nan", "flags"):
            self._field(f"fp_{field}").value = int(getattr(env, field))
        self._field("fp_rules").value = env.rules.bits
        function = self.library[name]
        function.restype = ctypes.c_uint64
        env_pointer = ctypes.c_void_p(ctypes.addressof(self.header) + header.HEADER_SIZE)
        words = [ctypes.c_uint64(a) for a in (*args, *(0,) * (4 - len(args)))]
        return function(env_pointer, *words), self._field("fp_flags").value


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Native:
    return Native(build(tmp_path_factory.mktemp("fp")))


def edges(fmt: Format) -> list[int]:
    """Magnitudes at which something changes, and their negatives."""
    one = fmt.bias << fmt.fraction_bits
    least, greatest = 1 << fmt.fraction_bits, fmt.infinity - 1
    nans = (fmt.default_nan, fmt.default_nan | 0x55, fmt.infinity | 1, fmt.infinity | fmt.quiet_bit - 1)
    half, odd = one - least, one | 1
    magnitudes = (
        0,
        1,
        2,
        least - 1,
        least,
        least + 1,
        2 * least,
        half,
        one - 1,
        one,
        odd,
        greatest,
        fmt.infinity,
        *nans,
    )
    return [m | sign for m in magnitudes for sign in (0, fmt.sign_bit)]


def operands(random: Random, fmt: Format, count: int) -> tuple[int, ...]:
    """Bits at random; exponents so near to each other that sums cancel and products meet the ends of the range."""
    kind = random.randrange(6)
    if kind == 0:
        return tuple(random.getrandbits(fmt.bits) for _ in range(count))
    if kind == 1:
        return tuple(random.choice(edges(fmt)) for _ in range(count))
    centre = random.choice(
        (fmt.bias, fmt.bias, fmt.bias // 2, fmt.bias * 3 // 2, fmt.fraction_bits, fmt.exponent_max - 1)
    )
    spread = random.choice((1, 3, fmt.fraction_bits + 4))
    values = []
    for _ in range(count):
        exponent = min(max(centre + random.randint(-spread, spread), 0), fmt.exponent_max - 1)
        fraction = random.getrandbits(fmt.fraction_bits)
        if random.random() < 0.3:
            fraction &= ~((1 << random.randrange(fmt.fraction_bits)) - 1)
        values.append(random.getrandbits(1) << fmt.bits - 1 | exponent << fmt.fraction_bits | fraction)
    return tuple(values)


def fresh(env: FloatEnv) -> FloatEnv:
    return replace(env)


def check(native: Native, name: str, env: FloatEnv, args: tuple[int, ...], oracle: Callable[[FloatEnv], int]) -> None:
    after = fresh(env)
    expected = oracle(after) & (1 << 64) - 1, after.flags
    result = native.call(name, env, *args)
    assert result == expected, f"{name} {[hex(a) for a in args]} in {env}: {result} is not {expected}"


ARITHMETIC: dict[str, tuple[int, Callable[..., int]]] = {
    "add": (2, floats.add),
    "sub": (2, floats.sub),
    "mul": (2, floats.mul),
    "div": (2, floats.div),
    "sqrt": (1, floats.sqrt),
    "fma": (3, floats.fma),
    "compare": (2, lambda a, b, fmt, env: floats.compare(a, b, fmt, env, signalling=False)),
    "compare_signalling": (2, lambda a, b, fmt, env: floats.compare(a, b, fmt, env, signalling=True)),
}


def samples(fmt: Format, count: int, seed: int, rounds: int = 1500) -> Iterator[tuple[int, ...]]:
    random = Random(seed)
    for _ in range(rounds):
        yield operands(random, fmt, count)


@pytest.mark.parametrize("fmt", [F32, F64], ids=["f32", "f64"])
@pytest.mark.parametrize("operation", ARITHMETIC)
def test_arithmetic(native: Native, operation: str, fmt: Format) -> None:
    count, oracle = ARITHMETIC[operation]
    random = Random(count)
    for args in samples(fmt, count, seed=fmt.bits, rounds=4000):
        env = random.choice(ENVIRONMENTS)
        check(native, f"fp_{operation}{fmt.bits}", env, args, lambda e, args=args: oracle(*args, fmt, e))


@pytest.mark.parametrize("fmt", [F32, F64], ids=["f32", "f64"])
@pytest.mark.parametrize("operation", ["add", "sub", "mul", "div", "fma"])
def test_every_pair_of_edges(native: Native, operation: str, fmt: Format) -> None:
    count, oracle = ARITHMETIC[operation]
    random = Random(1)
    for args in product(edges(fmt), repeat=2):
        args = (*args, random.choice(edges(fmt)))[:count]
        env = random.choice(ENVIRONMENTS)
        check(native, f"fp_{operation}{fmt.bits}", env, args, lambda e, args=args: oracle(*args, fmt, e))


@pytest.mark.parametrize(("source", "target"), [(F32, F64), (F64, F32)], ids=["widen", "narrow"])
def test_convert(native: Native, source: Format, target: Format) -> None:
    random = Random(2)
    near = [x for (single,) in samples(F32, 1, 3) for x in (floats.convert(single, F32, F64, FloatEnv()),)]
    values = [x for (x,) in samples(source, 1, 4)] + edges(source)
    if source is F64:
        values += [x + random.randint(-(1 << 30), 1 << 30) & (1 << 64) - 1 for x in near]
    for value in values:
        env = random.choice(ENVIRONMENTS)
        name = f"fp_f{source.bits}_to_f{target.bits}"
        check(native, name, env, (value,), lambda e, value=value: floats.convert(value, source, target, e))


@pytest.mark.parametrize("fmt", [F32, F64], ids=["f32", "f64"])
def test_to_int(native: Native, fmt: Format) -> None:
    random = Random(5)
    for _ in range(6000):
        width = random.choice((16, 32, 64))
        signed, rounding, fraction = (
            random.getrandbits(1),
            random.randrange(5),
            random.choice((0, 0, random.randint(0, width))),
        )
        if random.random() < 0.7:  # near what fits, so halves and saturation both happen
            exponent = fmt.bias - fraction + random.randint(-3, width + 1)
            value = max(exponent, 0) << fmt.fraction_bits | random.getrandbits(fmt.fraction_bits)
            value = value & ~((1 << random.randrange(fmt.fraction_bits)) - 1) | random.getrandbits(1) << fmt.bits - 1
        else:
            (value,) = operands(random, fmt, 1)
        env = random.choice(ENVIRONMENTS)
        actual = env.rounding if rounding == 4 else rounding
        word = signed | rounding << 1 | fraction << 8 | width << 16
        check(
            native,
            f"fp_f{fmt.bits}_to_int",
            env,
            (value, word),
            lambda e: floats.to_int(value, fmt, e, bool(signed), width, actual, fraction),  # noqa: B023
        )


@pytest.mark.parametrize("fmt", [F32, F64], ids=["f32", "f64"])
def test_from_int(native: Native, fmt: Format) -> None:
    random = Random(6)
    for _ in range(4000):
        width = random.choice((16, 32, 64))
        signed, rounding, fraction = random.getrandbits(1), random.randrange(5), random.randint(0, width)
        value = random.getrandbits(width) >> random.randrange(width)
        if random.getrandbits(1):
            value = -value & (1 << width) - 1
        number = value - (1 << width) if signed and value >> width - 1 else value
        env = random.choice(ENVIRONMENTS)
        word = signed | rounding << 1 | fraction << 8 | width << 16
        check(
            native,
            f"fp_int_to_f{fmt.bits}",
            env,
            (value, word),
            lambda e: floats.from_int(number, fmt, e, None if rounding == 4 else rounding, fraction),  # noqa: B023
        )


# -- half precision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alternative", [False, True], ids=["ieee", "alternative"])
def test_every_half_to_single(native: Native, alternative: bool) -> None:
    random = Random(8)
    for bits in range(0x10000):
        env = random.choice(ENVIRONMENTS)
        check(
            native, "fp_f16_to_f32", env, (bits, alternative), lambda e, bits=bits: half_to_single(bits, alternative, e)
        )


@pytest.mark.parametrize("alternative", [False, True], ids=["ieee", "alternative"])
def test_single_to_half(native: Native, alternative: bool) -> None:
    random = Random(9)
    values = edges(F32) + [x for (x,) in samples(F32, 1, 10)]
    for _ in range(6000):
        exponent = random.randint(127 - 27, 127 + 17)
        fraction = random.getrandbits(23) & ~((1 << random.randrange(23)) - 1)
        values.append(random.getrandbits(1) << 31 | exponent << 23 | fraction)
    values += [0x477FE000, 0x477FEFFF, 0x477FF000, 0x47FFE000, 0x47FFEFFF, 0x47FFF000, 0x47FFFFFF, 0x48000000]
    for bits in values:
        env = random.choice(ENVIRONMENTS)
        check(
            native, "fp_f32_to_f16", env, (bits, alternative), lambda e, bits=bits: single_to_half(bits, alternative, e)
        )


def test_the_hosts_arithmetic_is_used_only_where_it_is_right(native: Native) -> None:
    """Results at the lower end of the normal range, in the environment in which the host computes."""
    random = Random(11)
    env = FloatEnv(NEAREST, False, False, INEXACT)
    for fmt in (F32, F64):
        for _ in range(3000):
            a = random.randint(fmt.bias // 2, fmt.bias) << fmt.fraction_bits | random.getrandbits(fmt.fraction_bits)
            wanted = random.randint(-2, 3)  # exponent field of the product
            exponent = wanted + fmt.bias - (a >> fmt.fraction_bits)
            if exponent < 1:
                continue
            b = exponent << fmt.fraction_bits | random.getrandbits(fmt.fraction_bits)
            check(native, f"fp_mul{fmt.bits}", env, (a, b), lambda e: floats.mul(a, b, fmt, e))  # noqa: B023


# -- another architecture's choices ------------------------------------------------------------------------------------

SSE = """
#include <immintrin.h>
#include <stdint.h>
#include <string.h>
#define DEFINE(name, type, instruction)                                                                              \\
    uint64_t name(uint64_t a, uint64_t b, uint32_t rounding, uint32_t *flags)                                        \\
    {                                                                                                                \\
        type x, y;                                                                                                   \\
        memcpy(&x, &a, sizeof x);                                                                                    \\
        memcpy(&y, &b, sizeof y);                                                                                    \\
        uint32_t before = _mm_getcsr();                                                                              \\
        _mm_setcsr(0x1f80 | rounding << 13);                                                                         \\
        __asm__ volatile(instruction " %1, %0" : "+x"(x) : "x"(y));                                                  \\
        *flags = _mm_getcsr() & 0x3f;                                                                                \\
        _mm_setcsr(before);                                                                                          \\
        a = 0;                                                                                                       \\
        memcpy(&a, &x, sizeof x);                                                                                    \\
        return a;                                                                                                    \\
    }
DEFINE(add32, float, "addss")
DEFINE(sub32, float, "subss")
DEFINE(mul32, float, "mulss")
DEFINE(div32, float, "divss")
DEFINE(add64, double, "addsd")
DEFINE(sub64, double, "subsd")
DEFINE(mul64, double, "mulsd")
DEFINE(div64, double, "divsd")
"""
"""A unit whose every choice differs: tiny after rounding, the first NaN operand, a negative default NaN."""
SSE_RULES = FloatRules(True, NanChoice.FIRST, negative_default_nan=True)
SSE_ROUNDING = {floats.NEAREST: 0, floats.DOWN: 1, floats.UP: 2, floats.ZERO: 3}
SSE_FLAGS = {1: floats.INVALID, 4: floats.DIVIDE_BY_ZERO, 8: floats.OVERFLOW, 16: floats.UNDERFLOW, 32: INEXACT}


@pytest.fixture(scope="module")
def sse(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    directory = tmp_path_factory.mktemp("sse")
    (directory / "sse.c").write_text(SSE)
    command = [*COMPILER, "-O1", "-shared", "-fPIC", directory / "sse.c", "-o", directory / "sse.so"]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this machine has another unit than SSE")
    return ctypes.CDLL(str(directory / "sse.so"))


@pytest.mark.parametrize("fmt", [F32, F64], ids=["f32", "f64"])
@pytest.mark.parametrize("operation", ["add", "sub", "mul", "div"])
def test_a_unit_that_chooses_otherwise(native: Native, sse: ctypes.CDLL, operation: str, fmt: Format) -> None:
    """The helpers do what it does under its rules, and under no others."""
    function = sse[f"{operation}{fmt.bits}"]
    function.restype = ctypes.c_uint64
    random, flags, agreeing = Random(6), ctypes.c_uint32(), RULES
    values = [*samples(fmt, 2, seed=5, rounds=3000), *product(edges(fmt), repeat=2)]
    least = 1 << fmt.fraction_bits
    values += [(least | random.getrandbits(9), fmt.bias - 1 << fmt.fraction_bits | least - 1 - d) for d in range(512)]
    for a, b in values:
        rounding = random.randrange(4)
        wanted = function(ctypes.c_uint64(a), ctypes.c_uint64(b), SSE_ROUNDING[rounding], ctypes.byref(flags))
        raised = sum(mine for its, mine in SSE_FLAGS.items() if flags.value & its)
        name, env = f"fp_{operation}{fmt.bits}", FloatEnv(rounding)
        found = {rules: native.call(name, replace(env, rules=rules), a, b) for rules in agreeing}
        assert found[SSE_RULES] == (wanted, raised), f"{operation} {a:#x} {b:#x} rounding {rounding}"
        agreeing = [rules for rules in agreeing if found[rules] == (wanted, raised)]
    # Sums that are tiny are exact, and no quotient lies so near below a power of two that it is rounded to it.
    either = [] if operation == "mul" else [SSE_RULES._replace(tiny_after_rounding=False)]
    assert agreeing == [*either, SSE_RULES]


@pytest.mark.parametrize("rules", RULES, ids=lambda rules: f"{rules.bits:#x}")
def test_rules_come_back_from_their_bits(rules: FloatRules) -> None:
    assert FloatRules.from_bits(rules.bits) == rules
