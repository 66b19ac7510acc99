# SPDX-License-Identifier: Apache-2.0
"""The decision table: every row, and every combination of synthetic targets, hosts and requests against the rows."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from raddle.accel import (
    AccelOptions,
    Decision,
    IcountOptions,
    Llsc,
    Mode,
    Order,
    Thread,
    decide,
    parse_accel,
    parse_icount,
)
from raddle.errors import UsageError
from raddle.ordering import MemoryOrder
from raddle.plugins import Host, Target

TSO = MemoryOrder.ALL & ~MemoryOrder.ST_LD
WEAK = MemoryOrder.NONE
STRONG = MemoryOrder.ALL


def nothing_to_load(*_: str) -> Any:
    raise AssertionError("the decision loads nothing")


def guest(order: MemoryOrder = WEAK, *, bits: int = 32, mttcg: bool = True) -> Target:
    return Target("guest", bits, mttcg, order, None, ("any",), nothing_to_load)


def host(order: MemoryOrder = TSO, *, bits: int = 64) -> Host:
    return Host("host", bits, order, ("any",), nothing_to_load)


ICOUNT = "instruction counting needs one thread"
UNCONVERTED = "the guest guest does not declare TARGET_SUPPORTS_MTTCG"
OVERSIZED = "a word of the guest guest (64 bits) is wider than one of the host host (32 bits)"


def unordered(orders: str) -> str:
    return f"the guest guest counts on orders that the host host does not keep ({orders})"


# --- one test a row of the table


def test_auto_with_icount_is_single() -> None:
    assert decide(guest(), host(), icount=True) == Decision(Mode.SINGLE, (ICOUNT,))


def test_auto_with_an_unconverted_target_is_single() -> None:
    assert decide(guest(mttcg=False), host()) == Decision(Mode.SINGLE, (UNCONVERTED,))


def test_auto_with_a_guest_word_wider_than_the_hosts_is_single() -> None:
    assert decide(guest(bits=64), host(bits=32)) == Decision(Mode.SINGLE, (OVERSIZED,))


def test_auto_with_orders_missing_is_single_and_names_them_and_the_remedy() -> None:
    reason = f"{unordered('ST_LD')}; order=fenced would run it multi-threaded"
    assert decide(guest(STRONG), host(TSO)) == Decision(Mode.SINGLE, (reason,))
    reason = f"{unordered('LD_LD, LD_ST, ST_ST')}; order=fenced would run it multi-threaded"
    assert decide(guest(TSO), host(WEAK)) == Decision(Mode.SINGLE, (reason,))


def test_auto_with_orders_missing_but_fenced_is_multi_with_those_barriers() -> None:
    decision = decide(guest(STRONG), host(TSO), order=Order.FENCED)
    assert decision.mode is Mode.MULTI
    assert decision.fences == MemoryOrder.ST_LD
    assert decision.reasons == ("order=fenced adds a barrier for each order that the host host lacks: ST_LD",)
    assert decision.warnings == ()


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("guest_order", [WEAK, MemoryOrder.LD_LD, TSO])
def test_auto_otherwise_is_multi(guest_order: MemoryOrder, order: Order) -> None:
    reason = "the host host keeps every order that the guest guest counts on"
    assert decide(guest(guest_order), host(TSO), order=order) == Decision(Mode.MULTI, (reason,))


def test_multi_with_icount_or_an_oversized_guest_is_an_error() -> None:
    with pytest.raises(UsageError, match=f"^thread=multi is not possible: {ICOUNT}$") as caught:
        decide(guest(), host(), Thread.MULTI, icount=True)
    assert caught.value.exit_status == 2
    with pytest.raises(UsageError, match="wider than"):
        decide(guest(bits=64), host(bits=32), Thread.MULTI)
    with pytest.raises(UsageError, match=r"needs one thread; .*wider than"):
        decide(guest(bits=64), host(bits=32), Thread.MULTI, icount=True)


def test_multi_with_an_unconverted_target_or_orders_missing_warns() -> None:
    asked = ("thread=multi was asked for",)
    not_converted = f"{UNCONVERTED}: its atomic operations and TLB flushes may go wrong"
    not_ordered = f"{unordered('ST_LD')}: its programs may see them broken; order=fenced keeps them"
    assert decide(guest(mttcg=False), host(), Thread.MULTI) == Decision(Mode.MULTI, asked, (not_converted,))
    assert decide(guest(STRONG), host(), Thread.MULTI) == Decision(Mode.MULTI, asked, (not_ordered,))
    both = decide(guest(STRONG, mttcg=False), host(), Thread.MULTI)
    assert both == Decision(Mode.MULTI, asked, (not_converted, not_ordered))


def test_multi_with_orders_missing_but_fenced_has_barriers_and_no_warning() -> None:
    decision = decide(guest(STRONG), host(), Thread.MULTI, order=Order.FENCED)
    assert decision == Decision(Mode.MULTI, ("thread=multi was asked for",), (), MemoryOrder.ST_LD)


def test_single_is_always_single() -> None:
    for target, machine, icount, order in product(GUESTS, HOSTS, (False, True), Order):
        assert decide(target, machine, Thread.SINGLE, icount, order) == Decision(
            Mode.SINGLE, ("thread=single was asked for",)
        )


def test_several_obstacles_are_all_named_in_the_tables_order() -> None:
    decision = decide(guest(STRONG, bits=64, mttcg=False), host(bits=32), icount=True)
    assert decision.reasons[:3] == (ICOUNT, UNCONVERTED, OVERSIZED)
    assert decision.reasons[3].startswith(unordered("ST_LD"))


# --- the whole table over every combination

ORDERS = [MemoryOrder(value) for value in range(MemoryOrder.ALL + 1)]
GUESTS = [guest(order, bits=bits, mttcg=mttcg) for order, bits, mttcg in product(ORDERS, (32, 64), (False, True))]
HOSTS = [host(order, bits=bits) for order, bits in product(ORDERS, (32, 64))]

Case = tuple[Target, Host, Thread, bool, Order]


def lacks(case: Case) -> bool:
    target, machine, *_ = case
    return bool(target.default_mo & ~machine.default_mo)


def oversized(case: Case) -> bool:
    return case[0].word_bits > case[1].word_bits


# The rows of the table, first match wins: request, condition, result ("error", or the mode).
ROWS: list[tuple[Thread, Callable[[Case], bool], Mode | str]] = [
    (Thread.AUTO, lambda case: case[3], Mode.SINGLE),
    (Thread.AUTO, lambda case: not case[0].supports_mttcg, Mode.SINGLE),
    (Thread.AUTO, oversized, Mode.SINGLE),
    (Thread.AUTO, lambda case: lacks(case) and case[4] is Order.NATIVE, Mode.SINGLE),
    (Thread.AUTO, lambda case: lacks(case) and case[4] is Order.FENCED, Mode.MULTI),
    (Thread.AUTO, lambda case: True, Mode.MULTI),
    (Thread.MULTI, lambda case: case[3] or oversized(case), "error"),
    (Thread.MULTI, lambda case: True, Mode.MULTI),
    (Thread.SINGLE, lambda case: True, Mode.SINGLE),
]


def test_every_combination_follows_the_table() -> None:
    for case in product(GUESTS, HOSTS, Thread, (False, True), Order):
        expected = next(result for request, holds, result in ROWS if request is case[2] and holds(case))
        try:
            decision = decide(*case)
        except UsageError:
            assert expected == "error", case
            continue
        assert decision.mode is expected, case
        assert decision.reasons, case
        fenced = decision.mode is Mode.MULTI and case[4] is Order.FENCED
        assert decision.fences == (case[0].default_mo & ~case[1].default_mo if fenced else WEAK), case
        doubtful = not case[0].supports_mttcg or (lacks(case) and case[4] is Order.NATIVE)
        assert bool(decision.warnings) == (case[2] is Thread.MULTI and doubtful), case


# --- options


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("tcg,split-wx=on", AccelOptions(split_wx=True)),
        ("tcg,split-wx=off", AccelOptions(split_wx=False)),
        ("tcg", AccelOptions()),
        ("tcg,thread=multi", AccelOptions(Thread.MULTI)),
        ("tcg,thread=single", AccelOptions(Thread.SINGLE)),
        ("tcg,order=fenced", AccelOptions(Thread.AUTO, Order.FENCED)),
        ("tcg,llsc=fast,order=native,thread=multi", AccelOptions(Thread.MULTI, Order.NATIVE)),
        ("tcg,llsc=strict", AccelOptions(llsc=Llsc.STRICT)),
        ("tcg,memo-size=16M", AccelOptions(memo_size=16 << 20)),
        ("tcg,memo-size=1", AccelOptions(memo_size=1 << 20)),
        ("tcg,memo-size=64G", AccelOptions(memo_size=64 << 30)),
    ],
)
def test_parse_accel(text: str, options: AccelOptions) -> None:
    assert parse_accel(text) == options


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kvm", r"accelerator kvm is not available \(known: tcg\); kvm:tcg would fall back"),
        ("kvm:xen", r"accelerator kvm:xen is not available"),
        ("kvn:tcg", r"unknown accelerator 'kvn' \(known: tcg\)"),
        ("tcg,tb-size=x", r"--accel tb-size must be MiB for the code buffer, 1 to 1024, not 'x'"),
        ("tcg,tb-size=1025", r"tb-size must be"),
        ("tcg,tb-size=-1", r"tb-size must be"),
        ("", r"^accelerator without a name: is there a separator too many\? \(known: tcg\)$"),
        (",,", r"^accelerator without a name: is there a separator too many\? \(known: tcg\)$"),
        ("kvm::tcg", "^accelerator without a name"),
        ("tcg,", r"^--accel setting without a name: is there a separator too many\? \(known: thread, "),
        ("tcg,thraed=multi", r"did you mean thread\? \(known: thread, order, llsc, tb-size, memo-size, split-wx\)"),
        ("tcg,thread=many", r"unknown --accel thread value 'many' \(known: multi, single\)"),
        ("tcg,thread", "thread needs a value"),
        ("tcg,thread=", "thread needs a value"),
        ("tcg,thread=multi,thread=single", "gives thread twice"),
        ("tcg,order=weak", r"known: native, fenced"),
        ("tcg,llsc=exact", r"unknown --accel llsc value 'exact' \(known: fast, strict\)"),
        ("tcg,memo-size=much", "'much' is not a memory size"),
        ("tcg,memo-size=1000K", "memo-size must be 1 MiB to 64 GiB, not 1000 KiB"),
        ("tcg,memo-size=65G", "memo-size must be 1 MiB to 64 GiB, not 65 GiB"),
        ("tcg,memo-size=99999999999T", "memo-size must be 1 MiB to 64 GiB, not 99999999999 TiB"),
    ],
)
def test_parse_accel_refuses(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_accel(text)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("shift=0", IcountOptions(0)),
        ("shift=10,sleep=off", IcountOptions(10, False)),
        ("shift=auto", IcountOptions(None)),
        ("sleep=on,shift=auto", IcountOptions(None, True)),
        ("7", IcountOptions(7)),
        ("auto,sleep=on", IcountOptions(None, True)),
    ],
)
def test_parse_icount(text: str, options: IcountOptions) -> None:
    assert parse_icount(text) == options


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "shift"),
        ("shift=11", "from 0 to 10, not '11'"),
        ("shift=-1", "from 0 to 10"),
        ("shift=²", "from 0 to 10"),
        ("shift=3,sleep=maybe", r"known: on, off"),
        ("shift=3,align=on", r"unknown -icount setting 'align' \(known: shift, sleep\)"),
        ("sleep=on", "needs shift=N or shift=auto"),
        ("shift=1,shift=2", "twice"),
    ],
)
def test_parse_icount_refuses(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_icount(text)
