# SPDX-License-Identifier: Apache-2.0
"""Flattened device trees: made from nested dictionaries, or taken from a file, checked and completed."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Union

import fdt

from raddle.errors import UsageError
from raddle.machine.loaders import read_file

__all__ = ["Tree", "TreeValue", "cells", "complete", "make_tree", "parse_tree"]

Property = int | str | bytes | Sequence[int] | Sequence[str] | None
"""An empty property, one cell, one string, bytes, cells, strings."""
TreeValue = Union[Property, "Tree"]
Tree = Mapping[str, TreeValue]

VERSION: Final = 17
COMPATIBLE_VERSION: Final = 16
SIZE_LIMIT: Final = 2 << 20
"""Linux maps no more."""
DEPTH_LIMIT: Final = 64

MAGIC: Final = 0xD00D_FEED
HEADER: Final = struct.Struct(">10I")
BEGIN_NODE, END_NODE, PROPERTY, NOP, END = 1, 2, 3, 4, 9


def cells(value: int, count: int = 2) -> list[int]:
    """A number as `count` big-endian cells of 32 bits."""
    return [value >> 32 * n & 0xFFFF_FFFF for n in reversed(range(count))]


# --- making -----------------------------------------------------------------------------------------------------


def make_tree(tree: Tree) -> bytes:
    """The blob of a tree: dictionaries are nodes, everything else is a property."""
    blob = _empty()
    _fill(blob.root, tree)
    return _export(blob)


def _empty() -> Any:
    blob = fdt.FDT(entries=[])
    blob.header.version = VERSION
    blob.header.last_comp_version = COMPATIBLE_VERSION
    blob.header.boot_cpuid_phys = 0
    return blob


def _fill(node: Any, tree: Tree) -> None:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            child = fdt.Node(name)
            _fill(child, value)
            node.append(child)
        else:
            node.append(_property(name, value))


def _property(name: str, value: Property) -> Any:
    if value is None:
        return fdt.Property(name)
    if isinstance(value, int):
        return fdt.PropWords(name, value)
    if isinstance(value, bytes):
        return fdt.PropBytes(name, data=value)
    if isinstance(value, str):
        return _strings(name, [value])
    strings = [item for item in value if isinstance(item, str)]
    return _strings(name, strings) if strings else fdt.PropWords(name, *value)


def _strings(name: str, strings: Sequence[str]) -> Any:
    """As bytes, because the library's own strings cannot be empty and must be ASCII."""
    return fdt.PropBytes(name, data=b"".join(string.encode() + b"\0" for string in strings))


def _export(blob: Any) -> bytes:
    return bytes(blob.to_dtb(version=VERSION, last_comp_version=COMPATIBLE_VERSION))


# --- taking from a file -----------------------------------------------------------------------------------------


def parse_tree(path: str | Path) -> Any:
    """The tree in a file. Raises UsageError, which says what is wrong with it."""
    name = f"device tree {path}"
    data = read_file(path, "device tree", SIZE_LIMIT)
    try:
        blob = fdt.parse_dtb(_without_nops(data, _check(data, name)))
        # The library keeps the reserved ranges of all trees in one list, which is its default argument.
        reserved = list(blob.entries)
        blob.entries.clear()
        blob.entries = reserved
    except Exception as error:  # whatever its parser stumbles over
        raise UsageError(f"cannot use {name}: it is damaged ({' '.join(str(error).split())})") from None
    return blob


def _without_nops(data: bytes, nops: Sequence[int]) -> bytes:
    """The blob without the NOP tokens at these places, which the library does not know everywhere. They move behind
    the structure's end, so that everything else stays where it was.
    """
    if not nops:
        return data
    _, _, structure, *_, structure_size = HEADER.unpack_from(data)
    kept, position = bytearray(data[:structure]), structure
    for nop in nops:
        kept += data[position:nop]
        position = nop + 4
    kept += data[position : structure + structure_size]
    return bytes(kept) + struct.pack(">I", NOP) * len(nops) + data[structure + structure_size :]


def _check(data: bytes, name: str) -> list[int]:
    """Walk through the blob: its sizes, offsets and nesting must be in order before a library trusts them. Where NOP
    tokens are.
    """

    def damaged(why: str) -> UsageError:
        return UsageError(f"cannot use {name}: {why}")

    if len(data) < HEADER.size or struct.unpack_from(">I", data)[0] != MAGIC:
        raise damaged("it is not a flattened device tree (a .dtb file)")
    _, total, structure, strings, reserved, version, compatible, _, strings_size, structure_size = HEADER.unpack_from(
        data
    )
    if total > len(data):
        raise damaged(f"it is truncated ({len(data)} of {total} bytes)")
    if version < VERSION or compatible > VERSION:
        raise damaged(f"its version {version} is not supported (known: {VERSION})")
    if structure % 4 or structure + structure_size > total or strings + strings_size > total or reserved % 8:
        raise damaged("its header is damaged")
    while reserved + 16 <= total and any(data[reserved : reserved + 16]):
        reserved += 16
    if reserved + 16 > total:
        raise damaged("its list of reserved memory has no end")
    nops: list[int] = []
    position, end, depth, roots = structure, structure + structure_size, 0, 0
    while True:
        if position + 4 > end:
            raise damaged("its structure has no end")
        (token,) = struct.unpack_from(">I", data, position)
        position += 4
        if token == BEGIN_NODE:
            stop = data.find(b"\0", position, end)
            if stop < 0 or not data[position:stop].isascii():
                raise damaged("a node's name is damaged")
            roots += depth == 0
            depth += 1
            position = stop + 4 & ~3
        elif token == END_NODE:
            depth -= 1
        elif token == PROPERTY and depth > 0 and position + 8 <= end:
            size, offset = struct.unpack_from(">II", data, position)
            stop = data.find(b"\0", strings + offset, strings + strings_size) if offset < strings_size else -1
            if stop < 0 or not data[strings + offset : stop].isascii() or position + 8 + size > end:
                raise damaged("a property is damaged")
            position = position + 8 + size + 3 & ~3
        elif token == END and depth == 0 and roots == 1:
            return nops
        elif token == NOP:
            nops.append(position - 4)
        else:
            raise damaged(f"its structure is damaged at byte {position - 4}")
        if not 0 <= depth <= DEPTH_LIMIT or roots > 1:
            raise damaged("its nodes are not nested in order")


# --- completing -------------------------------------------------------------------------------------------------


def complete(
    blob: Any,
    memory: Sequence[tuple[int, int]],
    bootargs: str | None = None,
    initrd: tuple[int, int] | None = None,
) -> bytes:
    """The blob of a given tree with what this machine adds to it.

    `memory` has the start and size of each range of RAM, which replace those that the tree has. `bootargs` replaces
    the tree's unless it is None; `initrd` is the first address of the initrd and the one after it.
    """
    address_cells = _cell(blob, "#address-cells")
    size_cells = _cell(blob, "#size-cells")
    for node in [one for one in blob.root.nodes if one.name == "memory" or one.name.startswith("memory@")]:
        blob.root.remove_subnode(node.name)
    for start, size in memory:
        node = fdt.Node(f"memory@{start:x}")
        node.append(fdt.PropStrings("device_type", "memory"))
        node.append(fdt.PropWords("reg", *cells(start, address_cells), *cells(size, size_cells)))
        blob.root.append(node)
    chosen = blob.get_node("/chosen", create=True)
    if bootargs is not None:
        _replace(chosen, _property("bootargs", bootargs))
    if initrd is not None:
        for name, address in zip(("linux,initrd-start", "linux,initrd-end"), initrd, strict=True):
            _replace(chosen, fdt.PropWords(name, *cells(address)))
    return _export(blob)


def _replace(node: Any, item: Any) -> None:
    if node.exist_property(item.name):
        node.remove_property(item.name)
    node.append(item)


def _cell(blob: Any, name: str) -> int:
    """The root's #address-cells or #size-cells; the specification's defaults are 2 and 1."""
    found = blob.root.get_property(name)
    value = found[0] if isinstance(found, fdt.PropWords) and len(found) == 1 else {"#address-cells": 2}.get(name, 1)
    if value not in (1, 2):
        raise UsageError(f"cannot use the device tree: its root has {name} = {value}")
    return int(value)
