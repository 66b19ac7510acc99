# SPDX-License-Identifier: Apache-2.0
"""`-d verify`: the IR of a machine is verified before it is compiled, and IR that breaks a rule stops the machine.

IR that is wrong, such as a value that is used where control may have come without defining it, would be compiled to
code that does something else. Front ends' tests verify what they translate; a guest meets words that they did not.
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

    Raises MachineError for a routine; what is translated raises it on the translating thread. Its notes have the IR.
    """
    state = engine.frontend.state

    def check(b: Builder, what: str) -> None:
        require_valid(b, what, state)

    for name, b in engine.callees.built_routines():
        require_valid(b, f"routine {name!r}", state, routine=True)
    engine.translator.check = check
