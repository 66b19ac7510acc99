# SPDX-License-Identifier: Apache-2.0
"""`-d verify`: the IR of a machine is verified before it is compiled, and IR that breaks a rule stops the machine.

Wrong IR, such as a use of a value on a path that has not defined it, would be compiled to code that does something
else. Tests of front ends verify the words that they translate; a guest may have others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raddle.errors import MachineError
from raddle.ir.builder import Builder
from raddle.ir.printer import print_function
from raddle.ir.verifier import VerifyError, verify

if TYPE_CHECKING:
    from raddle.threads.engine import Engine

__all__ = ["begin"]


def begin(engine: Engine) -> None:
    """Verify all routines of an engine, and from now on everything that is translated. Any thread.

    Raises MachineError for a routine; for a translation, the translating thread raises it. Its notes have the IR.
    """
    state = engine.frontend.state

    def check(b: Builder, what: str, routine: bool = False) -> None:
        try:
            verify(b, routine=routine, layout=state)
        except VerifyError as error:
            found = MachineError(f"the IR of {what} is invalid: {error}")
            found.add_note(print_function(b))
            raise found from None

    for name, b in engine.callees.built_routines():
        check(b, f"routine {name!r}", routine=True)
    engine.translator.check = check
