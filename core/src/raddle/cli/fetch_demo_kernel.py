# SPDX-License-Identifier: Apache-2.0
"""`raddle fetch-demo-kernel`: fetch Debian's kernel for a guest, and make an initial RAM disk of busybox and a script.

The target's package says what to fetch: `demo/debian.toml` names the architecture and the packages, and `demo/init` is
the first process.
"""

from __future__ import annotations

import argparse
import importlib.resources
import shlex
import tempfile
import tomllib
from pathlib import Path
from typing import Any, Final

from raddle.debian.initramfs import initramfs
from raddle.debian.package import read_member
from raddle.debian.sources import find_source
from raddle.errors import MachineError, UsageError
from raddle.plugins import GUEST_REMEDY, registry

__all__ = ["KERNEL", "RAM_DISK", "configure", "run"]

KERNEL: Final = "vmlinuz"
RAM_DISK: Final = "initramfs.cpio.gz"
DIRECTORIES: Final = ("bin", "dev", "proc", "sys", "tmp")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "directory", nargs="?", type=Path, default=Path("demo-kernel"), metavar="DIR", help="where to (demo-kernel)"
    )
    parser.add_argument(
        "--mirror",
        metavar="URL",
        help="a Debian mirror (https, http or file), trusted as it is; by default, apt asks this machine's sources",
    )
    parser.add_argument("--suite", default="stable", metavar="NAME", help="the mirror's release (stable)")
    parser.add_argument("--target", default="", metavar="NAME", help="the guest (the first one with a Debian kernel)")


def run(arguments: argparse.Namespace) -> int:
    """Fetch the packages, make the files, and print how to boot them. Raises RaddleError."""
    wanted, init = _find_demo(arguments.target)
    directory: Path = arguments.directory
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            print(f"looking for packages of Debian for {wanted['architecture']}", flush=True)
            source = find_source(arguments.mirror, arguments.suite, wanted["architecture"], Path(scratch))
            packages = [source.dependency(wanted["kernel"], wanted["kernel_prefix"]), wanted["busybox"]]
            print(f"fetching {', '.join(packages)}", flush=True)
            kernel, busybox = map(source.fetch, packages)
            _write(directory / KERNEL, read_member(kernel, wanted["kernel_file"]))
            programs = {"bin/busybox": read_member(busybox, wanted["busybox_file"]), "init": init}
            _write(directory / RAM_DISK, initramfs(DIRECTORIES, programs))
    except (OSError, ValueError) as error:
        raise MachineError(f"cannot make {directory}: {getattr(error, 'strerror', None) or error}") from None
    kernel_path, disk_path = (shlex.quote(str(directory / name)) for name in (KERNEL, RAM_DISK))
    print(
        f"made {directory / KERNEL} and {directory / RAM_DISK}; to boot them to a shell:\n"
        f"raddle boot -smp 4 -m 512M -kernel {kernel_path} -initrd {disk_path} "
        f'-append "{wanted["append"]}"'
    )
    return 0


def _find_demo(name: str) -> tuple[dict[str, Any], bytes]:
    """The target's `debian.toml` and first process; without a name, those of the first target that has them."""
    found = registry()
    for target in [found.target(name)] if name else found.targets():
        files = importlib.resources.files(target.load.__module__.partition(".")[0]) / "demo"
        if (files / "debian.toml").is_file():
            return tomllib.loads((files / "debian.toml").read_text()), (files / "init").read_bytes()
    raise UsageError(
        f"{'guest ' + name if name else 'no installed guest'} has {'no' if name else 'a'} Debian kernel to fetch; "
        f"{GUEST_REMEDY}"
    )


def _write(path: Path, contents: bytes) -> None:
    """Write a file whose name appears only when it is complete."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(contents)
    part.replace(path)
