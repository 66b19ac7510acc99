# SPDX-License-Identifier: Apache-2.0
"""Where images go: nothing outside of memory, nothing over something else."""

import pytest

from raddle.errors import UsageError
from raddle.layout import Area, Layout


def test_layout_refuses_what_does_not_fit():
    layout = Layout(Area("RAM", 0x4000_0000, 16 << 20, most=1 << 30))
    layout.add("the kernel", 0x4001_0000, bytes(100), 0x10_0000)
    with pytest.raises(UsageError, match=r"initrd .* overlaps the kernel .*; give it another address \(addr="):
        layout.add("initrd", 0x4010_0000, bytes(0x2_0000))
    with pytest.raises(UsageError, match=r"initrd .* overlaps the kernel .*; take less$"):
        layout.add("initrd", 0x4010_0000, bytes(0x2_0000), remedy="take less")
    with pytest.raises(UsageError, match=r"does not fit into the RAM of 16 MiB at 0x40000000; more memory \(-m\)"):
        layout.add("initrd", 0x40FF_F000, bytes(0x2000))


@pytest.mark.parametrize(
    ("address", "remedy"),
    [
        (0, "give it another address"),
        (0x3FFF_F000, "give it another address"),
        (0x4100_0000, "more memory"),
        (0x7FFF_E000, "more memory"),
        (0x7FFF_F000, "give it another address"),
        (0x8000_0000, "give it another address"),
        (1 << 63, "give it another address"),
    ],
)
def test_more_memory_is_a_remedy_where_ram_can_be(address, remedy):
    layout = Layout(Area("RAM", 0x4000_0000, 16 << 20, most=1 << 30))
    with pytest.raises(UsageError, match=f"does not fit .*; {remedy}"):
        layout.add("file", address, bytes(0x2000))


def test_layout_finds_free_places():
    layout = Layout(Area("RAM", 0x4000_0000, 1 << 20))
    assert layout.free(28, 0x4000_0000) == 0x4000_0000
    layout.add("a", 0x4000_0000, bytes(0x1800))
    layout.add("b", 0x4000_3000, bytes(0x1000))
    assert layout.free(0x1000, 0x4000_0000) == 0x4000_2000
    assert layout.free(0x1001, 0x4000_0000) == 0x4000_4000
    with pytest.raises(UsageError, match="no room"):
        layout.free(1 << 20, 0x4000_0000)


def test_images_may_lie_in_other_memory_too():
    layout = Layout(Area("RAM", 0x4000_0000, 1 << 20), [Area("flash", 0, 64 << 20)])
    layout.add("vectors", 0, bytes(0x100))
    layout.add("program", 0x4000_0000, bytes(0x1000))
    assert layout.free(4, 0) == 0x4000_1000  # RAM only
    assert layout.in_ram(0x4000_0000, 1 << 20)
    assert not layout.in_ram(0, 4)
    with pytest.raises(UsageError, match=r"the RAM of 1 MiB at 0x40000000 or the flash of 64 MiB at 0x0; give it"):
        layout.add("beyond", (64 << 20) - 4, bytes(8))
    with pytest.raises(UsageError, match="overlaps vectors"):
        layout.add("again", 0xFF, bytes(1))
