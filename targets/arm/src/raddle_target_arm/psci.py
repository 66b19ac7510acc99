# SPDX-License-Identifier: Apache-2.0
"""The Power State Coordination Interface, version 1.0 (ARM DEN 0022D), as the firmware that HVC calls.

The calling convention is version 1.0 of ARM DEN 0028, which has no SMCCC_VERSION. A call of a function that is not in
the table returns NOT_SUPPORTED. SMC is no conduit: without Security Extensions it is undefined.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from raddle.machine.board import board_of
from raddle_target_arm.attach import Board

SUCCESS, NOT_SUPPORTED, INVALID_PARAMETERS, ALREADY_ON, INVALID_ADDRESS = 0, -1, -2, -4, -9

VERSION_1_0: Final = 0x0001_0000
AFFINITY_ON, AFFINITY_OFF = 0, 1
POWER_DOWN: Final = 1 << 16
POWER_STATES: Final = 0x1_FFFF
"""Bits of CPU_SUSPEND's argument that may be set: power down (16), and the platform's number of the state (15:0), which
changes nothing here. The power level, above them, must be 0: only the CPU itself can be suspended."""
HIGHEST_LEVEL: Final = 3
MIGRATION_NOT_REQUIRED: Final = 2
"""MIGRATE_INFO_TYPE: there is no trusted operating system to migrate."""


def _affinity(cpu: int) -> int:
    """A CPU's affinity fields (Aff2, Aff1, Aff0), as MPIDR has them."""
    return cpu >> 3 << 8 | cpu & 7


def _cpu_number(board: Board, affinity: int) -> int | None:
    """The CPU with these affinity fields; None when there is none."""
    return next((cpu for cpu in range(len(board.cpus)) if _affinity(cpu) == affinity), None)


def _is_entry(address: int) -> bool:
    """Whether code can start there: T32 if bit 0 is set, else A32, with bits 1:0 clear (5.6.3)."""
    return address & 3 != 2


def _version(board: Board, cpu: Any, *arguments: int) -> int:
    return VERSION_1_0


def _cpu_suspend(board: Board, cpu: Any, power_state: int, entry: int, context_id: int) -> int:
    """Sleep until an interrupt is pending, masked or not (5.4). A CPU that was powered down goes on at `entry`."""
    if power_state & ~POWER_STATES:
        return INVALID_PARAMETERS
    if not power_state & POWER_DOWN:
        board.cpu_standby(cpu.index)
    elif _is_entry(entry):
        board.cpu_power_down(cpu.index, entry, context_id)
    else:
        return INVALID_ADDRESS
    return SUCCESS


def _cpu_off(board: Board, cpu: Any, *arguments: int) -> int:
    board.cpu_off(cpu.index)
    return SUCCESS


def _cpu_on(board: Board, cpu: Any, target: int, entry: int, context_id: int) -> int:
    number = _cpu_number(board, target)
    if number is None:
        return INVALID_PARAMETERS
    if board.is_powered(number):
        return ALREADY_ON
    if not _is_entry(entry):
        return INVALID_ADDRESS
    board.cpu_on(number, entry, context_id)
    return SUCCESS


def _affinity_info(board: Board, cpu: Any, target: int, level: int, unused: int) -> int:
    """Whether any CPU is on among those with the target's affinity fields from `level` up (5.7)."""
    if level > HIGHEST_LEVEL or target >> 8 * HIGHEST_LEVEL:
        return INVALID_PARAMETERS
    shift = 8 * level
    those = [cpu for cpu in range(len(board.cpus)) if _affinity(cpu) >> shift == target >> shift]
    if not those:
        return INVALID_PARAMETERS
    return AFFINITY_ON if any(board.is_powered(cpu) for cpu in those) else AFFINITY_OFF


def _migrate_info_type(board: Board, cpu: Any, *arguments: int) -> int:
    return MIGRATION_NOT_REQUIRED


def _system_off(board: Board, cpu: Any, *arguments: int) -> int:
    board.system_off()
    return SUCCESS


def _system_reset(board: Board, cpu: Any, *arguments: int) -> int:
    board.system_reset()
    return SUCCESS


def _features(board: Board, cpu: Any, function: int, *arguments: int) -> int:
    return SUCCESS if function in FUNCTIONS else NOT_SUPPORTED


Function = Callable[..., int]

FUNCTIONS: Final[dict[int, Function]] = {
    0x8400_0000: _version,
    0x8400_0001: _cpu_suspend,
    0x8400_0002: _cpu_off,
    0x8400_0003: _cpu_on,
    0x8400_0004: _affinity_info,
    0x8400_0006: _migrate_info_type,
    0x8400_0008: _system_off,
    0x8400_0009: _system_reset,
    0x8400_000A: _features,
}
"""Functions by identifier (chapter 5). All take three arguments, r1 to r3; the result goes to r0."""


def call(cpu: Any) -> None:
    """Python helper: do the call in r0 to r3 of ``cpu``; NOT_SUPPORTED without a board. Under the big lock."""
    board = board_of(cpu)
    function = FUNCTIONS.get(cpu["r0"])
    result = NOT_SUPPORTED
    if board is not None and function is not None:
        result = function(board, cpu, cpu["r1"], cpu["r2"], cpu["r3"])
    cpu["r0"] = result & 0xFFFF_FFFF
