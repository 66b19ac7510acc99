# SPDX-License-Identifier: Apache-2.0
"""The runtime's floating-point helpers as a shared library of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from raddle.runtime import helpers

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
"""None: there is none, and ``build`` fails."""

_FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fno-strict-aliasing", "-shared", "-fPIC")


def build(directory: Path) -> Path:
    """Compile ``fp.c`` into ``directory``; the library's path. Its functions have the names in ``fp.h``."""
    subprocess.run([sys.executable, helpers.NATIVE.parent / "build.py", "--generate", directory], check=True)
    library = directory / "fp.so"
    includes = [f"-I{directory}", f"-I{helpers.NATIVE}"]
    subprocess.run([str(COMPILER), *_FLAGS, *includes, helpers.NATIVE / "fp.c", "-lm", "-o", library], check=True)
    return library
