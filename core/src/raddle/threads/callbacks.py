# SPDX-License-Identifier: Apache-2.0
"""What the native runtime calls in Python. It takes the big lock where its interface says so, then the GIL."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any

from raddle import workers
from raddle.errors import MachineError
from raddle.runtime._native import ffi, lib
from raddle.translate.frontend import ACCESS_FETCH, ACCESS_READ, ACCESS_WRITE

if TYPE_CHECKING:
    from raddle.threads.engine import Engine
    from raddle.threads.vcpu import VCpu

CPUS: dict[int, VCpu] = {}
"""vCPUs by the address of their env; written while an engine is built and closed, under the GIL."""
ENGINES: dict[int, Engine] = {}
"""Engines by the address of their context."""


ACCESSES = {ACCESS_READ: "a load", ACCESS_WRITE: "a store", ACCESS_FETCH: "an instruction fetch"}


def address(pointer: Any) -> int:
    return int(ffi.cast("uintptr_t", pointer))


@ffi.def_extern()
def raddle_py_call(env: Any, number: int, a0: int, a1: int, a2: int, a3: int) -> int:
    cpu = CPUS[address(env)]
    try:
        function, count = cpu.engine.callees.python[number]
        result = function(cpu, *(a0, a1, a2, a3)[:count])
        return 0 if result is None else result & 0xFFFF_FFFF_FFFF_FFFF
    except BaseException as error:
        cpu.engine.fail(error, cpu)
        return 0


@ffi.def_extern()
def raddle_py_mmio(env: Any, region: int, offset: int, size: int, is_write: int, value: Any) -> int:
    cpu = CPUS[address(env)]
    engine = cpu.engine
    try:
        engine.memory.initiator = cpu.index
        handler = engine.handlers[region]
        if is_write:
            handler.write(offset, size, value[0])
        else:
            value[0] = handler.read(offset, size) & ((1 << (8 * size)) - 1)
    except BaseException as error:
        engine.fail(error, cpu)
    return 0


@ffi.def_extern()
def raddle_py_timer(context: Any, number: int) -> None:
    engine = ENGINES.get(address(context))
    if engine is None:  # it has been closed
        return
    engine.big_lock.timer_thread = get_ident()
    adopted = workers.adopt()
    try:
        engine.timer_callbacks[number]()
    except BaseException as error:
        engine.fail(error, None)
    finally:
        engine.big_lock.timer_thread = 0
        if adopted:
            workers.release()


@ffi.def_extern()
def raddle_py_watch(env: Any, guest_address: int, size: int, is_write: int, value: int) -> None:
    cpu = CPUS[address(env)]
    try:
        for hook in cpu.engine.watch_hooks:
            hook(cpu, guest_address, size, bool(is_write), value)
    except BaseException as error:
        cpu.engine.fail(error, cpu)


@ffi.def_extern()
def raddle_py_trace(env: Any, pc: int) -> None:
    cpu = CPUS[address(env)]
    try:
        for hook in cpu.engine.block_hooks:
            hook(cpu, pc)
    except BaseException as error:
        cpu.engine.fail(error, cpu)


@ffi.def_extern()
def raddle_py_unfilled(env: Any, guest_address: int, access_and_index: int) -> None:
    cpu = CPUS[address(env)]
    access, index = access_and_index & 0xFF, access_and_index >> 8
    cpu.engine.fail(
        MachineError(
            f"tlb_fill of target {cpu.engine.frontend.name} returned 0 for {guest_address:#x} "
            f"({ACCESSES.get(access, access)}, MMU index {index}) and did not call tlb_set for that page with the "
            "right to this access: it must, or return the code of a fault"
        ),
        cpu,
    )


@ffi.def_extern()
def raddle_py_lent(env: Any, begins: int) -> None:
    CPUS[address(env)].lend(bool(begins))


CALLBACKS = ffi.new(
    "struct raddle_callbacks *",
    {
        "call": lib.raddle_py_call,
        "mmio": lib.raddle_py_mmio,
        "timer": lib.raddle_py_timer,
        "watch": lib.raddle_py_watch,
        "trace": lib.raddle_py_trace,
        "unfilled": lib.raddle_py_unfilled,
        "lent": lib.raddle_py_lent,
    },
)
"""Given to every context."""
