# SPDX-License-Identifier: Apache-2.0
"""What the IR's floating-point operations mean, bit for bit: IEEE 754 in Python's integers.

Values are bit patterns (ints); every function takes the ``Format`` and the ``FloatEnv`` whose flags it raises. A finite
number is handled as sign, integer mantissa and exponent, so that each operation is computed exactly and rounded once.

Where IEEE 754 leaves a choice to an architecture, its front end makes it by ``FloatRules``. For all guests:

- a NaN result is one of the NaN operands, quieted, or the default NaN (a quiet NaN with no payload); the order of the
  operands of ``fma(a, b, c)`` is c, a, b;
- ``fma`` of infinity and zero is invalid even when c is a quiet NaN, and yields the default NaN;
- flushing to zero keeps signs; a flushed input raises only INPUT_DENORMAL, a flushed result only UNDERFLOW;
- a number that is too large for an integer saturates, and a NaN gives 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import NamedTuple

from raddle.ir.types import FloatRules, NanChoice

INVALID = 1
DIVIDE_BY_ZERO = 2
OVERFLOW = 4
UNDERFLOW = 8
INEXACT = 16
INPUT_DENORMAL = 128

NEAREST, UP, DOWN, ZERO = range(4)
"""Rounding modes, numbered as the common field ``fp_rounding``."""

LESS, EQUAL, GREATER, UNORDERED = range(4)
"""Results of ``compare``."""


@dataclass(frozen=True, slots=True)
class Format:
    """A binary interchange format, by the widths of its exponent and fraction fields."""

    exponent_bits: int
    fraction_bits: int

    @property
    def bits(self) -> int:
        return 1 + self.exponent_bits + self.fraction_bits

    @property
    def bias(self) -> int:
        return (1 << (self.exponent_bits - 1)) - 1

    @property
    def exponent_max(self) -> int:
        """The exponent field of infinities and NaNs."""
        return (1 << self.exponent_bits) - 1

    @property
    def sign_bit(self) -> int:
        return 1 << (self.bits - 1)

    @property
    def quiet_bit(self) -> int:
        return 1 << (self.fraction_bits - 1)

    @property
    def infinity(self) -> int:
        return self.exponent_max << self.fraction_bits

    @property
    def default_nan(self) -> int:
        """The positive one."""
        return self.infinity | self.quiet_bit


F32 = Format(8, 23)
F64 = Format(11, 52)


DEFAULT_RULES = FloatRules()


@dataclass(slots=True)
class FloatEnv:
    """The CPU's floating-point environment; ``flags`` is sticky. One thread at a time."""

    rounding: int = NEAREST
    flush: bool = False
    default_nan: bool = False
    flags: int = 0
    rules: FloatRules = DEFAULT_RULES


class _Number(NamedTuple):
    """An unpacked operand: (-1)**sign * mantissa * 2**exponent, or an infinity, or a NaN."""

    sign: int
    mantissa: int
    exponent: int
    infinite: bool = False
    nan: bool = False
    signalling: bool = False

    @property
    def zero(self) -> bool:
        return self.mantissa == 0 and not self.infinite and not self.nan

    @property
    def signed_mantissa(self) -> int:
        return -self.mantissa if self.sign else self.mantissa


def _unpack(bits: int, fmt: Format, env: FloatEnv) -> _Number:
    sign = bits >> (fmt.bits - 1)
    exponent = bits >> fmt.fraction_bits & fmt.exponent_max
    fraction = bits & ((1 << fmt.fraction_bits) - 1)
    if exponent == fmt.exponent_max:
        if fraction:
            return _Number(sign, 0, 0, nan=True, signalling=not fraction & fmt.quiet_bit)
        return _Number(sign, 0, 0, infinite=True)
    if exponent == 0:
        if fraction and env.flush:
            env.flags |= INPUT_DENORMAL
            fraction = 0
        return _Number(sign, fraction, 1 - fmt.bias - fmt.fraction_bits)
    return _Number(sign, fraction | 1 << fmt.fraction_bits, exponent - fmt.bias - fmt.fraction_bits)


def _zero(sign: int, fmt: Format) -> int:
    return fmt.sign_bit if sign else 0


def _infinity(sign: int, fmt: Format) -> int:
    return _zero(sign, fmt) | fmt.infinity


def _default_nan(fmt: Format, env: FloatEnv) -> int:
    return fmt.default_nan | _zero(int(env.rules.negative_default_nan), fmt)


def _invalid(fmt: Format, env: FloatEnv) -> int:
    env.flags |= INVALID
    return _default_nan(fmt, env)


def _increments(rounding: int, sign: int, kept: int, remainder: int, half: int) -> bool:
    """Whether the magnitude ``kept``, from which ``remainder`` is cut off, is increased; ``half`` is half a unit."""
    if rounding == NEAREST:
        return remainder > half or (remainder == half and kept & 1 == 1)
    if rounding == ZERO or not remainder:
        return False
    return bool(sign) == (rounding == DOWN)


def _rounds_up_to_a_power(sign: int, mantissa: int, fmt: Format, rounding: int) -> bool:
    """Whether ``mantissa``, rounded to the bits of a normal number, gets one bit longer."""
    lost_bits = mantissa.bit_length() - 1 - fmt.fraction_bits
    if lost_bits <= 0 or ~(mantissa >> lost_bits) & (2 << fmt.fraction_bits) - 1:
        return False
    return _increments(rounding, sign, 1, mantissa & (1 << lost_bits) - 1, 1 << lost_bits - 1)


def _round(sign: int, mantissa: int, exponent: int, fmt: Format, env: FloatEnv, rounding: int | None = None) -> int:
    """The bits of (-1)**sign * mantissa * 2**exponent; ``mantissa`` is positive, its lowest bit may be a sticky bit."""
    rounding = env.rounding if rounding is None else rounding
    least = 1 - fmt.bias
    leading = exponent + mantissa.bit_length() - 1
    tiny = leading < least
    if env.rules.tiny_after_rounding and leading == least - 1:
        tiny = not _rounds_up_to_a_power(sign, mantissa, fmt, rounding)
    if tiny and env.flush:
        env.flags |= UNDERFLOW
        return _zero(sign, fmt)
    unit = max(leading, least) - fmt.fraction_bits
    lost_bits = unit - exponent
    if lost_bits > 0:
        kept, remainder = mantissa >> lost_bits, mantissa & ((1 << lost_bits) - 1)
        if _increments(rounding, sign, kept, remainder, 1 << (lost_bits - 1)):
            kept += 1
    else:
        kept, remainder = mantissa << -lost_bits, 0
    if kept >> (fmt.fraction_bits + 1):
        kept >>= 1
        unit += 1
    biased = unit + fmt.fraction_bits + fmt.bias if kept >> fmt.fraction_bits else 0
    if biased >= fmt.exponent_max:
        env.flags |= OVERFLOW | INEXACT
        to_infinity = rounding == NEAREST or (rounding != ZERO and bool(sign) == (rounding == DOWN))
        return _infinity(sign, fmt) if to_infinity else _infinity(sign, fmt) - 1
    if remainder:
        env.flags |= INEXACT | UNDERFLOW if tiny else INEXACT
    return _zero(sign, fmt) | biased << fmt.fraction_bits | kept & ((1 << fmt.fraction_bits) - 1)


def _nan(operands: tuple[tuple[int, _Number], ...], fmt: Format, env: FloatEnv) -> int | None:
    """The NaN that an operation with these operands yields; None when none of them is a NaN."""
    nans = [o for o in operands if o[1].nan]
    if not nans:
        return None
    signalling = [o for o in nans if o[1].signalling]
    if signalling:
        env.flags |= INVALID
    if env.default_nan:
        return _default_nan(fmt, env)
    match env.rules.nan:
        case NanChoice.SIGNALLING_FIRST:
            chosen = (signalling or nans)[0]
        case NanChoice.FIRST:
            chosen = nans[0]
        case NanChoice.LAST:
            chosen = nans[-1]
    return chosen[0] | fmt.quiet_bit


def _sum(x: _Number, y: _Number, fmt: Format, env: FloatEnv) -> int:
    """x + y for finite x and y."""
    if x.zero and y.zero and x.sign == y.sign:
        return _zero(x.sign, fmt)
    exponent = min(x.exponent, y.exponent)
    total = (x.signed_mantissa << (x.exponent - exponent)) + (y.signed_mantissa << (y.exponent - exponent))
    if total == 0:
        return _zero(int(env.rounding == DOWN), fmt)
    return _round(int(total < 0), abs(total), exponent, fmt, env)


def _add(a: int, b: int, fmt: Format, env: FloatEnv, negate_b: int) -> int:
    x, y = _unpack(a, fmt, env), _unpack(b, fmt, env)
    nan = _nan(((a, x), (b, y)), fmt, env)
    if nan is not None:
        return nan
    y = y._replace(sign=y.sign ^ negate_b)
    if x.infinite and y.infinite and x.sign != y.sign:
        return _invalid(fmt, env)
    if x.infinite or y.infinite:
        return _infinity(x.sign if x.infinite else y.sign, fmt)
    return _sum(x, y, fmt, env)


def add(a: int, b: int, fmt: Format, env: FloatEnv) -> int:
    """a + b."""
    return _add(a, b, fmt, env, 0)


def sub(a: int, b: int, fmt: Format, env: FloatEnv) -> int:
    """a - b; a NaN b keeps its sign."""
    return _add(a, b, fmt, env, 1)


def mul(a: int, b: int, fmt: Format, env: FloatEnv) -> int:
    """a * b."""
    x, y = _unpack(a, fmt, env), _unpack(b, fmt, env)
    nan = _nan(((a, x), (b, y)), fmt, env)
    if nan is not None:
        return nan
    sign = x.sign ^ y.sign
    if (x.infinite and y.zero) or (x.zero and y.infinite):
        return _invalid(fmt, env)
    if x.infinite or y.infinite:
        return _infinity(sign, fmt)
    if x.zero or y.zero:
        return _zero(sign, fmt)
    return _round(sign, x.mantissa * y.mantissa, x.exponent + y.exponent, fmt, env)


def div(a: int, b: int, fmt: Format, env: FloatEnv) -> int:
    """a / b."""
    x, y = _unpack(a, fmt, env), _unpack(b, fmt, env)
    nan = _nan(((a, x), (b, y)), fmt, env)
    if nan is not None:
        return nan
    sign = x.sign ^ y.sign
    if (x.infinite and y.infinite) or (x.zero and y.zero):
        return _invalid(fmt, env)
    if x.infinite or y.zero:
        if not x.infinite:
            env.flags |= DIVIDE_BY_ZERO
        return _infinity(sign, fmt)
    if x.zero or y.infinite:
        return _zero(sign, fmt)
    # A quotient of more than fraction_bits + 2 bits; one further bit stands for all that follow.
    scale = 2 * fmt.fraction_bits + 4
    quotient, remainder = divmod(x.mantissa << scale, y.mantissa)
    return _round(sign, quotient << 1 | bool(remainder), x.exponent - y.exponent - scale - 1, fmt, env)


def sqrt(a: int, fmt: Format, env: FloatEnv) -> int:
    """Square root; that of -0 is -0."""
    x = _unpack(a, fmt, env)
    nan = _nan(((a, x),), fmt, env)
    if nan is not None:
        return nan
    if x.zero:
        return _zero(x.sign, fmt)
    if x.sign:
        return _invalid(fmt, env)
    if x.infinite:
        return _infinity(0, fmt)
    scale = 2 * fmt.fraction_bits + 4 + (x.exponent & 1)
    root = isqrt(x.mantissa << scale)
    inexact = root * root != x.mantissa << scale
    return _round(0, root << 1 | inexact, (x.exponent - scale) // 2 - 1, fmt, env)


def fma(a: int, b: int, c: int, fmt: Format, env: FloatEnv) -> int:
    """a * b + c, rounded once."""
    z, x, y = _unpack(c, fmt, env), _unpack(a, fmt, env), _unpack(b, fmt, env)
    product_invalid = (x.infinite and y.zero) or (x.zero and y.infinite)
    nan = _nan(((c, z), (a, x), (b, y)), fmt, env)
    if nan is not None:
        return _invalid(fmt, env) if product_invalid and not z.signalling else nan
    sign = x.sign ^ y.sign
    product_infinite = x.infinite or y.infinite
    if product_invalid or (product_infinite and z.infinite and sign != z.sign):
        return _invalid(fmt, env)
    if product_infinite or z.infinite:
        return _infinity(sign if product_infinite else z.sign, fmt)
    return _sum(_Number(sign, x.mantissa * y.mantissa, x.exponent + y.exponent), z, fmt, env)


def neg(a: int, fmt: Format) -> int:
    """The sign bit inverted; no operand is special."""
    return a ^ fmt.sign_bit


def absolute(a: int, fmt: Format) -> int:
    """The sign bit cleared; no operand is special."""
    return a & ~fmt.sign_bit


def compare(a: int, b: int, fmt: Format, env: FloatEnv, signalling: bool) -> int:
    """LESS, EQUAL, GREATER or UNORDERED; ``signalling``: quiet NaNs are invalid, too."""
    x, y = _unpack(a, fmt, env), _unpack(b, fmt, env)
    if x.nan or y.nan:
        if signalling or x.signalling or y.signalling:
            env.flags |= INVALID
        return UNORDERED
    left, right = _ordinal(a, x, fmt), _ordinal(b, y, fmt)
    return EQUAL if left == right else LESS if left < right else GREATER


def _ordinal(bits: int, x: _Number, fmt: Format) -> int:
    """An integer that sorts as the number does: formats are sign and magnitude."""
    if x.zero:
        return 0
    return -(bits ^ fmt.sign_bit) if x.sign else bits


def convert(a: int, source: Format, target: Format, env: FloatEnv) -> int:
    """A number of format ``source`` in format ``target``; NaN payloads keep their high bits."""
    x = _unpack(a, source, env)
    if x.nan:
        if x.signalling:
            env.flags |= INVALID
        if env.default_nan:
            return _default_nan(target, env)
        payload = a & (source.quiet_bit - 1)
        narrowed = source.fraction_bits - target.fraction_bits
        payload = payload >> narrowed if narrowed >= 0 else payload << -narrowed
        return _zero(x.sign, target) | target.default_nan | payload
    if x.infinite:
        return _infinity(x.sign, target)
    if x.zero:
        return _zero(x.sign, target)
    return _round(x.sign, x.mantissa, x.exponent, target, env)


def to_int(a: int, fmt: Format, env: FloatEnv, signed: bool, width: int, rounding: int, fraction: int = 0) -> int:
    """a * 2**fraction rounded to an integer, saturated to ``width`` bits; negative results as Python's negatives.

    NaN yields 0. NaN and saturation are invalid (and then not inexact).
    """
    x = _unpack(a, fmt, env)
    if x.nan:
        env.flags |= INVALID
        return 0
    low, high = (-1 << (width - 1), (1 << (width - 1)) - 1) if signed else (0, (1 << width) - 1)
    if x.infinite:
        env.flags |= INVALID
        return low if x.sign else high
    exponent = x.exponent + fraction
    if exponent >= 0:
        magnitude, remainder = x.mantissa << exponent, 0
    else:
        magnitude, remainder = x.mantissa >> -exponent, x.mantissa & ((1 << -exponent) - 1)
        if _increments(rounding, x.sign, magnitude, remainder, 1 << (-exponent - 1)):
            magnitude += 1
    result = -magnitude if x.sign else magnitude
    if not low <= result <= high:
        env.flags |= INVALID
        return low if x.sign else high
    if remainder:
        env.flags |= INEXACT
    return result


def from_int(value: int, fmt: Format, env: FloatEnv, rounding: int | None = None, fraction: int = 0) -> int:
    """The Python integer ``value`` divided by 2**fraction; ``rounding`` None is the environment's."""
    if value == 0:
        return 0
    return _round(int(value < 0), abs(value), -fraction, fmt, env, rounding)
