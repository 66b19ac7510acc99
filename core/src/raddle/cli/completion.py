# SPDX-License-Identifier: Apache-2.0
"""Shell completion of the values of `raddle boot`'s options."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from raddle.cli import listings
from raddle.cli.values import LOG_ITEMS

__all__ = ["COMPLETERS"]

Completer = Callable[..., list[str]]


def _values(
    first: Callable[[], Iterable[str]], more: Iterable[str] = (), more_of: Callable[[str], Iterable[str]] | None = None
) -> Completer:
    """Completes a comma-separated list. `first` returns the values for its first item. The values for the others are
    `more`, or what `more_of` returns for the first item.
    """

    def complete(prefix: str, **_: Any) -> list[str]:
        before, comma, _last = prefix.rpartition(",")
        if not comma:
            return list(first())
        following = more if more_of is None else more_of(before.partition(",")[0])
        return [f"{before}{comma}{one}" for one in following]

    return complete


def _fixed(*values: str) -> Callable[[], Iterable[str]]:
    return lambda: values


DEVICES: Final = _fixed("stdio", "mon:stdio", "null", "none", "pty", "file:", "unix:", "tcp:")
SOCKET_SETTINGS: Final = ("server=on", "wait=off", "wait=on")

COMPLETERS: Final[dict[str, Completer]] = {
    "M": _values(listings.machine_names, more_of=listings.property_settings),
    "target": _values(listings.target_names),
    "cpu": _values(listings.cpu_names),
    "smp": _values(_fixed(*map(str, range(1, 9))), ("sockets=", "cores=", "threads=", "maxcpus=")),
    "m": _values(_fixed("128M", "512M", "1G", "2G")),
    "accel": _values(
        _fixed("tcg", "kvm:tcg"),
        (
            "thread=multi",
            "thread=single",
            "order=native",
            "order=fenced",
            "llsc=fast",
            "llsc=strict",
            "tb-size=",
            "memo-size=",
            "split-wx=on",
            "split-wx=off",
        ),
    ),
    "rtc": _values(_fixed("base=utc", "base=localtime"), ("clock=host", "clock=rt", "clock=vm")),
    "icount": _values(_fixed("shift=auto", *(f"shift={shift}" for shift in range(11))), ("sleep=on", "sleep=off")),
    "d": _values(_fixed(*LOG_ITEMS, "help"), tuple(LOG_ITEMS)),
    "serial": _values(DEVICES, SOCKET_SETTINGS),
    "monitor": _values(DEVICES, SOCKET_SETTINGS),
    "display": _values(_fixed("none")),
    "vga": _values(_fixed("none")),
    "audiodev": _values(_fixed("none"), ("id=",)),
    "device": _values(_fixed("loader", "help"), ("file=", "addr=", "data=", "data-len=", "force-raw=on")),
    "drive": _values(_fixed("if=pflash"), ("format=raw", "file=", "unit=0", "unit=1", "readonly=on", "snapshot=on")),
}
"""The completers by the option's first name. Other options complete file names."""
