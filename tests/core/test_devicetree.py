# SPDX-License-Identifier: Apache-2.0
"""Device trees: made, taken from files, completed, and refused when they are damaged."""

import contextlib
import struct

import fdt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raddle.errors import UsageError
from raddle.machine.devicetree import cells, complete, make_tree, parse_tree

TREE = {
    "#address-cells": 2,
    "#size-cells": 2,
    "compatible": ["vendor,board", "vendor,family"],
    "model": "",
    "marker": None,
    "chosen": {"bootargs": "old", "stdout-path": "/uart@9000000"},
    "memory@80000000": {"device_type": "memory", "reg": [0, 0x8000_0000, 0, 0x1000]},
    "cpus": {"#address-cells": 1, "#size-cells": 0, "cpu@0": {"reg": 0}, "cpu@1": {"reg": 1}},
    "blob": {"data": b"\x01\x02\x03"},
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "board.dtb"

    def write(data):
        path.write_bytes(data)
        return path

    return write


def strings(blob, path, name):
    node = blob.get_node(path)
    item = node.get_property(name)
    return list(item.data)


def test_made_trees_can_be_read_back(file):
    blob = parse_tree(file(make_tree(TREE)))
    assert strings(blob, "/", "compatible") == ["vendor,board", "vendor,family"]
    assert [node.name for node in blob.get_node("/cpus").nodes] == ["cpu@0", "cpu@1"]
    assert blob.get_node("/cpus/cpu@1").get_property("reg").data == [1]
    assert blob.get_node("/").get_property("marker") is not None
    assert bytes(blob.get_node("/blob").get_property("data").data) == b"\x01\x02\x03"
    assert bytes(blob.get_node("/").get_property("model").data) == b"\0"


def test_completing_replaces_memory_and_adds_the_rest(file):
    path = file(make_tree(TREE))
    done = complete(parse_tree(path), [(0x4000_0000, 0x2000_0000)], "console=ttyAMA0 é", (0x4800_0000, 0x4800_1234))
    blob = parse_tree(file(done))
    assert [node.name for node in blob.root.nodes if node.name.startswith("memory")] == ["memory@40000000"]
    assert blob.get_node("/memory@40000000").get_property("reg").data == [0, 0x4000_0000, 0, 0x2000_0000]
    chosen = blob.get_node("/chosen")
    assert bytes(chosen.get_property("bootargs").data).decode() == "console=ttyAMA0 é\0"
    assert chosen.get_property("linux,initrd-start").data == [0, 0x4800_0000]
    assert chosen.get_property("linux,initrd-end").data == [0, 0x4800_1234]
    assert strings(blob, "/chosen", "stdout-path") == ["/uart@9000000"]


def test_bootargs_of_the_tree_stay_when_none_are_given(file):
    done = complete(parse_tree(file(make_tree(TREE))), [(0x4000_0000, 0x1000)])
    assert strings(parse_tree(file(done)), "/chosen", "bootargs") == ["old"]


def test_cell_sizes_of_the_root_are_obeyed(file):
    tree = {"#address-cells": 1, "#size-cells": 1}
    done = complete(parse_tree(file(make_tree(tree))), [(0x4000_0000, 0x1000)])
    assert parse_tree(file(done)).get_node("/memory@40000000").get_property("reg").data == [0x4000_0000, 0x1000]


def test_strange_cell_sizes_are_refused(file):
    with pytest.raises(UsageError, match="#address-cells = 3"):
        complete(parse_tree(file(make_tree({"#address-cells": 3}))), [(0, 0x1000)])


def test_reserved_memory_of_one_tree_is_not_that_of_the_next(file):
    blob = fdt.FDT(entries=[{"address": 0x5000_0000, "size": 0x1000}])
    blob.header.version, blob.header.last_comp_version, blob.header.boot_cpuid_phys = 17, 16, 0
    path = file(bytes(blob.to_dtb()))
    for _ in range(2):
        assert parse_tree(path).entries == [{"address": 0x5000_0000, "size": 0x1000}]
    assert parse_tree(file(make_tree(TREE))).entries == []


def test_cells():
    assert cells(0x1_0000_0002) == [1, 2]
    assert cells(7, 1) == [7]


def damaged(offset, value):
    data = bytearray(make_tree(TREE))
    struct.pack_into(">I", data, offset, value)
    return bytes(data)


GOOD = make_tree(TREE)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"\x7fELF" + bytes(60), "not a flattened device tree"),
        (GOOD[:20], "not a flattened device tree"),
        (GOOD[:-10], "truncated"),
        (damaged(20, 3), "version 3 is not supported"),
        (damaged(8, 0x7FFF_FFF0), "header is damaged"),
        (damaged(12, 0x7FFF_FFF0), "header is damaged"),
        (damaged(16, 0x7FFF_FFF0), "no end"),
        (damaged(36, 16), "no end|damaged"),
        (damaged(struct.unpack_from(">I", GOOD, 8)[0], 7), "damaged at byte"),
        (damaged(struct.unpack_from(">I", GOOD, 8)[0], 2), "not nested"),
    ],
)
def test_damaged_trees(file, data, fault):
    with pytest.raises(UsageError, match=fault) as caught:
        parse_tree(file(data))
    assert "board.dtb" in str(caught.value)


def with_nops(blob):
    """The same tree with a NOP before each token."""
    _, _, structure, strings, *_, size = struct.unpack_from(">10I", blob)
    assert strings == structure + size
    position, tokens = structure, b""
    while position < structure + size:
        start = position
        token, length = struct.unpack_from(">2I", blob, position)
        position += 4
        if token == 1:
            position = blob.index(b"\0", position) + 4 & ~3
        elif token == 3:
            position = position + 8 + length + 3 & ~3
        tokens += b"\0\0\0\4" + blob[start:position]
    more = len(tokens) - size
    result = bytearray(blob[:structure] + tokens + blob[strings:])
    for at, value in ((4, len(result)), (12, strings + more), (36, len(tokens))):
        struct.pack_into(">I", result, at, value)
    return bytes(result)


def test_nops_mean_nothing(file):
    plain, nops = (parse_tree(file(blob)) for blob in (GOOD, with_nops(GOOD)))
    assert complete(nops, [(0x4000_0000, 0x1000)]) == complete(plain, [(0x4000_0000, 0x1000)])


def test_nops_in_place_of_a_property(file):
    blob = bytearray(GOOD)
    at = blob.index(struct.pack(">2I", 3, len("/uart@9000000") + 1))
    blob[at : at + 28] = struct.pack(">I", 4) * 7
    assert parse_tree(file(bytes(blob))).get_node("/chosen").get_property("stdout-path") is None


def test_trees_that_are_too_deep(file):
    tree = {}
    for _ in range(80):
        tree = {"node": tree}
    with pytest.raises(UsageError, match="not nested in order"):
        parse_tree(file(make_tree(tree)))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_damage_never_does_worse_than_a_usage_error(file, data):
    blob = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 5))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(UsageError):
        complete(parse_tree(file(bytes(blob))), [(0x4000_0000, 0x1000)], "x", (1, 2))
