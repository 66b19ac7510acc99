# SPDX-License-Identifier: Apache-2.0
"""Device trees: made, taken from files, completed, and refused when they are damaged. What is made is read back by the
`fdt` package, which knows nothing of ours."""

import contextlib
import struct
import sys

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
GOOD = make_tree(TREE)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "board.dtb"

    def write(data):
        path.write_bytes(data)
        return path

    return write


def strings(blob, path, name):
    return list(blob.get_node(path).get_property(name).data)


def test_made_trees_can_be_read_back():
    blob = fdt.parse_dtb(make_tree(TREE))
    assert strings(blob, "/", "compatible") == ["vendor,board", "vendor,family"]
    assert [node.name for node in blob.get_node("/cpus").nodes] == ["cpu@0", "cpu@1"]
    assert blob.get_node("/cpus/cpu@1").get_property("reg").data == [1]
    assert blob.get_node("/").get_property("marker") is not None
    assert bytes(blob.get_node("/blob").get_property("data").data) == b"\x01\x02\x03"
    assert bytes(blob.get_node("/").get_property("model").data) == b"\0"


def test_what_is_taken_from_a_file_is_what_is_in_it(file):
    tree = parse_tree(file(GOOD))
    assert tree.blob() == GOOD
    assert tree.root.child("cpus").child("cpu@1").get("reg") == b"\0\0\0\1"
    assert tree.root.get("nothing") is tree.root.child("nobody") is None


def test_completing_replaces_memory_and_adds_the_rest(file):
    done = complete(
        parse_tree(file(GOOD)), [(0x4000_0000, 0x2000_0000)], "console=ttyAMA0 é", (0x4800_0000, 0x4800_1234)
    )
    blob = fdt.parse_dtb(done)
    assert [node.name for node in blob.root.nodes if node.name.startswith("memory")] == ["memory@40000000"]
    assert blob.get_node("/memory@40000000").get_property("reg").data == [0, 0x4000_0000, 0, 0x2000_0000]
    chosen = blob.get_node("/chosen")
    assert bytes(chosen.get_property("bootargs").data).decode() == "console=ttyAMA0 é\0"
    assert chosen.get_property("linux,initrd-start").data == [0, 0x4800_0000]
    assert chosen.get_property("linux,initrd-end").data == [0, 0x4800_1234]
    assert strings(blob, "/chosen", "stdout-path") == ["/uart@9000000"]


def test_bootargs_of_the_tree_stay_when_none_are_given(file):
    done = complete(parse_tree(file(GOOD)), [(0x4000_0000, 0x1000)])
    assert strings(fdt.parse_dtb(done), "/chosen", "bootargs") == ["old"]


def test_cell_sizes_of_the_root_are_obeyed(file):
    tree = {"#address-cells": 1, "#size-cells": 1}
    done = fdt.parse_dtb(complete(parse_tree(file(make_tree(tree))), [(0x4000_0000, 0x1000)]))
    assert done.get_node("/memory@40000000").get_property("reg").data == [0x4000_0000, 0x1000]


def test_strange_cell_sizes_are_refused(file):
    with pytest.raises(UsageError, match="#address-cells = 3"):
        complete(parse_tree(file(make_tree({"#address-cells": 3}))), [(0, 0x1000)])


def test_reserved_memory_and_the_boot_cpu_are_kept(file):
    blob = fdt.FDT(entries=[{"address": 0x5000_0000, "size": 0x1000}])
    blob.header.version, blob.header.last_comp_version, blob.header.boot_cpuid_phys = 17, 16, 3
    tree = parse_tree(file(bytes(blob.to_dtb())))
    assert (tree.reserved, tree.boot_cpu) == ([(0x5000_0000, 0x1000)], 3)
    again = parse_tree(file(complete(tree, [(0x4000_0000, 0x1000)])))
    assert (again.reserved, again.boot_cpu) == ([(0x5000_0000, 0x1000)], 3)
    assert parse_tree(file(GOOD)).reserved == []


def test_cells():
    assert cells(0x1_0000_0002) == [1, 2]
    assert cells(7, 1) == [7]


def damaged(offset, value):
    data = bytearray(make_tree(TREE))
    struct.pack_into(">I", data, offset, value)
    return bytes(data)


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
    assert parse_tree(file(bytes(blob))).root.child("chosen").get("stdout-path") is None


def test_trees_that_are_too_deep(file):
    tree = {}
    for _ in range(80):
        tree = {"node": tree}
    with pytest.raises(UsageError, match="not nested in order"):
        parse_tree(file(make_tree(tree)))


@pytest.mark.parametrize(
    ("tree", "fault"),
    [
        ({"n" * 300: {}}, "the name of a node is longer than 255 characters"),
        ({"p" * 300: 1}, "the name of a property is longer than 255 characters"),
        ({"é": {}}, "the name of a node is damaged"),
        ({"é": 1}, "the name of a property is damaged"),
    ],
)
def test_names_that_cannot_be(file, tree, fault):
    with pytest.raises(UsageError, match=fault):
        parse_tree(file(make_tree(tree)))


def test_a_fault_is_told_in_a_short_line(file):
    """Whatever the tree holds: none of it is repeated."""
    with pytest.raises(UsageError, match="#address-cells of its root has 1000000 bytes, not 4") as caught:
        complete(parse_tree(file(make_tree({"#address-cells": bytes(1_000_000)}))), [(0, 0x1000)])
    assert len(str(caught.value)) < 120


def structure(tokens, strings=b"a\0", reserved=b""):
    """A blob with these tokens within its root."""
    tokens = struct.pack(">2I", 1, 0) + tokens + struct.pack(">2I", 2, 9)
    start = 40 + len(reserved) + 16
    total = start + len(tokens) + len(strings)
    header = struct.pack(
        ">10I", 0xD00D_FEED, total, start, start + len(tokens), 40, 17, 16, 0, len(strings), len(tokens)
    )
    return header + reserved + bytes(16) + tokens + strings


KINDS = {
    "nodes": lambda n: structure(b"".join(struct.pack(">I4sI", 1, b"%03x" % (i & 0xFFF), 2) for i in range(n))),
    "properties": lambda n: structure(
        b"".join(struct.pack(">3I", 3, 0, 5 * i) for i in range(n)), b"".join(b"%04x\0" % i for i in range(n))
    ),
    "one name": lambda n: structure(struct.pack(">3I", 3, 0, 0) * n),
    "tails of one name": lambda n: structure(
        b"".join(struct.pack(">3I", 3, 0, i % 250) for i in range(n)), b"a" * 254 + b"\0"
    ),
    "no operation": lambda n: structure(struct.pack(">I", 4) * n),
    "strings": lambda n: structure(struct.pack(">3I", 3, 4 * n, 0) + b"a\0a\0" * n),
    "reserved": lambda n: structure(b"", reserved=b"".join(struct.pack(">2Q", i + 1, 1) for i in range(n))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_work_grows_no_faster_than_the_tree(file, kind):
    """By the lines that are executed, which no other load on the machine changes."""

    def lines_for(count):
        path, lines = file(KINDS[kind](count)), 0

        def count_line(frame, event, argument):
            nonlocal lines
            lines += event == "line"
            return count_line

        previous = sys.gettrace()
        sys.settrace(count_line)
        try:
            complete(parse_tree(path), [(0x4000_0000, 0x1000)], "x", (1, 2))
        finally:
            sys.settrace(previous)
        return lines

    assert lines_for(2000) < 2.5 * lines_for(1000)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_damage_never_does_worse_than_a_usage_error(file, data):
    blob = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 5))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(UsageError):
        complete(parse_tree(file(bytes(blob))), [(0x4000_0000, 0x1000)], "x", (1, 2))
