# SPDX-License-Identifier: Apache-2.0
"""The runtime's floating-point helpers as a shared library of their own."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from raddle.runtime import helpers

_FOUND = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), "")
COMPILER = shlex.split(os.environ.get("CC") or _FOUND)
"""The compiler and its options: what CC in the environment says, which is needed where Python is another machine's
program. Empty: there is none, and ``build`` fails."""

_FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fno-strict-aliasing", "-shared", "-fPIC")


def build(directory: Path) -> Path:
    """Compile ``fp.c`` into ``directory``; the library's path. Its functions have the names in ``fp.h``."""
    subprocess.run([sys.executable, helpers.NATIVE.parent / "build.py", "--generate", directory], check=True)
    library = directory / "fp.so"
    includes = [f"-I{directory}", f"-I{helpers.NATIVE}"]
    subprocess.run([*COMPILER, *_FLAGS, *includes, helpers.NATIVE / "fp.c", "-lm", "-o", library], check=True)
    return library
