# SPDX-License-Identifier: Apache-2.0
"""Initial RAM disks: compressed archives in cpio's newc format. The same files give the same bytes.

See the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import gzip
import stat
from collections.abc import Mapping
from typing import Final

__all__ = ["initramfs"]

MAGIC: Final = "070701"
TRAILER: Final = "TRAILER!!!"


def initramfs(directories: tuple[str, ...], programs: Mapping[str, bytes]) -> bytes:
    """The archive of these directories, and of programs (contents by path). Everything belongs to root."""
    entries = [(name, stat.S_IFDIR | 0o755, b"") for name in directories]
    entries += [(name, stat.S_IFREG | 0o755, contents) for name, contents in programs.items()]
    archive = b"".join(_entry(number, *entry) for number, entry in enumerate(entries, 1))
    return gzip.compress(archive + _entry(0, TRAILER, 0, b""), mtime=0)


def _entry(number: int, name: str, mode: int, contents: bytes) -> bytes:
    encoded = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    # inode, mode, uid, gid, links, mtime, size, device (2), special device (2), length of the name, check
    fields = (number, mode, 0, 0, links, 0, len(contents), 0, 0, 0, 0, len(encoded), 0)
    header = (MAGIC + "".join(f"{field:08x}" for field in fields)).encode()
    return _padded(header + encoded) + _padded(contents)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
