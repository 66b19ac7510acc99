# SPDX-License-Identifier: Apache-2.0
"""An exception at each bytecode of a call, as a signal's handler may raise one: see `everywhere`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import raddle
from raddle import workers

OWN = str(Path(raddle.__file__).parent)
"""Where the code is that exceptions are raised in."""


class Interrupted(BaseException):
    """What the handler raises."""


class Injection:
    """Raises `Interrupted` before the bytecode `at` of those that the calling thread executes in Raddle's own code, and
    counts them. What it calls of the library's is left alone.
    """

    def __init__(self, at: int, coarse: bool = False) -> None:
        """`coarse`: in `workers`, which all calls go through, at each line only."""
        self._at = at
        self._coarse = coarse
        self._line = 0
        self.count = 0
        self.where = ""

    def reach(self, frame: FrameType, offset: int) -> None:
        """The frame is about to execute the bytecode at this offset."""
        if self._known(frame):
            return
        self.count += 1
        if self.count > self._at and not self.where:
            self.where = f"{frame.f_code.co_qualname}:{frame.f_lineno}+{offset}"
            raise Interrupted(self.where)

    def _known(self, frame: FrameType) -> bool:
        """Whether the line, where that counts, is the one before."""
        if not self._coarse or frame.f_code.co_filename != workers.__file__:
            return False
        line, self._line = self._line, frame.f_lineno
        return line == self._line


if sys.version_info >= (3, 12):
    from sys import monitoring

    TOOL = monitoring.DEBUGGER_ID

    @contextmanager
    def injected(injection: Injection) -> Iterator[None]:
        """Tell `injection` of each bytecode of the calling thread; one at a time, for events are the process's."""
        thread = threading.get_ident()

        def instruction(code: CodeType, offset: int) -> object:
            if not code.co_filename.startswith(OWN):
                return monitoring.DISABLE
            if threading.get_ident() == thread:
                injection.reach(sys._getframe(1), offset)
            return None

        monitoring.use_tool_id(TOOL, "interruptions")
        monitoring.register_callback(TOOL, monitoring.events.INSTRUCTION, instruction)
        monitoring.set_events(TOOL, monitoring.events.INSTRUCTION)
        try:
            yield
        finally:
            monitoring.set_events(TOOL, monitoring.events.NO_EVENTS)
            monitoring.register_callback(TOOL, monitoring.events.INSTRUCTION, None)
            monitoring.free_tool_id(TOOL)

else:

    @contextmanager
    def injected(injection: Injection) -> Iterator[None]:
        """Tell `injection` of each bytecode of the calling thread."""

        def enter(frame: FrameType, event: str, _: object) -> Any:
            if not frame.f_code.co_filename.startswith(OWN):
                return None
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
            return step

        def step(frame: FrameType, event: str, _: object) -> Any:
            if event == "opcode":
                injection.reach(frame, frame.f_lasti)
            return step

        old = sys.gettrace()
        sys.settrace(enter)
        try:
            yield
        finally:
            sys.settrace(old)


def everywhere(
    call: Callable[[], object], prepare: Callable[[], object] = lambda: None, coarse: bool = False
) -> Iterator[str]:
    """Make a call again and again, after `prepare`, each time with an exception one bytecode later, until one comes to
    its end. Yields, after each, where the exception was.
    """
    at = 0
    while True:
        prepare()
        injection = Injection(at, coarse)
        try:
            with injected(injection):
                call()
        except Interrupted:
            yield injection.where
        if not injection.where:
            return
        at += 1
