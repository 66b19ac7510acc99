# SPDX-License-Identifier: Apache-2.0
"""Parallel addition and subtraction (A4.4.5): one row per instruction, with its lanes and how it finishes a result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from raddle.ir.builder import Builder, Value
from raddle.ir.types import Condition, Type
from raddle.translate.decode import Fields
from raddle.translate.semantics import Semantics
from raddle_target_arm.insns.common import read, write
from raddle_target_arm.insns.saturating import clamp
from raddle_target_arm.state import GE


class _Lane(NamedTuple):
    """Bits lsb … lsb + width - 1 of the result: the same bits of Rn, plus or minus bits ``of`` … of Rm."""

    lsb: int
    width: int
    minus: bool
    of: int


_ADD16: Final = (_Lane(0, 16, False, 0), _Lane(16, 16, False, 16))
_SUB16: Final = (_Lane(0, 16, True, 0), _Lane(16, 16, True, 16))
_ASX: Final = (_Lane(0, 16, True, 16), _Lane(16, 16, False, 0))
_SAX: Final = (_Lane(0, 16, False, 16), _Lane(16, 16, True, 0))
_ADD8: Final = tuple(_Lane(lsb, 8, False, lsb) for lsb in (0, 8, 16, 24))
_SUB8: Final = tuple(_Lane(lsb, 8, True, lsb) for lsb in (0, 8, 16, 24))

Finish = Callable[[Builder, _Lane, Value], Value]
"""Makes a lane's result from the exact one, both I32; only the low bits are kept."""


def _plain(b: Builder, lane: _Lane, exact: Value) -> Value:
    return exact


def _halved(b: Builder, lane: _Lane, exact: Value) -> Value:
    return b.sar(exact, 1)


def _signed_saturated(b: Builder, lane: _Lane, exact: Value) -> Value:
    limit = 1 << lane.width - 1
    return clamp(b, exact, -limit, limit - 1)


def _unsigned_saturated(b: Builder, lane: _Lane, exact: Value) -> Value:
    return clamp(b, exact, 0, (1 << lane.width) - 1)


def _ge(b: Builder, lane: _Lane, exact: Value, signed: bool) -> Value:
    """The lane's GE bits in place: set if the result is not negative, or if an unsigned sum carries out."""
    carries = not signed and not lane.minus
    holds = b.icmp(Condition.SGE, exact, 1 << lane.width if carries else 0)
    bits = (1 << lane.width // 8) - 1
    return b.select(holds, bits << lane.lsb // 8, 0, Type.I32)


def _parallel(
    name: str, section: str, lanes: tuple[_Lane, ...], finish: Finish, *, signed: bool, sets_ge: bool = False
) -> Semantics:
    def semantics(b: Builder, f: Fields) -> None:
        n, m = read(b, f, f.n), read(b, f, f.m)
        part = b.sextract if signed else b.extract
        result: Value | None = None
        ge: Value | None = None
        for lane in lanes:
            one, other = part(n, lane.lsb, lane.width), part(m, lane.of, lane.width)
            exact = b.sub(one, other) if lane.minus else b.add(one, other)
            if sets_ge:
                bits = _ge(b, lane, exact, signed)
                ge = bits if ge is None else b.or_(ge, bits)
            value = finish(b, lane, exact)
            result = value if result is None else b.deposit(result, value, lane.lsb, lane.width)
        assert result is not None
        if ge is not None:
            b.set(GE, ge)
        write(b, f, f.d, result)

    semantics.__name__ = semantics.__qualname__ = name
    semantics.__doc__ = f"{name}<c> <Rd>, <Rn>, <Rm>   ({section})"
    return semantics


# fmt: off
SADD16 = _parallel("SADD16", "A8.8.158", _ADD16, _plain, signed=True, sets_ge=True)
SADD8 = _parallel("SADD8", "A8.8.159", _ADD8, _plain, signed=True, sets_ge=True)
SASX = _parallel("SASX", "A8.8.160", _ASX, _plain, signed=True, sets_ge=True)
SSAX = _parallel("SSAX", "A8.8.195", _SAX, _plain, signed=True, sets_ge=True)
SSUB16 = _parallel("SSUB16", "A8.8.196", _SUB16, _plain, signed=True, sets_ge=True)
SSUB8 = _parallel("SSUB8", "A8.8.197", _SUB8, _plain, signed=True, sets_ge=True)
QADD16 = _parallel("QADD16", "A8.8.135", _ADD16, _signed_saturated, signed=True)
QADD8 = _parallel("QADD8", "A8.8.136", _ADD8, _signed_saturated, signed=True)
QASX = _parallel("QASX", "A8.8.137", _ASX, _signed_saturated, signed=True)
QSAX = _parallel("QSAX", "A8.8.140", _SAX, _signed_saturated, signed=True)
QSUB16 = _parallel("QSUB16", "A8.8.142", _SUB16, _signed_saturated, signed=True)
QSUB8 = _parallel("QSUB8", "A8.8.143", _SUB8, _signed_saturated, signed=True)
SHADD16 = _parallel("SHADD16", "A8.8.166", _ADD16, _halved, signed=True)
SHADD8 = _parallel("SHADD8", "A8.8.167", _ADD8, _halved, signed=True)
SHASX = _parallel("SHASX", "A8.8.168", _ASX, _halved, signed=True)
SHSAX = _parallel("SHSAX", "A8.8.169", _SAX, _halved, signed=True)
SHSUB16 = _parallel("SHSUB16", "A8.8.170", _SUB16, _halved, signed=True)
SHSUB8 = _parallel("SHSUB8", "A8.8.171", _SUB8, _halved, signed=True)
UADD16 = _parallel("UADD16", "A8.8.243", _ADD16, _plain, signed=False, sets_ge=True)
UADD8 = _parallel("UADD8", "A8.8.244", _ADD8, _plain, signed=False, sets_ge=True)
UASX = _parallel("UASX", "A8.8.245", _ASX, _plain, signed=False, sets_ge=True)
USAX = _parallel("USAX", "A8.8.268", _SAX, _plain, signed=False, sets_ge=True)
USUB16 = _parallel("USUB16", "A8.8.269", _SUB16, _plain, signed=False, sets_ge=True)
USUB8 = _parallel("USUB8", "A8.8.270", _SUB8, _plain, signed=False, sets_ge=True)
UHADD16 = _parallel("UHADD16", "A8.8.249", _ADD16, _halved, signed=False)
UHADD8 = _parallel("UHADD8", "A8.8.250", _ADD8, _halved, signed=False)
UHASX = _parallel("UHASX", "A8.8.251", _ASX, _halved, signed=False)
UHSAX = _parallel("UHSAX", "A8.8.252", _SAX, _halved, signed=False)
UHSUB16 = _parallel("UHSUB16", "A8.8.253", _SUB16, _halved, signed=False)
UHSUB8 = _parallel("UHSUB8", "A8.8.254", _SUB8, _halved, signed=False)
UQADD16 = _parallel("UQADD16", "A8.8.258", _ADD16, _unsigned_saturated, signed=False)
UQADD8 = _parallel("UQADD8", "A8.8.259", _ADD8, _unsigned_saturated, signed=False)
UQASX = _parallel("UQASX", "A8.8.260", _ASX, _unsigned_saturated, signed=False)
UQSAX = _parallel("UQSAX", "A8.8.261", _SAX, _unsigned_saturated, signed=False)
UQSUB16 = _parallel("UQSUB16", "A8.8.262", _SUB16, _unsigned_saturated, signed=False)
UQSUB8 = _parallel("UQSUB8", "A8.8.263", _SUB8, _unsigned_saturated, signed=False)
# fmt: on
