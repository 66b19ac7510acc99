# SPDX-License-Identifier: Apache-2.0
"""The C files of the runtime call each other as the head of internal.h says."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from shutil import which

import pytest

RUNTIME = Path(__file__).resolve().parents[2] / "core" / "src" / "raddle" / "runtime"
NATIVE = RUNTIME / "native"
COMPILER = (sysconfig.get_config_var("CC") or "cc").split()[0]

pytestmark = pytest.mark.skipif(not (which(COMPILER) and which("nm")), reason="needs a C compiler and nm")


def layers() -> dict[str, int]:
    """Files by their line in internal.h, 0 at the top."""
    text = (NATIVE / "internal.h").read_text().partition(" * Files. ")[2].partition("*/")[0]
    lines = re.findall(r"^ \*   (\w[\w, ]*):", text, re.MULTILINE)
    return {name: at for at, line in enumerate(lines) for name in line.split(", ")}


def symbols(scratch: Path) -> tuple[dict[str, str], dict[str, set[str]]]:
    """Where each function of the runtime is defined, and what each file uses of others."""
    subprocess.run([sys.executable, str(RUNTIME / "build.py"), "--generate", str(scratch)], check=True)
    sources = sorted(NATIVE.glob("*.c"))
    command = [COMPILER, "-std=c11", "-O0", f"-I{scratch}", f"-I{NATIVE}", "-c", *map(str, sources)]
    subprocess.run(command, check=True, cwd=scratch)
    defined: dict[str, str] = {}
    used: dict[str, set[str]] = {}
    for source in sources:
        listing = subprocess.run(
            ["nm", "-P", f"{source.stem}.o"], capture_output=True, text=True, check=True, cwd=scratch
        )
        for name, kind, *_ in map(str.split, listing.stdout.splitlines()):
            if kind == "U":
                used.setdefault(source.stem, set()).add(name)
            elif kind.isupper():
                defined[name] = source.stem
    return defined, used


def test_files_call_only_what_is_on_their_line_or_below(tmp_path: Path) -> None:
    defined, used = symbols(tmp_path)
    order = layers()
    assert sorted(order) == sorted(path.stem for path in NATIVE.glob("*.c"))
    upward = [
        f"{file}.c calls {name} of {defined[name]}.c"
        for file, names in used.items()
        for name in sorted(names & defined.keys())
        if order[defined[name]] < order[file]
    ]
    assert upward == []
    assert defined["raddle_run"] == "loop"
    assert {"raddle_run", "raddle_timer_new"} <= used["schedule"]
