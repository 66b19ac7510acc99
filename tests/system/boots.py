# SPDX-License-Identifier: Apache-2.0
"""Boots that end by themselves, as users start them."""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
from dataclasses import dataclass

import pytest
from tests.children import wait
from tests.host_warnings import host_warnings
from tests.patience import seconds

LIMIT = seconds(280.0)
"""Seconds for a boot; on a free machine it takes a twentieth of that."""
CRY = re.compile(r"Oops|BUG:|WARNING:|Unable to handle|rcu: INFO|Internal error|undefined instruction|Call trace", re.I)
"""What a kernel says when something is wrong with it or its machine."""


@dataclass(frozen=True)
class Boot:
    """A boot that has ended by itself."""

    text: str
    status: int
    errors: str
    """What is said beyond the host's warnings."""
    peak_kib: int
    """Resident memory at its most."""


def run(words: list[str]) -> Boot:
    """Run the command; the test fails where it does not end."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        status, usage = wait(process, LIMIT)
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    text, said = texts
    if status == -signal.SIGKILL:
        pytest.fail(f"killed, as after {LIMIT} s without an end; the last it said:\n{text[-3000:]}", pytrace=False)
    return Boot(text, status, said.removeprefix(host_warnings()), usage.ru_maxrss)
