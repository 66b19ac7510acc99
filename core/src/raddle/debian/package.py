# SPDX-License-Identifier: Apache-2.0
"""Reads a file from a Debian package without unpacking the package: see deb(5)."""

from __future__ import annotations

import fnmatch
import io
import lzma
import tarfile
from pathlib import Path
from typing import Final

from raddle.errors import MachineError

__all__ = ["read_member"]

AR_MAGIC: Final = b"!<arch>\n"
AR_HEADER: Final = 60
COMPRESSED: Final = ("data.tar", "data.tar.gz", "data.tar.xz", "data.tar.bz2")
SIZE_LIMIT: Final = 256 << 20
"""Larger files, in bytes, are refused."""


def read_member(package: Path, pattern: str) -> bytes:
    """The contents of the only regular file whose name matches `pattern` (`boot/vmlinuz-*`). Raises MachineError."""
    try:
        with tarfile.open(fileobj=io.BytesIO(_data(package))) as archive:
            found = [
                member
                for member in archive
                if member.isfile() and fnmatch.fnmatchcase(member.name.removeprefix("./"), pattern)
            ]
            if len(found) != 1 or found[0].size > SIZE_LIMIT:
                raise MachineError(
                    f"package {package.name} has {len(found)} files {pattern}, and must have one, of a usual size"
                )
            file = archive.extractfile(found[0])
            assert file is not None
            return file.read()
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError, ValueError) as error:
        raise MachineError(f"cannot read package {package.name}: {error}") from None


def _data(package: Path) -> bytes:
    """The archive with the package's files. It is a member of the package, which is an ar(5) archive."""
    contents = package.read_bytes()
    if not contents.startswith(AR_MAGIC):
        raise MachineError(f"{package.name} is not a Debian package")
    position, names = len(AR_MAGIC), []
    while position + AR_HEADER <= len(contents):
        header = contents[position : position + AR_HEADER]
        name, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), int(header[48:58])
        position += AR_HEADER
        if name in COMPRESSED:
            return contents[position : position + size]
        names.append(name)
        position += size + size % 2
    raise MachineError(f"package {package.name} has no archive in a known format: it has {', '.join(names)}")
