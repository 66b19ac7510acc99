# SPDX-License-Identifier: Apache-2.0
from itertools import product

import pytest

from raddle.ordering import MemoryOrder, missing, names

LD_LD, LD_ST, ST_LD, ST_ST = MemoryOrder.LD_LD, MemoryOrder.LD_ST, MemoryOrder.ST_LD, MemoryOrder.ST_ST
EVERY = [MemoryOrder(value) for value in range(MemoryOrder.ALL + 1)]
TSO = MemoryOrder.ALL & ~ST_LD


def test_all_is_the_union_of_the_four_single_orders() -> None:
    assert list(MemoryOrder) == [LD_LD, LD_ST, ST_LD, ST_ST]
    assert MemoryOrder.ALL == LD_LD | LD_ST | ST_LD | ST_ST
    assert not MemoryOrder.NONE


@pytest.mark.parametrize(
    ("guest", "host", "lacking"),
    [
        (MemoryOrder.NONE, MemoryOrder.NONE, MemoryOrder.NONE),
        (MemoryOrder.NONE, TSO, MemoryOrder.NONE),
        (TSO, TSO, MemoryOrder.NONE),
        (MemoryOrder.ALL, TSO, ST_LD),
        (TSO, MemoryOrder.NONE, TSO),
        (MemoryOrder.ALL, MemoryOrder.NONE, MemoryOrder.ALL),
        (ST_LD | ST_ST, ST_ST, ST_LD),
    ],
)
def test_missing(guest: MemoryOrder, host: MemoryOrder, lacking: MemoryOrder) -> None:
    assert missing(guest, host) == lacking


def test_missing_is_exactly_what_completes_the_host() -> None:
    for guest, host in product(EVERY, EVERY):
        lacking = missing(guest, host)
        assert lacking & host == MemoryOrder.NONE
        assert guest in lacking | host
        assert lacking in guest


def test_names() -> None:
    assert names(MemoryOrder.NONE) == ()
    assert names(TSO) == ("LD_LD", "LD_ST", "ST_ST")
