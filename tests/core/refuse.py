# SPDX-License-Identifier: Apache-2.0
"""Runs a command on a host that refuses some system calls, as a hardened one does: by a seccomp filter.

    python refuse.py NAME[,NAME...] COMMAND...

Names: memfd_create, mremap, wx (mmap of memory that is writable and executable). Exit status 77 when there can be no
filter.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

ARCHITECTURE, X86_64 = 4, 0xC000003E
NUMBER, THIRD_ARGUMENT = 0, 32
"""Offsets in struct seccomp_data."""
LOAD, JUMP_IF_EQUAL, AND, RETURN = 0x20, 0x15, 0x54, 0x06
ALLOW, REFUSE = 0x7FFF_0000, 0x0005_0000 | errno.EPERM
MMAP, WRITE_AND_EXECUTE = 9, 6
NUMBERS = {"memfd_create": 319, "mremap": 25}
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER = 38, 22, 2
NO_FILTER = 77


def instruction(code: int, value: int, if_equal: int = 0, if_not: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_equal, if_not, value)


def program(names: list[str]) -> bytes:
    lines = [instruction(LOAD, ARCHITECTURE), instruction(JUMP_IF_EQUAL, X86_64, 1, 0), instruction(RETURN, ALLOW)]
    for name in names:
        lines.append(instruction(LOAD, NUMBER))
        if name == "wx":
            lines += [
                instruction(JUMP_IF_EQUAL, MMAP, 0, 4),
                instruction(LOAD, THIRD_ARGUMENT),
                instruction(AND, WRITE_AND_EXECUTE),
                instruction(JUMP_IF_EQUAL, WRITE_AND_EXECUTE, 0, 1),
            ]
        else:
            lines.append(instruction(JUMP_IF_EQUAL, NUMBERS[name], 0, 1))
        lines.append(instruction(RETURN, REFUSE))
    return b"".join([*lines, instruction(RETURN, ALLOW)])


def main() -> None:
    code = program(sys.argv[1].split(","))
    buffer = ctypes.create_string_buffer(code, len(code))
    described = struct.pack("=H6xQ", len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, FILTER, described, 0, 0):
        sys.exit(NO_FILTER)
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
