# SPDX-License-Identifier: Apache-2.0
"""`raddle info`: what is installed and works here, what does not and why, and the threading mode of each pair."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Final, TypeVar

from rich.console import Console
from rich.table import Table

from raddle import __version__, accel
from raddle.errors import PluginError, UsageError
from raddle.ordering import MemoryOrder, names
from raddle.plugins import API_VERSION, Board, Device, HelperPackage, Host, Registry, Target, registry

__all__ = ["configure", "run"]

WIDTH_OFF_TERMINAL: Final = 120
"""Columns of a table that goes to a file or a pipe."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--matrix",
        action="store_true",
        help="the threading mode of each guest on each host with each setting of order=, with the reason",
    )
    parser.add_argument(
        "-accel",
        "--accel",
        default="tcg",
        metavar="tcg[,SETTING=VALUE]",
        help="decide as `boot` would with these settings",
    )
    parser.add_argument("-icount", metavar="shift=N|auto", help="decide as `boot` would with instruction counting")


def run(arguments: argparse.Namespace) -> int:
    options = accel.parse_accel(arguments.accel)
    icount = arguments.icount is not None and bool(accel.parse_icount(arguments.icount))
    found = registry()
    targets = _loadable(found, found.targets())
    hosts = _loadable(found, found.hosts())
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else WIDTH_OFF_TERMINAL)
    if arguments.matrix:
        console.print(_matrix(found, targets, hosts, _orders(arguments.accel, options), icount))
    else:
        console.print(f"raddle {__version__}, plug-in API {API_VERSION}, on {platform.machine()}")
        for table in (_targets(targets), _hosts(hosts), _boards(_loadable(found, found.boards()))):
            if table.row_count:
                console.print(table)
        from raddle.runtime import code_memory  # late, because it loads the native runtime

        here = next((found.load(host) for host in hosts if platform.machine() in host.machine_names), None)
        chosen = code_memory.choose(options.split_wx, here.constant if here else None)
        console.print(chosen.description, soft_wrap=True)
        console.print(options.llsc.description, soft_wrap=True)
        _print_names(console, "devices", _loadable(found, found.devices()))
        _print_names(console, "helper packages", _loadable(found, found.helpers()))
    for problem in found.problems():
        console.print(f"broken plug-in {problem.plugin}: {problem.reason}", soft_wrap=True)
    return 0


Descriptor = TypeVar("Descriptor", Target, Host, Board, Device, HelperPackage)


def _loadable(found: Registry, descriptors: Iterable[Descriptor]) -> list[Descriptor]:
    """The descriptors whose plug-ins load, so that only plug-ins that work are listed. The registry keeps the errors
    of the others.
    """
    loadable = []
    for descriptor in descriptors:
        try:
            found.load(descriptor)
        except PluginError:
            continue
        loadable.append(descriptor)
    return loadable


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _targets(targets: Iterable[Target]) -> Table:
    table = _table("Guests", "name", "bits", "threads", "memory order", "CPUs")
    for target in targets:
        threads = "yes" if target.supports_mttcg else "no"
        table.add_row(target.name, str(target.word_bits), threads, _order(target.default_mo), ", ".join(target.cpus))
    return table


def _hosts(hosts: Iterable[Host]) -> Table:
    table = _table("Hosts", "name", "bits", "memory order", "this machine")
    for host in hosts:
        here = "yes" if platform.machine() in host.machine_names else "no"
        table.add_row(host.name, str(host.word_bits), _order(host.default_mo), here)
    return table


def _boards(boards: Iterable[Board]) -> Table:
    table = _table("Boards", "name", "guest", "CPUs", "")
    for board in boards:
        table.add_row(board.name, board.target, f"1-{board.max_cpus}", board.description)
    return table


def _print_names(console: Console, title: str, descriptors: Iterable[Device] | Iterable[HelperPackage]) -> None:
    listed = [f"{one.name} ({one.description})" for one in descriptors]
    if listed:
        console.print(f"{title}: {', '.join(listed)}")


def _order(orders: MemoryOrder) -> str:
    return ", ".join(names(orders)) or "weak"


def _orders(given: str, options: accel.AccelOptions) -> list[accel.AccelOptions]:
    """The options with each setting of `order`, or with the one that was asked for."""
    if any(setting.startswith("order=") for setting in given.split(",")):
        return [options]
    return [options._replace(order=order) for order in accel.Order]


def _matrix(
    found: Registry, targets: Iterable[Target], hosts: list[Host], choices: list[accel.AccelOptions], icount: bool
) -> Table:
    """A row for each guest, host and setting of `order`; one for all settings that make no difference."""
    table = _table("Threading mode", "guest", "host", "order", "mode", "why")
    for target in targets:
        for host in hosts:
            orders: dict[tuple[str, str], list[str]] = {}
            refused = cache(partial(_refusal, found, target, host, icount))
            for options in choices:
                orders.setdefault(_mode(target, host, options, icount, refused), []).append(options.order.value)
            for (mode, why), settings in orders.items():
                table.add_row(target.name, host.name, ", ".join(settings), mode, why)
    return table


def _refusal(
    found: Registry, target: Target, host: Host, icount: bool, decision: accel.Decision, llsc: accel.Llsc
) -> str:
    """Why no machine of the guest can be made on the host, in the words of a machine; empty if one can be."""
    from raddle.threads.host_code import refusal  # late, because it loads the native runtime

    return refusal(found.front_end(target), found.load(host), decision, icount=icount, llsc=llsc)


def _mode(
    target: Target,
    host: Host,
    options: accel.AccelOptions,
    icount: bool,
    refused: Callable[[accel.Decision, accel.Llsc], str],
) -> tuple[str, str]:
    """The mode and why it is that one; "-" and the reason if there can be no machine."""
    try:
        decision = accel.decide(target, host, options.thread, icount, options.order)
    except UsageError as error:
        return "-", str(error)
    if refusal := refused(decision, options.llsc):
        return "-", refusal
    warnings = [f"warning: {warning}" for warning in decision.warnings]
    return decision.mode.value, "; ".join((*decision.reasons, *warnings))
