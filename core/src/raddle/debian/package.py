# SPDX-License-Identifier: Apache-2.0
"""Reading files out of a Debian package, without unpacking it: see deb(5)."""

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
"""Bytes of the largest file that is read."""


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
                raise MachineError(f"package {package.name} has {len(found)} files {pattern} of a usual size, not one")
            file = archive.extractfile(found[0])
            assert file is not None
            return file.read()
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError, ValueError) as error:
        raise MachineError(f"cannot read package {package.name}: {error}") from None


def _data(package: Path) -> bytes:
    """The archive of its files: a member of the outer archive, which is an ar(5) file."""
    contents = package.read_bytes()
    if not contents.startswith(AR_MAGIC):
        raise MachineError(f"{package.name} is no Debian package")
    position, names = len(AR_MAGIC), []
    while position + AR_HEADER <= len(contents):
        header = contents[position : position + AR_HEADER]
        name, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), int(header[48:58])
        position += AR_HEADER
        if name in COMPRESSED:
            return contents[position : position + size]
        names.append(name)
        position += size + size % 2
    raise MachineError(f"package {package.name} has no files in a format that is known: {', '.join(names)}")
