# SPDX-License-Identifier: Apache-2.0
"""Flattened device trees (Devicetree Specification 0.4, chapter 5): made from nested dictionaries, or read from a file,
checked and completed.

A tree from a file may be hostile. Reading and writing take time and memory in proportion to its size, whatever it
contains.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Union

from raddle.errors import UsageError
from raddle.machine.files import read_file

__all__ = ["DeviceTree", "Node", "Tree", "TreeValue", "cells", "complete", "make_tree", "parse_tree", "with_room"]

Property = int | str | bytes | Sequence[int] | Sequence[str] | None
"""One cell, one string, bytes, cells, strings, an empty property."""
TreeValue = Union[Property, "Tree"]
Tree = Mapping[str, TreeValue]

VERSION: Final = 17
COMPATIBLE_VERSION: Final = 16
SIZE_LIMIT: Final = 2 << 20
"""The most bytes of a file; Linux maps no more."""
DEPTH_LIMIT: Final = 64
NAME_LIMIT: Final = 255
"""The most characters of a name. The specification says 31, but real trees exceed that a little. Without a limit, many
properties could share a name of a megabyte, and each would take a megabyte's time."""

MAGIC: Final = 0xD00D_FEED
HEADER: Final = struct.Struct(">10I")
CELL: Final = struct.Struct(">I")
CELL_PAIR: Final = struct.Struct(">2I")
RANGE: Final = struct.Struct(">2Q")
BEGIN_NODE, END_NODE, PROPERTY, NOP, END = 1, 2, 3, 4, 9


def cells(value: int, count: int = 2) -> list[int]:
    """A number as `count` big-endian cells of 32 bits."""
    return [value >> 32 * n & 0xFFFF_FFFF for n in reversed(range(count))]


@dataclass(slots=True)
class Node:
    """A node. A damaged tree may have several properties or children of the same name: then the first one counts."""

    name: str
    properties: list[tuple[str, bytes]] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)

    def get(self, name: str) -> bytes | None:
        """The property's value, None if there is none."""
        return next((value for known, value in self.properties if known == name), None)

    def set(self, name: str, value: Property) -> None:
        """Set the property's value, replacing any that it has."""
        self.properties = [one for one in self.properties if one[0] != name]
        self.properties.append((name, _value(value)))

    def child(self, name: str) -> Node | None:
        """The child of this name."""
        return next((node for node in self.children if node.name == name), None)


@dataclass(slots=True)
class DeviceTree:
    """A tree, with the ranges of reserved memory (address, size) and the boot CPU's id from its header."""

    root: Node
    reserved: list[tuple[int, int]] = field(default_factory=list)
    boot_cpu: int = 0

    def blob(self) -> bytes:
        """The flattened tree."""
        structure, strings = _flatten(self.root)
        reserved = b"".join(RANGE.pack(*one) for one in [*self.reserved, (0, 0)])
        start = HEADER.size + len(reserved)
        total = start + len(structure) + len(strings)
        header = HEADER.pack(
            MAGIC,
            total,
            start,
            start + len(structure),
            HEADER.size,
            VERSION,
            COMPATIBLE_VERSION,
            self.boot_cpu,
            len(strings),
            len(structure),
        )
        return b"".join((header, reserved, structure, strings))


# --- making -----------------------------------------------------------------------------------------------------


def make_tree(tree: Tree) -> bytes:
    """The blob of a tree: dictionaries are nodes, all other values are properties."""
    return DeviceTree(_node("", tree)).blob()


def _node(name: str, tree: Tree) -> Node:
    node = Node(name)
    for key, value in tree.items():
        if isinstance(value, Mapping):
            node.children.append(_node(key, value))
        else:
            node.properties.append((key, _value(value)))
    return node


def _value(value: Property) -> bytes:
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    items: Sequence[int | str] = [value] if isinstance(value, int | str) else value
    return b"".join(CELL.pack(one) if isinstance(one, int) else one.encode() + b"\0" for one in items)


def _flatten(root: Node) -> tuple[bytes, bytes]:
    """The structure block and the strings block."""
    structure, strings = bytearray(), bytearray()
    offsets: dict[str, int] = {}
    _add(root, structure, strings, offsets)
    structure.extend(CELL.pack(END))
    return bytes(structure), bytes(strings)


def _add(node: Node, structure: bytearray, strings: bytearray, offsets: dict[str, int]) -> None:
    structure.extend(CELL.pack(BEGIN_NODE) + _padded(node.name.encode() + b"\0"))
    for name, value in node.properties:
        if name not in offsets:
            offsets[name] = len(strings)
            strings.extend(name.encode() + b"\0")
        structure.extend(CELL.pack(PROPERTY) + CELL_PAIR.pack(len(value), offsets[name]) + _padded(value))
    for child in node.children:
        _add(child, structure, strings, offsets)
    structure.extend(CELL.pack(END_NODE))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


# --- taking from a file -----------------------------------------------------------------------------------------


def parse_tree(path: str | Path) -> DeviceTree:
    """The tree in a file. Raises UsageError, which says what is wrong with it."""
    try:
        return _Parser(read_file(path, "device tree", SIZE_LIMIT)).tree()
    except _DamagedError as damage:
        raise UsageError(f"cannot use device tree {path}: {damage}") from None


class _DamagedError(Exception):
    """What is wrong with a blob, without the file's name."""


class _Parser:
    """Walks once through an untrusted blob."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        if len(data) < HEADER.size or CELL.unpack_from(data)[0] != MAGIC:
            raise _DamagedError("it is not a flattened device tree (a .dtb file)")
        fields = HEADER.unpack_from(data)
        self._total, self._structure, self._strings, self._reserved = fields[1:5]
        version, compatible, self._boot_cpu, strings_size, structure_size = fields[5:]
        self._structure_end = self._structure + structure_size
        self._strings_end = self._strings + strings_size
        if self._total > len(data):
            raise _DamagedError(f"it is truncated ({len(data)} of {self._total} bytes)")
        if version < VERSION or compatible > VERSION:
            raise _DamagedError(f"its version {version} is not supported (known: {VERSION})")
        unaligned = self._structure % 4 or self._reserved % 8
        if unaligned or self._structure_end > self._total or self._strings_end > self._total:
            raise _DamagedError("its header is damaged")
        self._names: dict[int, str] = {}
        """Names of properties by their offset in the strings block."""

    def tree(self) -> DeviceTree:
        reserved = list(self._ranges())
        return DeviceTree(self._root(), reserved, self._boot_cpu)

    def _ranges(self) -> Iterator[tuple[int, int]]:
        for position in range(self._reserved, self._total - RANGE.size + 1, RANGE.size):
            address, size = RANGE.unpack_from(self._data, position)
            if not address and not size:
                return
            yield address, size
        raise _DamagedError("its list of reserved memory has no end")

    def _root(self) -> Node:
        roots: list[Node] = []
        open_nodes: list[Node] = []
        position = self._structure
        while True:
            token, position = self._cell(position)
            if token == BEGIN_NODE:
                name = self._text(position, self._structure_end, "node")
                position = position + len(name) + 4 & ~3
                node = Node(name)
                (open_nodes[-1].children if open_nodes else roots).append(node)
                open_nodes.append(node)
            elif token == END_NODE and open_nodes:
                open_nodes.pop()
            elif token == PROPERTY and open_nodes:
                size, position = self._cell(position)
                offset, position = self._cell(position)
                if position + size > self._structure_end:
                    raise _DamagedError("a property is damaged")
                open_nodes[-1].properties.append((self._name(offset), self._data[position : position + size]))
                position = position + size + 3 & ~3
            elif token == END and not open_nodes and len(roots) == 1:
                return roots[0]
            elif token in (END_NODE, END):
                raise _DamagedError("its nodes are not nested in order")
            elif token != NOP:
                raise _DamagedError(f"its structure is damaged at byte {position - 4}")
            if len(open_nodes) > DEPTH_LIMIT:
                raise _DamagedError(f"its nodes are not nested in order, or more than {DEPTH_LIMIT} deep")
            if len(roots) > 1:
                raise _DamagedError("its nodes are not nested in order: it has two roots")

    def _cell(self, position: int) -> tuple[int, int]:
        """A cell of the structure and the position after it."""
        if position + 4 > self._structure_end:
            raise _DamagedError("its structure has no end")
        return CELL.unpack_from(self._data, position)[0], position + 4

    def _name(self, offset: int) -> str:
        name = self._names.get(offset)
        if name is None:
            name = self._names[offset] = self._text(self._strings + offset, self._strings_end, "property")
        return name

    def _text(self, start: int, end: int, what: str) -> str:
        stop = self._data.find(b"\0", start, min(end, start + NAME_LIMIT + 1))
        if stop < 0 and end - start > NAME_LIMIT:
            raise _DamagedError(f"the name of a {what} is longer than {NAME_LIMIT} characters")
        if stop < 0 or not self._data[start:stop].isascii():
            raise _DamagedError(f"the name of a {what} is damaged")
        return self._data[start:stop].decode("ascii")


# --- completing -------------------------------------------------------------------------------------------------


def complete(
    tree: DeviceTree,
    memory: Sequence[tuple[int, int]],
    bootargs: str | None = None,
    initrd: tuple[int, int] | None = None,
) -> bytes:
    """Add to a given tree what this machine has. Returns the tree's blob.

    `memory` has the start and size of each range of RAM, which replace those that the tree has. `bootargs` replaces
    the tree's unless it is None; `initrd` is the first address of the initrd and the one after it.
    """
    root = tree.root
    address_cells = _cell_count(root, "#address-cells", 2)
    size_cells = _cell_count(root, "#size-cells", 1)
    root.children = [one for one in root.children if one.name.partition("@")[0] != "memory"]
    for start, size in memory:
        node = Node(f"memory@{start:x}")
        node.set("device_type", "memory")
        node.set("reg", [*cells(start, address_cells), *cells(size, size_cells)])
        root.children.append(node)
    chosen = root.child("chosen")
    if chosen is None:
        chosen = Node("chosen")
        root.children.append(chosen)
    if bootargs is not None:
        chosen.set("bootargs", bootargs)
    if initrd is not None:
        for name, address in zip(("linux,initrd-start", "linux,initrd-end"), initrd, strict=True):
            chosen.set(name, cells(address))
    return tree.blob()


def _cell_count(root: Node, name: str, default: int) -> int:
    """The root's #address-cells or #size-cells."""
    value = root.get(name)
    if value is None:
        return default
    if len(value) != 4:
        raise UsageError(f"cannot use the device tree: {name} of its root has {len(value)} bytes, not 4")
    (count,) = CELL.unpack(value)
    if count not in (1, 2):
        raise UsageError(f"cannot use the device tree: its root has {name} = {count}")
    return int(count)


def with_room(blob: bytes, size: int) -> bytes:
    """The blob with `size` free bytes at its end, for firmware that adds to it in place."""
    magic, total, *others = HEADER.unpack_from(blob)
    return HEADER.pack(magic, total + size, *others) + blob[HEADER.size : total] + bytes(size)
