# SPDX-License-Identifier: Apache-2.0
"""VAX arithmetic, comparison and conversion (4.10): operands and results are those of ``vax``.

Whether these instructions set status bits of FPCR is UNPREDICTABLE (4.7.8); here they do not. FPCR disables none of
their traps.
"""

from __future__ import annotations

from raddle.ir.builder import Builder, python
from raddle.translate.decode import Fields
from raddle.translate.semantics import Semantics
from raddle_target_alpha.fpcr import DZE, INV, IOV, OVF, UNF
from raddle_target_alpha.insns.common import I32, I64
from raddle_target_alpha.insns.float_common import CHOPPED, FLAGS, software, trap, underflow
from raddle_target_alpha.state import read, write
from raddle_target_alpha.vax import Formats, Operation, encode


def _vax(operation: Operation, source: Formats, target: Formats | None = None) -> Semantics:
    """``target`` is the result's format where it is another one."""

    def semantics(b: Builder, f: Fields) -> None:
        how = encode(operation, source, source if target is None else target, software(f), f.r == CHOPPED)
        before = b.get(FLAGS)
        b.set(FLAGS, 0)
        first = read(b, f.a) if "a" in f else b.const(0, I64)
        result = b.call(python("vax", may_exit=False), how, first, read(b, f.b), type=I64)
        raised = b.get(FLAGS)
        b.set(FLAGS, before)
        write(b, f.c, result)
        trapping = b.and_(raised, b.const(INV | DZE | OVF | (UNF | IOV if underflow(f) else 0), I32))
        with b.if_(b.ne(trapping, 0)):
            trap(b, f, trapping)

    return semantics


_ARITHMETIC = (Operation.ADD, Operation.SUB, Operation.MUL, Operation.DIV, Operation.SQRT)

ADDF, SUBF, MULF, DIVF, SQRTF = (_vax(operation, Formats.F) for operation in _ARITHMETIC)
ADDG, SUBG, MULG, DIVG, SQRTG = (_vax(operation, Formats.G) for operation in _ARITHMETIC)
CMPGEQ, CMPGLT = _vax(Operation.EQUAL, Formats.G), _vax(Operation.LESS, Formats.G)
CMPGLE = _vax(Operation.LESS_OR_EQUAL, Formats.G)
CVTQF, CVTQG = _vax(Operation.FROM_INTEGER, Formats.F), _vax(Operation.FROM_INTEGER, Formats.G)
CVTGQ = _vax(Operation.TO_INTEGER, Formats.G)
CVTGF, CVTGD = _vax(Operation.CONVERT, Formats.G, Formats.F), _vax(Operation.CONVERT, Formats.G, Formats.D)
CVTDG = _vax(Operation.CONVERT, Formats.D, Formats.G)
