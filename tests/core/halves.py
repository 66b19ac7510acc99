# SPDX-License-Identifier: Apache-2.0
"""Half precision by ``raddle.ir.floats``: ARM DDI 0406C, FPHalfToSingle and FPSingleToHalf (A2.7.7).

Halves are never flushed to zero. The alternative format has one more exponent in place of infinities and NaNs.
"""

from __future__ import annotations

from raddle.ir import floats
from raddle.ir.floats import F32, FloatEnv, Format

F16 = Format(5, 10)


def half_to_single(bits: int, alternative: bool, env: FloatEnv) -> int:
    """By floats.convert, but halves are never flushed."""
    if alternative and bits >> 10 & 31 == 31:
        return (bits & 0x8000) << 16 | (127 + 16) << 23 | (bits & 0x3FF) << 13
    unflushed = FloatEnv(env.rounding, False, env.default_nan, rules=env.rules)
    result = floats.convert(bits, F16, F32, unflushed)
    env.flags |= unflushed.flags
    return result


def single_to_half(bits: int, alternative: bool, env: FloatEnv) -> int:
    sign = bits >> 31 << 15
    special = bits & F32.infinity == F32.infinity
    if alternative and special:
        env.flags |= floats.INVALID
        return sign if bits & 0x7F_FFFF else sign | 0x7FFF
    if env.flush and not bits & F32.infinity and bits & 0x7F_FFFF:
        env.flags |= floats.INPUT_DENORMAL
        return sign
    unflushed = FloatEnv(env.rounding, False, env.default_nan, rules=env.rules)
    if not alternative or special:
        result = floats.convert(bits, F32, F16, unflushed)
    else:
        # One more exponent: halve what is too great for the ordinary ones.
        exponent = bits >> 23 & 0xFF
        great = exponent >= 127 + 15
        result = floats.convert(bits - (1 << 23) * great, F32, F16, unflushed)
        if great:
            result += 1 << 10
        if unflushed.flags & floats.OVERFLOW:
            env.flags |= floats.INVALID
            return sign | 0x7FFF
    env.flags |= unflushed.flags
    return result
