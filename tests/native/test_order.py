# SPDX-License-Identifier: Apache-2.0
"""Fences that x86-64 does not need: they are looked for in the code that a compiler makes for a weakly ordered host."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUNTIME = Path(__file__).resolve().parents[2] / "core" / "src" / "raddle" / "runtime"
COMPILER = "arm-linux-gnueabihf-gcc"
FLAGS = ("-std=c11", "-O2", "-march=armv7-a+fp", "-fno-strict-aliasing", "-w", "-S", "-o", "-")
EPILOGUE = 6
"""Instructions that restore registers and return, at the most."""
NO_OFFSETS = "-D_Static_assert(...)="
"""Offsets of the CPU header are those of a 64-bit host."""


def instructions(source: str, function: str, scratch: Path) -> list[str]:
    """The function as ARMv7 code, an instruction a line."""
    subprocess.run([sys.executable, str(RUNTIME / "build.py"), "--generate", str(scratch)], check=True)
    include = (f"-I{scratch}", f"-I{RUNTIME / 'native'}")
    command = [COMPILER, *FLAGS, NO_OFFSETS, *include, str(RUNTIME / "native" / source)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    body = text.partition(f"\n{function}:\n")[2].partition(f"\t.size\t{function},")[0]
    lines = [line for line in body.splitlines() if line.startswith("\t") and not line.startswith("\t.")]
    return [" ".join(line.split()) for line in lines]


@pytest.mark.cross(COMPILER)
def test_guest_code_is_read_after_its_page_is_marked(tmp_path: Path) -> None:
    """Giving up the lock keeps no later load behind it."""
    code = instructions("blocks.c", "raddle_code_begin", tmp_path)
    unlock = next(at for at, line in enumerate(code) if line.startswith("bl pthread_mutex_unlock"))
    leaves = next(at for at, line in enumerate(code) if at > unlock and line.startswith(("pop", "bx lr")))
    assert "dmb ish" in code[unlock:leaves]


@pytest.mark.cross(COMPILER)
def test_a_slow_load_keeps_what_it_has_stored_before_later_accesses(tmp_path: Path) -> None:
    """A page-table walk or a device may have stored to the guest's memory, and a barrier behind the load may be left
    out, since it is for earlier stores (raddle/codegen/barriers.py).
    """
    code = instructions("slowpath.c", "load", tmp_path)
    leaves = [at for at, line in enumerate(code) if line.startswith(("pop", "bx lr"))]
    assert leaves
    for at in leaves:
        assert "dmb ish" in code[at - EPILOGUE : at]
