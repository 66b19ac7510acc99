#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make Alpha's boot payload from Debian's packages.

``build.py DIRECTORY`` writes there ``vmlinux``, a Linux that ticks by an alarm of each CPU (CONFIG_ALPHA_QEMU),
``vmlinux-rtc``, which ticks by the clock chip, and ``initramfs.cpio.gz``, whose first process is ``init.c``. It does
nothing where they are there and were made from the same sources by the same compiler. It takes some six minutes of a
core, and meanwhile 1.5 GB below the directory.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from raddle.debian.initramfs import initramfs

HERE = Path(__file__).resolve().parent
CONFIGURATION = HERE / "linux.config"
INIT = HERE / "init.c"

CROSS = "alpha-linux-gnu-"
LIBRARIES = Path("/usr/alpha-linux-gnu/lib")
LOADED = ("ld-linux.so.2", "libc.so.6.1")
"""What ``init`` needs at run time."""
KERNEL_PACKAGE = "linux-source-6.1"
KERNEL_ARCHIVE = Path(f"/usr/src/{KERNEL_PACKAGE}.tar.xz")

PACKAGES = {
    f"{CROSS}gcc": "gcc-alpha-linux-gnu",
    f"{CROSS}strip": "binutils-alpha-linux-gnu",
    str(LIBRARIES / "libc.so"): "libc6.1-dev-alpha-cross",
    str(KERNEL_ARCHIVE): KERNEL_PACKAGE,
    "bc": "bc",
    "bison": "bison",
    "flex": "flex",
    "gcc": "build-essential",
    "make": "build-essential",
    "xz": "xz-utils",
}
"""Debian's package for each program and file that is needed."""

KERNELS = {"vmlinux": "CONFIG_ALPHA_QEMU=y", "vmlinux-rtc": "# CONFIG_ALPHA_QEMU is not set"}
RAM_DISK = "initramfs.cpio.gz"
FINGERPRINT = "fingerprint"
"""The file whose presence says that the others are complete, and what they were made of."""
DIRECTORIES = ("dev", "lib", "proc", "sys")


def missing_packages(needed: dict[str, str]) -> list[str]:
    """The packages of what is neither a program on the path nor a file."""
    missing = (package for thing, package in needed.items() if not (shutil.which(thing) or Path(thing).is_file()))
    return list(dict.fromkeys(missing))


def fingerprint() -> str:
    """Names what the payload depends on."""
    compiler = subprocess.run([f"{CROSS}gcc", "--version"], check=True, capture_output=True)
    digest = hashlib.sha256(compiler.stdout)
    sources = [Path(__file__), CONFIGURATION, INIT, KERNEL_ARCHIVE, *(LIBRARIES / name for name in LOADED)]
    for source in sources:
        with source.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def make_ram_disk(scratch: Path) -> bytes:
    """The archive of ``init`` and of its libraries."""
    init = scratch / "init"
    warnings = ("-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror")
    run([f"{CROSS}gcc", "-std=gnu11", "-O2", *warnings, "-pthread", str(INIT), "-o", str(init)])
    run([f"{CROSS}strip", str(init)])
    libraries = {f"lib/{name}": (LIBRARIES / name).read_bytes() for name in LOADED}
    return initramfs(DIRECTORIES, {"init": init.read_bytes(), **libraries})


def unpack_kernel(tree: Path) -> None:
    """Unpack Debian's kernel source, and mend what keeps it from being built for EV67."""
    tree.mkdir()
    run(["tar", "-xf", str(KERNEL_ARCHIVE), "-C", str(tree), "--strip-components=1"])
    for file, routine in (("stycpy.S", "strcat"), ("styncpy.S", "strncat")):
        # They include a file that has another name.
        source = tree / "arch" / "alpha" / "lib" / file
        source.write_text(source.read_text().replace(f'"ev6-{routine}.S"', f'"ev67-{routine}.S"'))


def configure(tree: Path, line: str) -> None:
    """Configure a kernel by ``linux.config`` and one line more. A line that the kernel does not take is an error."""
    wanted = f"{CONFIGURATION.read_text()}{line}\n"
    fragment = tree / "payload.config"
    fragment.write_text(wanted)
    run(make(tree, "allnoconfig", f"KCONFIG_ALLCONFIG={fragment}"))
    if refused := refused_lines(wanted.splitlines(), (tree / ".config").read_text().splitlines()):
        sys.exit(f"{CONFIGURATION.name}: {KERNEL_PACKAGE} does not take {', '.join(refused)}")


def refused_lines(wanted: Iterable[str], configured: Iterable[str]) -> list[str]:
    """The settings of ``wanted`` that are not among those ``configured``."""
    there = set(configured)
    return [line for line in wanted if line.startswith("CONFIG_") and line not in there]


def make(tree: Path, *words: str) -> list[str]:
    """The command that makes something in the kernel's tree. The result does not name this machine or this day."""
    anonymous = ("KBUILD_BUILD_USER=raddle", "KBUILD_BUILD_HOST=raddle", "KBUILD_BUILD_TIMESTAMP=2024-01-01")
    jobs = f"-j{len(os.sched_getaffinity(0))}"
    return ["make", "-s", jobs, "-C", str(tree), "ARCH=alpha", f"CROSS_COMPILE={CROSS}", *anonymous, *words]


def build(directory: Path, made_of: str) -> None:
    """Make everything below ``directory``, and put it in place when it is complete."""
    (directory / FINGERPRINT).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as temporary:
        scratch = Path(temporary)
        (directory / RAM_DISK).write_bytes(make_ram_disk(scratch))
        tree = scratch / "linux"
        unpack_kernel(tree)
        for name, line in KERNELS.items():
            print(f"{name}: {line}", flush=True)
            configure(tree, line)
            run(make(tree, "vmlinux"))
            run([f"{CROSS}strip", "-o", str(directory / name), str(tree / "vmlinux")])
    (directory / FINGERPRINT).write_text(made_of)


def run(command: list[str]) -> None:
    subprocess.run(command, check=True)


def main(arguments: list[str]) -> str | int:
    """The exit status, or a message for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, metavar="DIRECTORY", help="where to")
    directory: Path = parser.parse_args(arguments).directory.resolve()  # make runs elsewhere
    if missing := missing_packages(PACKAGES):
        return f"Alpha's boot payload needs Debian's packages: apt-get install {' '.join(missing)}"
    made_of = fingerprint()
    try:
        if (directory / FINGERPRINT).is_file() and (directory / FINGERPRINT).read_text() == made_of:
            return 0
        directory.mkdir(parents=True, exist_ok=True)
        build(directory, made_of)
    except subprocess.CalledProcessError as error:
        return f"cannot make Alpha's boot payload: {' '.join(error.cmd)} has failed"
    except OSError as error:
        return f"cannot make Alpha's boot payload: {error.strerror or error}"
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
