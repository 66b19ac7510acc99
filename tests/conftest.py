# SPDX-License-Identifier: Apache-2.0
"""Markers that name what a test needs: programs, `@pytest.mark.peer("qemu-system-arm")`, `@pytest.mark.cross(...)`, or
a host plug-in, `@pytest.mark.host`; Hypothesis without deadlines; and signals that do what they do by default, in what
the tests start, too.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import os
import re
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings

from raddle.errors import UsageError
from raddle.plugins import registry

settings.register_profile("raddle", deadline=None)  # a loaded machine is no failure
settings.load_profile("raddle")

# Who starts the tests may ignore some (nohup, a script's `&`), which Raddle then leaves so.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGTERM, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGQUIT, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

MARKER_NAMES = re.compile(r"\b(?!(?:not|and|or)\b)\w+\b")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m`, a file is not imported if no choice of the markers that it names is what is asked for: importing all
    takes longer than the few tests that want the machine for themselves. A test's markers are named in its own file.
    """
    asked = str(config.option.markexpr)
    if not re.fullmatch(r"[\w() ]+", asked) or not collection_path.match("test_*.py"):
        return None
    text = collection_path.read_text(encoding="utf-8")
    names = set(MARKER_NAMES.findall(asked))
    choices = [(False, True) if f"mark.{name}" in text else (False,) for name in names]
    with suppress(SyntaxError):  # pytest says so
        code = compile(asked, "-m", "eval")
        if not any(eval(code, {}, dict(zip(names, chosen, strict=True))) for chosen in itertools.product(*choices)):
            return True
    return None


REQUIRED = bool(os.environ.get("RADDLE_REQUIRE_PEERS"))


def missing(needed: str) -> bool:
    """Whether neither a program nor a Python package of that name is there."""
    return shutil.which(needed) is None and importlib.util.find_spec(needed) is None


@functools.cache
def lacking_host(name: str = "") -> str:
    """Why no guest code can run here, or not on the host plug-in `name`; empty where it can."""
    try:
        host = registry().host_for()
    except UsageError as error:
        return str(error)
    return f"needs the host {name}; this machine has {host.name}" if name not in ("", host.name) else ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose host or peer is missing, with the reason; fail it where peers are required."""
    for marker in item.iter_markers("host"):
        reason = lacking_host(*marker.args)
        if reason:
            pytest.skip(reason)
    for marker in (*item.iter_markers("peer"), *item.iter_markers("cross")):
        for needed in marker.args:
            if missing(needed):
                reason = f"needs {needed}, which is not installed"
                if REQUIRED:
                    pytest.fail(reason, pytrace=False)
                pytest.skip(reason)
