# SPDX-License-Identifier: Apache-2.0
"""The layout of a machine's memory before it runs: which image goes where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from raddle.errors import UsageError
from raddle.sizes import size_text

__all__ = ["ELSEWHERE", "MORE_MEMORY", "Area", "Layout", "Segment"]

MORE_MEMORY: Final = "more memory (-m) may help"
ELSEWHERE: Final = "give it another address (addr=..., or the one that it is linked for)"


class Segment(NamedTuple):
    """`data` at guest-physical `address`, followed by zeroes up to `size` bytes."""

    address: int
    data: bytes
    size: int

    @property
    def end(self) -> int:
        return self.address + self.size


class Area(NamedTuple):
    """Memory of the machine: `size` bytes from guest-physical address `start`."""

    name: str
    start: int
    size: int
    most: int = 0
    """The largest size that a user can choose; 0 if there is no choice."""

    @property
    def end(self) -> int:
        return self.start + self.size

    def __str__(self) -> str:
        return f"the {self.name} of {size_text(self.size)} at {self.start:#x}"


class _Place(NamedTuple):
    name: str
    segment: Segment


class Layout:
    """The images that are loaded into a machine's RAM, or into its other memory. Images that do not fit, or that
    overlap, are refused.
    """

    def __init__(self, ram: Area, others: Sequence[Area] = ()) -> None:
        self.ram: Final = ram
        self._areas = (ram, *others)
        self._places: list[_Place] = []

    @property
    def largest(self) -> int:
        """The size of the largest area of memory, in bytes."""
        return max(area.size for area in self._areas)

    def check(self, name: str, address: int, size: int, remedy: str = ELSEWHERE) -> None:
        """Raise UsageError if there is no memory for `size` bytes at `address`, or if another image is there. `remedy`
        tells the user what to do if more RAM would not help.
        """
        end = address + size
        if not any(area.start <= address and end <= area.end for area in self._areas):
            reachable = self.ram.start <= address and end <= self.ram.start + self.ram.most
            raise UsageError(
                f"{name} ({address:#x}-{end - 1:#x}) does not fit into {' or '.join(map(str, self._areas))}; "
                f"{MORE_MEMORY if reachable else remedy}"
            )
        for other in self._places:
            if address < other.segment.end and other.segment.address < end:
                raise UsageError(
                    f"{name} ({address:#x}-{end - 1:#x}) overlaps {other.name} "
                    f"({other.segment.address:#x}-{other.segment.end - 1:#x}); {remedy}"
                )

    def add(self, name: str, address: int, data: bytes, size: int = 0, remedy: str = ELSEWHERE) -> Segment:
        """Reserve `size` bytes (at least `data`) at `address` for `name`; see `check`."""
        segment = Segment(address, data, max(size, len(data)))
        self.check(name, address, segment.size, remedy)
        self._places.append(_Place(name, segment))
        return segment

    def in_ram(self, address: int, size: int) -> bool:
        """Whether these `size` bytes are RAM."""
        return self.ram.start <= address and address + size <= self.ram.end

    def is_free(self, address: int, size: int) -> bool:
        """Whether no image overlaps these `size` bytes."""
        return not any(address < place.segment.end and place.segment.address < address + size for place in self._places)

    def free(self, size: int, start: int, alignment: int = 0x1000) -> int:
        """The first aligned address of RAM, not below `start`, with `size` free bytes. Raises UsageError if there is
        none.
        """
        address = max(start, self.ram.start) + alignment - 1 & -alignment
        for place in sorted(self._places, key=lambda one: one.segment.address):
            if place.segment.end > address and place.segment.address < address + size:
                address = place.segment.end + alignment - 1 & -alignment
        if address + size > self.ram.end:
            raise UsageError(f"the RAM has no room for {size} bytes more; {MORE_MEMORY}")
        return address

    @property
    def segments(self) -> tuple[Segment, ...]:
        return tuple(place.segment for place in self._places)
