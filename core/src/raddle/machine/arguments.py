# SPDX-License-Identifier: Apache-2.0
"""What `Machine(...)` is given: of the right kind, or a UsageError that names it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from reprlib import repr as short
from typing import Any, Final

from raddle.errors import UsageError
from raddle.machine.chardev import CharDevice, MemoryConsole, NullDevice
from raddle.machine.control import close_devices
from raddle.machine.flash_file import FlashFile
from raddle.machine.load import Load
from raddle.machine.streams import parse_chardev
from raddle.plugins import Registry

__all__ = ["check_kinds", "consoles", "path", "text"]

_TEXT: Final = ((str,), "a text")
_TEXT_OR_NONE: Final = ((str, type(None)), "a text")
_PATH: Final = ((str, os.PathLike, type(None)), "a path")

KINDS: Final[dict[str, tuple[tuple[Any, ...], str]]] = {
    "board": _TEXT,
    "cpus": ((int,), "a number"),
    "memory": ((int, str), "bytes, or a text like '512M'"),
    "cpu": _TEXT_OR_NONE,
    "kernel": _PATH,
    "initrd": _PATH,
    "dtb": _PATH,
    "bios": _PATH,
    "pflash": ((str, Path, FlashFile, Sequence, type(None)), "a file, or a sequence with one for each flash bank"),
    "load": ((Sequence,), "a sequence of (file or bytes, address)"),
    "serial": ((str, CharDevice, Sequence, type(None)), "a character device, its text, or a sequence of them"),
    "accelerator": _TEXT,
    "icount": _TEXT_OR_NONE,
    "rtc": _TEXT_OR_NONE,
    "reboot": ((bool,), "True or False"),
    "target": _TEXT,
    "engine": ((Callable,), "a function that makes an engine"),
    "plugins": ((Registry, type(None)), "a raddle.plugins.Registry"),
}
"""The kinds of each argument, and what they are called."""


def check_kinds(**given: Any) -> None:
    """Raise UsageError for an argument of another kind than KINDS has."""
    for name, value in given.items():
        kinds, called = KINDS[name]
        # A bool is an int to Python, and a mistake to everybody else.
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise UsageError(f"Machine({name}=...) is {called}, not {short(value)} ({type(value).__name__})")
    _check_parts("pflash", given["pflash"], (str, Path, FlashFile, type(None)))
    _check_parts("load", given["load"], (Load, tuple))
    for one in given["load"]:
        if isinstance(one, tuple) and not (
            len(one) == 2 and isinstance(one[0], (str, Path, bytes)) and isinstance(one[1], int)
        ):
            raise UsageError(f"Machine(load=...) has (file or bytes, address), not {short(one)}")


def _check_parts(name: str, value: Any, kinds: tuple[type, ...]) -> None:
    if isinstance(value, bytes | bytearray) or (isinstance(value, str) and name == "load"):
        raise UsageError(f"Machine({name}=...) is {KINDS[name][1]}, not {short(value)}")
    if isinstance(value, Sequence) and not isinstance(value, str):
        for one in value:
            if not isinstance(one, kinds):
                raise UsageError(f"Machine({name}=...) is {KINDS[name][1]}, and has {short(one)} in it")


def text(append: str | None) -> str | None:
    """The kernel's command line, which goes into the device tree as it is."""
    if append is None:
        return None
    try:
        append.encode()
    except (AttributeError, UnicodeEncodeError):
        raise UsageError(f"the kernel's command line (-append) {append!r} is not text in UTF-8") from None
    if "\0" in append:
        raise UsageError("the kernel's command line (-append) has a NUL character, which would end it")
    return append


def path(given: str | os.PathLike[str] | None) -> Path | None:
    return None if given is None else Path(given)


def consoles(serial: str | CharDevice | Sequence[str | CharDevice] | None, ports: int) -> tuple[CharDevice, ...]:
    """The character devices of the serial ports that are wanted; the first one is there without, too."""
    if serial is None:
        given: list[str | CharDevice] = [MemoryConsole()]
    elif isinstance(serial, (str, CharDevice)):
        given = [serial]
    else:
        given = list(serial)
    if len(given) > ports:
        raise UsageError(f"the machine has {ports} serial port{'s' * (ports != 1)}, not {len(given)}")
    devices: list[CharDevice] = []
    try:
        for one in given:
            if not isinstance(one, (str, CharDevice)):
                raise UsageError(f"a serial port has a character device, or its text, not {short(one)}")
            devices.append(parse_chardev(one) if isinstance(one, str) else one)
    except BaseException:
        close_devices(devices)
        raise
    return tuple(devices) or (NullDevice(),)
