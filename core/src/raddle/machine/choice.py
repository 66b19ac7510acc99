# SPDX-License-Identifier: Apache-2.0
"""Chooses the board: the kernel's file, `-M GUEST/NAME` and `--target GUEST` say which guest, and must agree."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from raddle.errors import RaddleError, UsageError
from raddle.machine.elf import identify, machine_name
from raddle.machine.files import GZIP_MAGIC, read_file
from raddle.machine.loaders import uimage_architecture
from raddle.plugins import GUEST_REMEDY, KERNEL_HEAD, Board, Registry, Target

__all__ = ["choose_board"]

GUEST_SAID: Final = "say which one, by --target GUEST or -M GUEST/NAME"


def choose_board(
    plugins: Registry, name: str, target: str, kernel: str | Path | None, *, firmware: bool = False
) -> Board:
    """The board `name`, which may be GUEST/NAME, of guest `target`; without a name, the guest's first board.

    If that leaves boards of several guests, the file `kernel` decides, if it is an ELF program, a uImage or of a kind
    that only one guest has. An ELF program for a guest without such a board is an error, unless `firmware` is started,
    which loads the kernel itself. Raises UsageError, for a file that cannot be read, too, if the choice is left to it.
    """
    found = plugins.boards_named(name, target) if name else plugins.boards(target)
    if not found:
        raise UsageError(plugins.no_machine(target))
    head = b"" if kernel is None else _beginning(kernel)
    if head:
        guests = _usable(plugins, found)
        runs = _runs(head)
        fitting = tuple(board for board in found if board.target in guests and runs(guests[board.target]))
        if not fitting and not firmware:
            _refuse(plugins, f"kernel {kernel}", head, found, guests.values())
        found = fitting or found
    if not name:
        firsts: dict[str, Board] = {}
        for board in found:
            firsts.setdefault(board.target, board)
        found = tuple(firsts.values())
    if len(found) > 1:
        if kernel is not None:
            read_file(kernel, "kernel")  # what is wrong with the file itself is the better message
        listed = ", ".join(f"{board.target}/{board.name}" for board in found)
        what = f"machine {name!r} exists for several guests" if name else "there are several guests"
        raise UsageError(f"{what}: {GUEST_SAID} ({listed})")
    return found[0]


def _runs(head: bytes) -> Callable[[Target], bool]:
    """Whether a kernel file that begins with `head` is for this guest, as far as the file tells."""
    identity = identify(head)
    if identity is not None:
        machine, form = identity
        return lambda target: target.elf_machine == machine and form in target.formats
    architecture = uimage_architecture(head)
    if architecture is not None:
        return lambda target: target.uimage_architecture == architecture
    return lambda target: any(kind.magic.matches(head) for kind in target.kernel_kinds)


def _refuse(plugins: Registry, kernel: str, head: bytes, found: Iterable[Board], guests: Collection[Target]) -> None:
    """Raise UsageError for an ELF program that no guest of the boards `found` runs. The loader reports other faults of
    a kernel.
    """
    identity = identify(head)
    if identity is None:
        return
    machine = identity[0]
    if any(guest.elf_machine == machine for guest in guests):
        return  # of the wrong class or byte order
    what = f"{kernel} is an ELF program for {machine_name(machine)}"
    others = [guest.name for guest in plugins.targets() if guest.elf_machine == machine]
    if others:
        boards = ", ".join(f"{board.target}/{board.name}" for board in found)
        raise UsageError(
            f"{what}, which the {' or '.join(others)} guest runs, and not the guest of the machine ({boards}); give "
            "another kernel, or leave out -M and --target, which then follow from the kernel"
        )
    if any(guest.elf_machine is not None for guest in guests):
        installed = ", ".join(plugins.names("target"))
        raise UsageError(f"{what}, and no installed guest runs those (installed: {installed}); {GUEST_REMEDY}")


def _usable(plugins: Registry, boards: Iterable[Board]) -> dict[str, Target]:
    """The usable guests of the boards, by name."""
    guests = {}
    for name in {board.target for board in boards}:
        with suppress(RaddleError):
            guests[name] = plugins.target(name)
    return guests


def _beginning(path: str | Path) -> bytes:
    """The first KERNEL_HEAD bytes of a file, gzip'd or not. Empty if the file cannot be read, which its loader will
    report.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            beginning = os.read(file, KERNEL_HEAD) if stat.S_ISREG(os.fstat(file).st_mode) else b""
        finally:
            os.close(file)
        if beginning.startswith(GZIP_MAGIC):
            beginning = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS).decompress(beginning, KERNEL_HEAD)
    except (OSError, ValueError, TypeError, zlib.error):
        return b""
    return beginning
