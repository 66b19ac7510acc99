# SPDX-License-Identifier: Apache-2.0
"""Values of the options that put files into the machine's memory: `-drive if=pflash,...` and `-device loader,...`."""

from __future__ import annotations

from typing import NamedTuple

from raddle.errors import UsageError, unknown

__all__ = ["Drive", "LoaderDevice", "parse_device", "parse_drive", "settings"]

ON_OFF = {"on": True, "yes": True, "true": True, "": True, "off": False, "no": False, "false": False}

FLASH_KEYS = ("if", "file", "format", "unit", "index", "readonly", "read-only", "snapshot", "id", "cache", "aio")
LOADER_KEYS = ("file", "addr", "force-raw", "data", "data-len", "data-be")
ADDRESS_BITS = 64


class Drive(NamedTuple):
    """A flash bank's file. `unit` is None for the first bank that has no file."""

    file: str
    unit: int | None = None
    readonly: bool = False
    snapshot: bool = False


class LoaderDevice(NamedTuple):
    """A file, or data, that is put into memory. `address` may be None for a file that is not `raw`: its format may give
    the address.
    """

    what: str | bytes
    address: int | None
    raw: bool = True


def settings(option: str, value: str, first: str = "") -> dict[str, str]:
    """Parse `key=value,key=value`. Commas in values are written twice. `first` is the key of a first value that has
    none. If a key is given twice, its last value counts. Raises UsageError for an empty setting.
    """
    found: dict[str, str] = {}
    for position, part in enumerate(value.replace(",,", "\0").split(",")):
        key, equals, given = part.replace("\0", ",").partition("=")
        if position == 0 and first and not equals:
            key, given = first, key
        if not key:
            raise UsageError(f"{option} {value}: a setting is empty")
        found[key] = given
    return found


def parse_drive(value: str) -> Drive:
    """`if=pflash,format=raw,file=FILE[,unit=0|1][,readonly=on][,snapshot=on]`."""
    given = settings("-drive", value)
    interface = given.get("if", "virtio")
    if interface != "pflash":
        raise UsageError(f"-drive if={interface} is not supported: there are no disks; the nearest that is: -initrd")
    for key in given:
        if key not in FLASH_KEYS:
            raise unknown("-drive if=pflash setting", key, FLASH_KEYS)
    if not given.get("file"):
        raise UsageError(f"-drive {value} has no file: add file=FILE")
    if given.get("format", "raw") != "raw":
        raise UsageError(f"-drive format={given['format']} is not supported; the nearest that is: format=raw")
    unit = given.get("unit", given.get("index"))
    return Drive(
        given["file"],
        None if unit is None else _number("-drive unit", unit),
        _switch("-drive readonly", given.get("readonly", given.get("read-only", "off"))),
        _switch("-drive snapshot", given.get("snapshot", "off")),
    )


def parse_device(value: str) -> LoaderDevice:
    """`loader,file=FILE[,addr=ADDRESS][,force-raw=on]` or `loader,addr=ADDRESS,data=NUMBER,data-len=N[,data-be=on]`."""
    given = settings("-device", value, "driver")
    driver = given.pop("driver", "")
    if not driver:
        raise UsageError("-device needs the name of a device: -device loader,file=FILE,addr=ADDRESS")
    if driver != "loader":
        raise UsageError(f"-device {driver} is not supported: a board's devices are fixed; only loader can be added")
    for key in given:
        if key not in LOADER_KEYS:
            raise unknown("-device loader setting", key, LOADER_KEYS)
    address = _number("-device loader addr", given["addr"]) if "addr" in given else None
    if "data" in given:
        return _data(value, given, address)
    if not given.get("file"):
        raise UsageError(f"-device {value} has nothing to load: add file=FILE, or data=NUMBER and data-len=BYTES")
    raw = _switch("-device loader force-raw", given.get("force-raw", "off"))
    if raw and address is None:
        raise UsageError(f"-device {value} needs an address: add addr=ADDRESS")
    return LoaderDevice(given["file"], address, raw)


def _data(value: str, given: dict[str, str], address: int | None) -> LoaderDevice:
    if address is None or "data-len" not in given or "file" in given:
        raise UsageError(f"-device {value}: data= goes with addr= and data-len=, and without file=")
    number, size = _number("-device loader data", given["data"]), _number("-device loader data-len", given["data-len"])
    if not 1 <= size <= ADDRESS_BITS // 8 or number >= 1 << 8 * size:
        raise UsageError(f"-device {value}: data-len is 1 to 8 bytes, and data= must fit into them")
    big = _switch("-device loader data-be", given.get("data-be", "off"))
    return LoaderDevice(number.to_bytes(size, "big" if big else "little"), address)


def _number(what: str, text: str) -> int:
    """Decimal, or hexadecimal with 0x."""
    try:
        number = int(text, 16 if text[:2].lower() == "0x" else 10) if text.isascii() and text.isalnum() else -1
    except ValueError:
        number = -1
    if not 0 <= number < 1 << ADDRESS_BITS:
        raise UsageError(f"{what} must be a number, as in 0x40400000, not {text!r}")
    return number


def _switch(what: str, text: str) -> bool:
    if text not in ON_OFF:
        raise UsageError(f"{what} is on or off, not {text!r}")
    return ON_OFF[text]
