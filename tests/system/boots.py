# SPDX-License-Identifier: Apache-2.0
"""Boots that end by themselves, as users start them."""

from __future__ import annotations

import re
import resource
import subprocess
from dataclasses import dataclass

import pytest
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
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        output, errors = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        said = (error.stdout or b"").decode(errors="replace")
        pytest.fail(f"no end after {LIMIT} s; the last it said:\n{said[-3000:]}", pytrace=False)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # of the largest child so far
    beyond = errors.decode(errors="replace").removeprefix(host_warnings())
    return Boot(output.decode(errors="replace"), process.returncode, beyond, peak)
