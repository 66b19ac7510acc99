# SPDX-License-Identifier: Apache-2.0
"""The arguments of `Machine(...)`, and their checks, which raise UsageError. For arguments of methods see `kinds`."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from reprlib import repr as short
from typing import Any, Final, NamedTuple

from raddle.errors import UsageError, unknown
from raddle.kinds import another_kind
from raddle.machine.board import BoardOptions
from raddle.machine.chardev import CharDevice, MemoryConsole, NullDevice
from raddle.machine.control import close_devices
from raddle.machine.flash_file import FlashFile
from raddle.machine.load import Load
from raddle.machine.parts import EngineFactory
from raddle.machine.streams import parse_chardev
from raddle.plugins import Board, Registry

__all__ = ["Arguments", "check_banks", "check_kinds", "consoles", "path", "properties", "text"]


class Arguments(NamedTuple):
    """The arguments of `Machine(...)`, which documents them, as they were given."""

    board: str
    properties: Mapping[str, str] | None
    cpus: int
    memory: int | str
    cpu: str | None
    kernel: str | os.PathLike[str] | None
    initrd: str | os.PathLike[str] | None
    append: str | None
    dtb: str | os.PathLike[str] | None
    bios: str | os.PathLike[str] | None
    pflash: str | Path | FlashFile | Sequence[str | Path | FlashFile | None] | None
    load: Sequence[Load | tuple[str | Path | bytes, int]]
    serial: str | CharDevice | Sequence[str | CharDevice] | None
    accelerator: str
    icount: str | None
    rtc: str | None
    reboot: bool
    target: str
    engine: EngineFactory
    plugins: Registry | None


_TEXT: Final = ((str,), "a string")
_TEXT_OR_NONE: Final = ((str, type(None)), "a string")
_PATH: Final = ((str, os.PathLike, type(None)), "a path")

KINDS: Final[dict[str, tuple[tuple[Any, ...], str]]] = {
    "board": _TEXT,
    "properties": ((Mapping, type(None)), "a mapping from strings to strings"),
    "cpus": ((int,), "a number"),
    "memory": ((int, str), "a number of bytes, or a string like '512M'"),
    "cpu": _TEXT_OR_NONE,
    "kernel": _PATH,
    "initrd": _PATH,
    "append": ((str, type(None)), "the kernel's command line, a string"),
    "dtb": _PATH,
    "bios": _PATH,
    "pflash": ((str, Path, FlashFile, Sequence, type(None)), "a file, or a sequence with one for each flash bank"),
    "load": ((Sequence,), "a sequence of (file or bytes, address)"),
    "serial": ((str, CharDevice, Sequence, type(None)), "a character device, a string for one, or a sequence of them"),
    "accelerator": _TEXT,
    "icount": _TEXT_OR_NONE,
    "rtc": _TEXT_OR_NONE,
    "reboot": ((bool,), "True or False"),
    "target": _TEXT,
    "engine": ((Callable,), "a function that makes an engine"),
    "plugins": ((Registry, type(None)), "a raddle.plugins.Registry"),
}
"""The types that each argument may have, and the words for them in messages."""

PARTS: Final[dict[str, tuple[type, ...]]] = {
    "pflash": (str, Path, FlashFile, type(None)),
    "load": (Load, tuple),
    "serial": (str, CharDevice),
}
"""The types of the items, for arguments that may be sequences."""


def check_kinds(arguments: Arguments) -> None:
    """Raise UsageError for an argument whose type is not in KINDS, or whose parts are wrong."""
    given = arguments._asdict()
    for name, value in given.items():
        kinds, called = KINDS[name]
        # A bool is an int to Python, and a mistake to everybody else.
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise another_kind(f"Machine({name}=...)", called, value)
    for name, parts in PARTS.items():
        _check_parts(name, given[name], parts)
    for name in ("kernel", "initrd", "dtb", "bios"):
        _check_name(name, given[name])
    pflash = given["pflash"]
    for one in [pflash] if isinstance(pflash, str | Path | FlashFile) else pflash or ():
        _check_name("pflash", one.path if isinstance(one, FlashFile) else one)
    for one in given["load"]:
        _check_load(one)
    for name, value in (given["properties"] or {}).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise UsageError(f"Machine(properties=...) maps strings to strings, not {short(name)}: {short(value)}")


def _check_parts(name: str, value: Any, kinds: tuple[type, ...]) -> None:
    """Check the items of an argument that may be a sequence. Bytes do not count as a sequence. A string does not,
    either: it is an error unless the argument may be a string.
    """
    called = KINDS[name][1]
    if isinstance(value, bytes | bytearray | memoryview) or (isinstance(value, str) and str not in KINDS[name][0]):
        raise another_kind(f"Machine({name}=...)", called, value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        for one in value:
            if not isinstance(one, kinds):
                raise UsageError(f"Machine({name}=...) is {called}, and has {short(one)} in it")


def _check_name(name: str, given: Any) -> None:
    """Check a path: it must be a string and not empty. pathlib takes the empty path for the current directory."""
    try:
        spelled = os.fspath(given) if given is not None else "none"
    except TypeError:
        spelled = None
    if not isinstance(spelled, str):
        raise another_kind(f"Machine({name}=...)", "a path that is a string", given)
    if not spelled:
        raise UsageError(f"Machine({name}=...) is empty: give the name of a file")


def _check_load(one: Load | tuple[Any, ...]) -> None:
    what, address = (one.what, one.address) if isinstance(one, Load) else one if len(one) == 2 else (None, None)
    placed = isinstance(address, int) and not isinstance(address, bool)
    says_itself = isinstance(one, Load) and address is None and not isinstance(what, bytes)
    if not isinstance(what, str | Path | bytes) or not (placed or says_itself):
        raise UsageError(f"Machine(load=...) has (file or bytes, address), not {short(one)}")
    if not isinstance(what, bytes):
        _check_name("load", what)


SWITCH_SPELLINGS: Final = {"true": "on", "yes": "on", "y": "on", "false": "off", "no": "off", "n": "off"}


def properties(board: Board, given: Mapping[str, str]) -> dict[str, str]:
    """The values of all of the board's properties: those that are `given`, or their defaults. Raises UsageError."""
    known = {one.name: one for one in board.properties}
    for name in given:
        if name not in known and not known:
            raise UsageError(f"machine {board.name} has no properties of its own, so none called {name!r}")
        if name not in known:
            raise unknown(f"property of machine {board.name}", name, known)
    found = {}
    for name, one in known.items():
        value = given.get(name, one.values[0])
        if value not in one.values:
            value = SWITCH_SPELLINGS.get(value, value)
        if value not in one.values:
            near = f"{name}={one.values[0]}" if len(one.values) == 1 else f"one of {', '.join(one.values)}"
            raise UsageError(
                f"machine {board.name} does not support {name}={given[name]} ({one.meaning}); the nearest that it "
                f"does: {near}"
            )
        found[name] = value
    return found


def check_banks(board: str, banks: int, given: int) -> None:
    """Raise UsageError if more flash banks are given a file than the board has."""
    if not given or given <= banks:
        return
    if not banks:
        raise UsageError(f"machine {board} has no flash banks; leave their files (-pflash, -drive) out")
    units = f"unit=0 to unit={banks - 1}" if banks > 1 else "unit=0"
    raise UsageError(
        f"machine {board} has {banks} flash bank{'s' * (banks != 1)}, not {given}; the files are for {units}"
    )


BOOT_OPTIONS: Final = {
    "kernel": "-kernel",
    "initrd": "-initrd",
    "append": "-append",
    "dtb": "-dtb",
    "bios": "-bios",
    "loads": "-device loader",
}
"""Fields of `BoardOptions` that a board may take or not, and the command line's options for them."""


def check_taken(board: str, takes: Collection[str], options: BoardOptions) -> None:
    """Raise UsageError, which names all of them, if options were given that the board does not take."""
    left = [option for field, option in BOOT_OPTIONS.items() if field not in takes and getattr(options, field)]
    if not left:
        return
    taken = [option for field, option in BOOT_OPTIONS.items() if field in takes]
    raise UsageError(
        f"machine {board} does not take {', '.join(left)}, which it would ignore; it takes {', '.join(taken) or 'none'}"
    )


def text(append: str | None) -> str | None:
    """The kernel's command line, checked. It goes into the device tree unchanged, in UTF-8."""
    if append is None:
        return None
    try:
        append.encode()
    except UnicodeEncodeError:
        raise UsageError(f"the kernel's command line (-append) {append!r} is not text in UTF-8") from None
    if "\0" in append:
        raise UsageError("the kernel's command line (-append) has a NUL character, which would end it")
    return append


def path(given: str | os.PathLike[str] | None) -> Path | None:
    return None if given is None else Path(given)


def consoles(serial: str | CharDevice | Sequence[str | CharDevice] | None, ports: int) -> tuple[CharDevice, ...]:
    """The character devices of the serial ports. The first port has one even if none is given. Raises UsageError."""
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
            devices.append(parse_chardev(one) if isinstance(one, str) else one)
    except BaseException:
        close_devices(devices)
        raise
    return tuple(devices) or (NullDevice(),)
