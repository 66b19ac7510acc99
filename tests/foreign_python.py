# SPDX-License-Identifier: Apache-2.0
"""CPython for a machine of another architecture, which runs here under QEMU's emulation of user programs.

    python tests/foreign_python.py aarch64 DIRECTORY [--tools-only]

makes it where it is missing, from Debian's packages, without privileges and without changing the system. Needs Raddle,
and what is missing needs apt-get and dpkg: exit status 3 where there are none.

    DIRECTORY/root/            CPython, its library and the C libraries that they need
    DIRECTORY/tools/           what the system lacks of the emulator and the assembler
    DIRECTORY/bin/             the commands for these, by the names that they have in Debian
    DIRECTORY/python/          a virtual environment, new each time

`python/bin/python` is a script that starts the emulator and tells CPython the script's own path. So `sys.executable`
is the script, processes that are started with it are emulated, too, and uv installs into the virtual environment.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from raddle.debian.sources import Apt
from raddle.errors import RaddleError

ARCHITECTURES: Final = {"aarch64": "arm64", "x86_64": "amd64"}
"""Debian's names, by those of `platform.machine()`."""


class Sources(Apt):
    """The machine's package sources, which also fetch what a package depends on."""

    def __init__(self, architecture: str, directory: Path) -> None:
        super().__init__(architecture, directory)
        self._archives = directory / "apt" / "cache" / "archives"

    def fetch_all(self, package: str) -> list[Path]:
        """The files of a package and of all that it needs. Raises RaddleError."""
        self._run("apt-get", "-qq", "--yes", "--no-install-recommends", "--download-only", "install", package)
        return sorted(self._archives.glob("*.deb"))


class NoPackagesError(RaddleError):
    """A package is wanted where nothing can fetch and unpack it."""


def unpack(architecture: str, package: str, directory: Path) -> None:
    """Unpack a package, and all that it needs, into a new directory. Raises RaddleError."""
    lacking = [name for name in ("apt-get", "dpkg") if shutil.which(name) is None]
    if lacking:
        raise NoPackagesError(f"Debian's package {package} is wanted, and {' and '.join(lacking)} not installed")
    part = directory.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        for file in Sources(architecture, Path(scratch)).fetch_all(package):
            subprocess.run(["dpkg", "--extract", str(file), str(part)], check=True)
    shutil.rmtree(directory, ignore_errors=True)
    part.rename(directory)


def write_script(path: Path, command: list[str], *, libraries: Path | None = None) -> None:
    """A command that runs another one, with libraries that the system lacks; `"$0"` in it is the script's path."""
    words = " ".join('"$0"' if word == "$0" else shlex.quote(word) for word in command)
    variables = f"LD_LIBRARY_PATH={shlex.quote(str(libraries))} " if libraries else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n{variables}exec {words} "$@"\n')
    path.chmod(0o755)


def make_tool(name: str, package: str, unpacked_name: str, directory: Path) -> Path:
    """A command of the system's, or else Debian's, which is unpacked: its path in `directory`/bin."""
    command, found = directory / "bin" / name, shutil.which(name)
    if found:
        write_script(command, [found])
        return command
    here = directory / "tools" / package
    if not here.exists():
        here.parent.mkdir(parents=True, exist_ok=True)
        unpack(ARCHITECTURES[platform.machine()], package, here)
    libraries = here / "usr" / "lib" / f"{platform.machine()}-linux-gnu"
    write_script(command, [str(here / "usr" / "bin" / unpacked_name)], libraries=libraries)
    return command


def make_root(machine: str, directory: Path) -> Path:
    """The root of a file system with Debian's newest CPython for `machine`. One that this file made is kept."""
    root, made_by = directory / "root", directory / "root.made-by"
    me = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    if not root.exists() or not made_by.exists() or made_by.read_text() != me:
        unpack(ARCHITECTURES[machine], "python3", root)
        made_by.write_text(me)
    return root


def make_environment(emulator: Path, root: Path, directory: Path) -> None:
    """A virtual environment without packages."""
    real = (root / "usr" / "bin" / "python3").resolve()
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "lib" / real.name / "site-packages").mkdir(parents=True)
    (directory / "pyvenv.cfg").write_text(f"home = {real.parent}\ninclude-system-site-packages = false\n")
    write_script(directory / "bin" / "python", [str(emulator), "-L", str(root), "-0", "$0", str(real)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("machine", choices=sorted(ARCHITECTURES), help="as platform.machine() calls it there")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--tools-only", action="store_true", help="the emulator and the assembler, without CPython")
    options = parser.parse_args()
    directory, machine = options.directory.absolute(), options.machine
    try:
        emulator = make_tool(f"qemu-{machine}", "qemu-user-static", f"qemu-{machine}-static", directory)
        for tool in ("as", "objcopy"):
            name = f"{machine}-linux-gnu-{tool}"
            make_tool(name, f"binutils-{machine.replace('_', '-')}-linux-gnu", name, directory)
        if not options.tools_only:
            root = make_root(machine, directory)
            make_environment(emulator, root, directory / "python")
    except (RaddleError, subprocess.CalledProcessError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 3 if isinstance(error, NoPackagesError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
