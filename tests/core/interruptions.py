# SPDX-License-Identifier: Apache-2.0
"""An exception at each bytecode of a call, as a signal's handler may raise one: see `everywhere`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
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

    def _global(self, frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(OWN):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._local

    def _local(self, frame: FrameType, event: str, _: object) -> Any:
        if event == "opcode" and not self._known(frame):
            if self.count == self._at:
                self.count += 1
                self.where = f"{frame.f_code.co_qualname}:{frame.f_lineno}+{frame.f_lasti}"
                raise Interrupted(self.where)
            self.count += 1
        return self._local

    def _known(self, frame: FrameType) -> bool:
        """Whether the line, where that counts, is the one before."""
        if not self._coarse or frame.f_code.co_filename != workers.__file__:
            return False
        line, self._line = self._line, frame.f_lineno
        return line == self._line

    def __enter__(self) -> Injection:
        self._old = sys.gettrace()
        sys.settrace(self._global)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._old)


def everywhere(
    call: Callable[[], object], prepare: Callable[[], object] = lambda: None, coarse: bool = False
) -> Iterator[str]:
    """Make a call again and again, after `prepare`, each time with an exception one bytecode later, until one comes to
    its end. Yields, after each, where the exception was.
    """
    at = 0
    while True:
        prepare()
        try:
            with Injection(at, coarse) as injection:
                call()
        except Interrupted:
            yield injection.where
        if not injection.where:
            return
        at += 1
