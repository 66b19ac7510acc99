# SPDX-License-Identifier: Apache-2.0
"""Minima, maxima and packing of the bytes and words of a quadword: the extension MVI (4.13)."""

from __future__ import annotations

from typing import Final

from raddle.ir.builder import Builder, Value
from raddle.translate.decode import Fields
from raddle.translate.semantics import Semantics
from raddle_target_alpha.insns.common import operand
from raddle_target_alpha.state import read, write

_LANES: Final = {8: 0x0101_0101_0101_0101, 16: 0x0001_0001_0001_0001}
"""Bit 0 of each lane, by the width of the lanes."""


def _not_less(b: Builder, x: Value, y: Value, width: int) -> Value:
    """All ones in the lanes in which x >= y, unsigned."""
    signs = _LANES[width] << width - 1
    low = b.sub(b.or_(x, signs), b.and_(y, ~signs))
    either = b.or_(b.and_(x, b.not_(y)), b.and_(low, b.not_(b.xor(x, y))))
    ones = b.and_(b.shr(either, width - 1), _LANES[width])
    return b.sub(b.shl(ones, width), ones)


def _chosen(b: Builder, mask: Value, x: Value, y: Value) -> Value:
    """x where the mask is 1, y where it is 0."""
    return b.xor(y, b.and_(b.xor(x, y), mask))


def _extreme(width: int, signed: bool, greater: bool) -> Semantics:
    def semantics(b: Builder, f: Fields) -> None:
        x, y = read(b, f.a), operand(b, f)
        signs = _LANES[width] << width - 1
        left, right = (b.xor(x, signs), b.xor(y, signs)) if signed else (x, y)
        mask = _not_less(b, left, right, width)
        write(b, f.c, _chosen(b, mask, x, y) if greater else _chosen(b, mask, y, x))

    return semantics


MINSB8, MINUB8 = _extreme(8, signed=True, greater=False), _extreme(8, signed=False, greater=False)
MAXSB8, MAXUB8 = _extreme(8, signed=True, greater=True), _extreme(8, signed=False, greater=True)
MINSW4, MINUW4 = _extreme(16, signed=True, greater=False), _extreme(16, signed=False, greater=False)
MAXSW4, MAXUW4 = _extreme(16, signed=True, greater=True), _extreme(16, signed=False, greater=True)


def PERR(b: Builder, f: Fields) -> None:
    """The sum of the differences of the bytes, each without its sign."""
    x, y = read(b, f.a), read(b, f.b)
    mask = _not_less(b, x, y, 8)
    differences = b.sub(_chosen(b, mask, x, y), _chosen(b, mask, y, x))
    even = 0xFF * _LANES[16]
    pairs = b.add(b.and_(differences, even), b.and_(b.shr(differences, 8), even))
    write(b, f.c, b.shr(b.mul(pairs, _LANES[16]), 48))


def _packed(moves: tuple[tuple[int, int], ...]) -> Semantics:
    """Bytes of Rbv at other places, all else 0: pairs of byte numbers, from and to."""

    def semantics(b: Builder, f: Fields) -> None:
        source = read(b, f.b)
        parts = [b.shl(b.extract(source, 8 * old, 8), 8 * new) for old, new in moves]
        result = parts[0]
        for part in parts[1:]:
            result = b.or_(result, part)
        write(b, f.c, result)

    return semantics


PKLB = _packed(((0, 0), (4, 1)))
PKWB = _packed(((0, 0), (2, 1), (4, 2), (6, 3)))
UNPKBL = _packed(((0, 0), (1, 4)))
UNPKBW = _packed(((0, 0), (1, 2), (2, 4), (3, 6)))
