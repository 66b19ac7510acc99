# SPDX-License-Identifier: Apache-2.0
"""The error for invalid IR, and the rule that every compiled routine is held to. `raddle.ir.verifier` has all rules;
a machine starts without it.
"""

from __future__ import annotations

from raddle.ir.builder import Builder
from raddle.ir.opcodes import TABLE, Effect

__all__ = ["VerifyError", "verify_end"]


class VerifyError(ValueError):
    """Invalid IR: what is wrong, with which instruction. `index` is its place in the code."""

    def __init__(self, message: str, index: int) -> None:
        super().__init__(message)
        self.index = index


def verify_end(routine: Builder) -> None:
    """Raise VerifyError for an IR routine that runs off its end: into whatever code lies behind it."""
    code = routine.code
    if code and TABLE[code[-1].op].effects & Effect.END:
        return
    from raddle.ir.printer import print_instruction

    last = max(len(code) - 1, 0)
    text = print_instruction(routine, code[last]) if code else "empty function"
    raise VerifyError(f"instruction {last} ({text}): the routine runs off its end without ret", last)
