# SPDX-License-Identifier: Apache-2.0
"""Files and data that every reset loads into memory besides the kernel or firmware, for firmware to find there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raddle.errors import UsageError
from raddle.layout import MORE_MEMORY, Layout, Segment
from raddle.machine.elf import ELF_MAGIC
from raddle.machine.files import Contents, read_file
from raddle.machine.loaders import UIMAGE_MAGIC, image_of
from raddle.plugins import Target

__all__ = ["Load", "add_loads", "loads"]


@dataclass(frozen=True, slots=True)
class Load:
    """The bytes of a file, or given bytes, at guest-physical `address`. A file that is not `raw` may be an ELF program,
    which names its own addresses, or, without an `address`, a uImage.
    """

    what: Path | bytes
    address: int | None
    raw: bool = True


def loads(given: Sequence[Load | tuple[str | Path | bytes, int]]) -> tuple[Load, ...]:
    """From what a user gives: `(file or bytes, address)`."""
    return tuple(
        one if isinstance(one, Load) else Load(one[0] if isinstance(one[0], bytes) else Path(one[0]), one[1])
        for one in given
    )


def add_loads(given: Sequence[Load], layout: Layout, target: Target) -> None:
    """Read the files, and reserve their places; programs must be for `target`. Raises UsageError."""
    for load in given:
        for name, segment in _parts(load, layout, target):
            layout.add(name, segment.address, segment.data, segment.size)


def _parts(load: Load, layout: Layout, target: Target) -> list[tuple[str, Segment]]:
    if isinstance(load.what, bytes):
        assert load.address is not None
        return [(f"data for {load.address:#x}", Segment(load.address, load.what, len(load.what)))]
    name = f"file {load.what}"
    if load.raw:
        data = read_file(load.what, "file", layout.largest, MORE_MEMORY)
    else:  # an ELF file may have far more than it loads into memory
        data = read_file(load.what, "file")
    if not load.raw and data.startswith((ELF_MAGIC, UIMAGE_MAGIC)):
        if data.startswith(UIMAGE_MAGIC) and load.address is not None:
            raise UsageError(
                f"cannot load {name}: it is a uImage, which says where its contents go; leave addr= out for that, or "
                "add force-raw=on to have it in memory as it is"
            )
        return [(name, segment) for segment in image_of(Contents(data, name), name, target, layout).segments]
    if load.address is None:
        raise UsageError(f"cannot load {name}: it does not say where it goes; add addr=ADDRESS")
    return [(name, Segment(load.address, data, len(data)))]
