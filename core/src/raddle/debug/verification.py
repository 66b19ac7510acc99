# SPDX-License-Identifier: Apache-2.0
"""`-d verify`: the IR of a machine is verified before it is compiled, and IR that breaks a rule stops the machine.

Wrong IR, such as a use of a value on a path that has not defined it, would be compiled to code that does something
else. Tests of front ends verify the words that they translate; a guest may have others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raddle.ir.builder import Builder
from raddle.runtime.calls import require_valid

if TYPE_CHECKING:
    from raddle.threads.engine import Engine

__all__ = ["begin"]


def begin(engine: Engine) -> None:
    """Verify all routines of an engine, and from now on everything that is translated. Any thread.

    Raises MachineError for a routine; for a translation, the translating thread raises it. Its notes have the IR.
    """
    state = engine.frontend.state

    def check(b: Builder, what: str) -> None:
        require_valid(b, what, state)

    for name, b in engine.callees.built_routines():
        require_valid(b, f"routine {name!r}", state, routine=True)
    engine.translator.check = check
