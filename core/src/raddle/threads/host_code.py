# SPDX-License-Identifier: Apache-2.0
"""What a host makes for a machine before it runs. Machines are made with it, and `raddle info --matrix` tries it."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from raddle.accel import Decision, Llsc, Mode
from raddle.codegen.backend import BackEnd, CodegenConfig, Thunks
from raddle.codegen.faults import SET_UP, of_the_host
from raddle.errors import RaddleError, UsageError
from raddle.memory import AddressSpace
from raddle.runtime import helpers
from raddle.runtime._native import ffi, lib
from raddle.threads.callees import Callees
from raddle.translate.frontend import FrontEnd
from raddle.translate.translator import Translator

__all__ = ["HostCode", "address_of", "check_reservations", "common_indices", "make", "refusal"]

CALLED_BY_THUNKS: Final = ("raddle_slow_load", "raddle_slow_store", "raddle_slow_atomic", "raddle_call_helper")
"""The runtime's functions that thunks call."""


class HostCode(NamedTuple):
    """What `make` returns; nothing is in the code buffer yet."""

    callees: Callees
    backend: BackEnd
    translator: Translator
    routines: dict[str, bytes]
    """The code of each routine, by name."""
    thunks: Thunks


def make(
    context: Any,
    frontend: FrontEnd,
    backend: type[BackEnd],
    decision: Decision,
    memory: AddressSpace,
    *,
    icount: bool,
    llsc: Llsc,
    memo_size: int = 0,
) -> HostCode:
    """Make the back end, the translator and the code of routines and thunks. `context` is the runtime's; with None
    it only finds out whether the host can make them. `memo_size`: as of `Translator`. Raises MachineError if it cannot.
    """
    parallel = decision.mode is Mode.MULTI
    callees = Callees(context, frontend, memory)
    config = CodegenConfig(
        state=frontend.state,
        word=frontend.word,
        page_bits=frontend.page_bits,
        callee_number=callees.number,
        parallel=parallel,
        icount=icount,
        fences=int(decision.fences) if parallel else 0,
        call_helper=address_of("raddle_call_helper"),
        first_python=helpers.FIRST_PYTHON,
        floats=frontend.floats,
        strict=llsc is Llsc.STRICT,
        common_indices=common_indices(frontend, backend),
    )
    with of_the_host(backend, SET_UP):
        made = backend(config)
        translator = Translator(frontend, made, context, memo_size)
    routines = callees.compiled_routines(made)
    with of_the_host(backend, "make its thunks"):
        thunks = made.thunks({name: address_of(name) for name in CALLED_BY_THUNKS})
    return HostCode(callees, made, translator, routines, thunks)


def common_indices(frontend: FrontEnd, backend: type[BackEnd]) -> int:
    """`CodegenConfig.common_indices` for a guest on a host."""
    return sum(1 << index for index in set(frontend.linear_indices)) if backend.common_addends else 0


def check_reservations(backend: type[BackEnd], llsc: Llsc, ncpus: int) -> None:
    """Raise UsageError unless reservations can be as `llsc` says."""
    if llsc is not Llsc.STRICT:
        return
    if not backend.strict:
        raise UsageError("llsc=strict is not possible: this host has no exact reservations")
    if ncpus > lib.RADDLE_MOST_RESERVING:
        raise UsageError(f"llsc=strict has room for {lib.RADDLE_MOST_RESERVING} vCPUs, not {ncpus}")


def refusal(frontend: FrontEnd, backend: type[BackEnd], decision: Decision, *, icount: bool, llsc: Llsc) -> str:
    """Why no machine of this guest can be made on this host, in the words of a machine; empty if one can be. A board's
    devices may have routines of their own, which this leaves out.
    """
    try:
        check_reservations(backend, llsc, ncpus=1)
        make(None, frontend, backend, decision, AddressSpace(1 << frontend.page_bits), icount=icount, llsc=llsc)
    except RaddleError as error:
        return str(error)
    return ""


def address_of(name: str) -> int:
    """The address of one of the runtime's C functions."""
    return int(ffi.cast("uintptr_t", ffi.addressof(lib, name)))
