# SPDX-License-Identifier: Apache-2.0
"""The common CPU header, the state that every vCPU has: one table from which the IR's fields, the C structure and its cffi
declaration are made.

Generated code, the native runtime and Python all see a vCPU through one pointer, ``env``. The guest's own state starts at
``env``; the common header lies just below it, in groups, of which generated code uses the nearest one most. How far
one instruction reaches from ``env`` differs between hosts: each states its `Reaches`. What lies below the header is in
``raddle.runtime.layout``.

Who may write a field stands in its row: ``own`` = only the vCPU's own thread; ``any`` = any thread, atomically;
``lock`` = under the big lock; ``init`` = before the vCPU first runs.
"""

from __future__ import annotations

from typing import NamedTuple

from raddle.ir.types import MMU_INDICES, Field, Type

HEADER_ALIGNMENT = 32
"""The header's size is a multiple of this many bytes: software TLBs lie below it, and so large is an entry of one."""


class HeaderField(NamedTuple):
    """One field of the header. ``ctype`` is its C type; ``ir`` the type under which IR sees it (None: it does not)."""

    name: str
    ctype: str
    writer: str
    meaning: str

    @property
    def size(self) -> int:
        return 4 if self.ctype in ("uint32_t", "int32_t") else 8


def _f(name: str, ctype: str, writer: str, meaning: str) -> HeaderField:
    return HeaderField(name, ctype, writer, meaning)


_U32, _U64, _PTR = "uint32_t", "uint64_t", "void *"

_COLD: tuple[HeaderField, ...] = (
    _f("host_fp_control", _U64, "own", "the host's floating-point control word as the runtime had it"),
    _f("fault_address", _U64, "own", "guest address of the access that faults"),
    _f("count_mmio", _U64, "own", "MMIO accesses"),
    _f("count_slow", _U64, "own", "memory slow paths entered"),
    _f("count_fill", _U64, "own", "TLB fills"),
    _f("count_lookup", _U64, "own", "block look-ups in the execution loop"),
    _f("count_miss", _U64, "own", "look-ups that found no block"),
    _f("count_chain", _U64, "own", "chaining patches made"),
    _f("count_flush", _U64, "own", "TLB flushes done, partial ones included"),
    _f("count_exception", _U64, "own", "exceptions and interrupts delivered"),
    _f("count_python", _U64, "own", "calls into Python made by native code (MMIO, helpers)"),
    _f("count_instructions", _U64, "own", "guest instructions retired, up to the end of the vCPU's last turn (kept only with instruction counting); for IR there is the helper instructions"),
)
"""What generated code does not use."""
_COMMON_ADDENDS = tuple(
    _f(f"tlb{index}_addend", _U64, "own", f"the addend of most entries of MMU index {index}, if it has a common one")
    for index in range(MMU_INDICES)
)
"""What loads use on some hosts, none of which has a narrow reach."""
_PAIRS = tuple(
    row
    for index in range(MMU_INDICES)
    for row in (
        _f(f"tlb{index}_mask", _U64, "init", "(address >> page bits - 5) & mask is the offset of the address's entry"),
        _f(f"tlb{index}_table", _PTR, "init", f"the TLB of MMU index {index}"),
    )
)
"""A load of a pair of registers gets all that a probe wants to know of its TLB."""
_IN_CODE: tuple[HeaderField, ...] = (
    _f("reservation", _U64, "init", "with exact reservations: this vCPU's bit in the words of granules"),
    _f("granules", _U64, "init", "with exact reservations: host address at which the word of the granule at host address 0 would be, if it had one"),
    _f("private_data", _PTR, "init", "the runtime's own per-vCPU data (victim TLB, queues, sleep condition, statistics)"),
    _f("helpers", _PTR, "init", "table of call targets, indexed by helper number: void *[]"),
    _f("saved_sp", _U64, "own", "host stack pointer while generated code runs"),
    _f("jump_cache", _PTR, "init", "struct raddle_jump_entry[JUMP_CACHE_ENTRIES]"),
    _f("trace_hash", _U64, "own", "hash over the addresses of all executed blocks, kept by generated code with instruction counting"),
    _f("exception_place", _U64, "own", "where the last exception was taken; all ones since a return from one, which sets it so"),
    _f("exclusive_address", _U64, "own", "guest address reserved by load_exclusive; all ones for none"),
    _f("exclusive_value", _U64, "own", "value that load_exclusive read; with exact reservations, host address of its granule's word"),
    _f("exclusive_size", _U32, "own", "bytes reserved"),
    _f("interrupt_request", _U32, "any", "pending interrupt lines, one bit each; changed atomically"),
    _f("interrupt_mask", _U32, "own", "interrupt lines that wake a halted vCPU"),
    _f("exit_now", _U32, "own", "set by a callee to leave the block when it returns"),
    _f("cpu_index", _U32, "init", "number of this vCPU"),
    _f("halted", _U32, "own", "1 while the vCPU waits for an interrupt (or is powered off: see powered_off)"),
    _f("powered_off", _U32, "own", "1 while the vCPU is off; interrupts do not wake it"),
    _f("event", _U32, "any", "event register of `wfe` and `sev`"),
    _f("insn_extra", _U32, "own", "the translator's extra word of the faulting instruction (ARM: ITSTATE)"),
    _f("fault_size", _U32, "own", "bytes of the access that faults"),
    _f("fp_rules", _U32, "init", "the guest's choices in IEEE 754: FloatRules.bits"),
    _f("fp_default_nan", _U32, "own", "1: every NaN result is the default NaN"),
)
"""What thunks, routines and some operations use."""
_IN_BLOCKS: tuple[HeaderField, ...] = (
    _f("thunk_atomic", _PTR, "init", "host code: slow path of exclusive and atomic operations"),
    _f("thunk_load", _PTR, "init", "host code: slow path of a load; arg0 address -> result"),
    _f("thunk_store", _PTR, "init", "host code: slow path of a store; arg0 address, arg1 value"),
    _f("thunk_call", _PTR, "init", "host code: call helper number (in the scratch register) with arg0 … arg3 -> result"),
    _f("thunk_chain", _PTR, "init", "host code: leave for the execution loop, which patches the jump it is told about"),
    _f("thunk_exit", _PTR, "init", "host code: leave for the execution loop; pc is stored"),
    _f("thunk_indirect", _PTR, "init", "host code: look the pc up in the jump cache and go there, or leave"),
    _f("arg0", _U64, "own", "arguments of calls out of generated code"),
    _f("arg1", _U64, "own", ""),
    _f("arg2", _U64, "own", ""),
    _f("arg3", _U64, "own", ""),
    _f("result", _U64, "own", "result of a call out of generated code"),
    _f("fp_rounding", _U32, "own", "guest rounding mode: 0 nearest, 1 up, 2 down, 3 zero"),
    _f("fp_flush", _U32, "own", "1: denormal inputs and results are flushed to zero"),
    _f("fp_flags", _U32, "own", "sticky: 1 invalid, 2 divide by zero, 4 overflow, 8 underflow, 16 inexact, 128 input denormal"),
    _f("mode", _U32, "own", "block mode: the part of guest state that translations depend on"),
    _f("pc", _U64, "own", "guest address to go on at; exact only outside blocks"),
    _f("icount_left", "int32_t", "own", "guest instructions that may still run before the loop must look (instruction counting)"),
    _f("exit_request", _U32, "any", "non-zero: leave generated code at the next block entry"),
)
"""What blocks are full of: the most used fields of generated code."""

HEADER: tuple[HeaderField, ...] = (*_COLD, *_COMMON_ADDENDS, *_PAIRS, *_IN_CODE, *_IN_BLOCKS)


def _lay_out() -> tuple[dict[str, int], int]:
    offsets: dict[str, int] = {}
    position = 0
    for field in HEADER:
        if position % field.size:
            raise AssertionError(f"header field {field.name} is misaligned")
        offsets[field.name] = position
        position += field.size
    if position % HEADER_ALIGNMENT:
        raise AssertionError("the header's size is no multiple of a TLB entry's, so that entries lie in two cache lines")
    return {name: offset - position for name, offset in offsets.items()}, position


OFFSET, HEADER_SIZE = _lay_out()
"""Offset of every header field from ``env`` (negative), and the header's size in bytes."""

TLB_PAIRS = OFFSET["tlb0_mask"]
"""Offset from ``env`` of MMU index 0's ``tlb0_mask`` and ``tlb0_table``; those of the others follow, 16 bytes each."""


class Reaches(NamedTuple):
    """The least and the greatest offset from a base register that a host's loads and stores have room for."""

    short: tuple[int, int]
    """In the shortest encoding, if there are several; else as `long`."""
    long: tuple[int, int]
    """In one instruction, for fields of 4 and of 8 bytes."""
    pair: tuple[int, int]
    """Of the first one of two registers of 8 bytes that one instruction loads; as `long` where there is none."""

    def beyond(self) -> list[str]:
        """Names of the header's fields that are out of reach, though generated code uses them so often that they should
        not be.
        """
        wanted = ((_PAIRS[::2], self.pair), (_IN_CODE, self.long), (_IN_BLOCKS, self.long), (_IN_BLOCKS, self.short))
        return [
            field.name
            for fields, (least, greatest) in wanted
            for field in fields
            if not least <= OFFSET[field.name] <= greatest
        ]


_IR_TYPES = {_U32: Type.I32, "int32_t": Type.I32, _U64: Type.I64}


NO_RESERVATION = (1 << 64) - 1
"""``exclusive_address`` while no reservation stands."""

COMMON: dict[str, Field] = {
    f.name: Field(f.name, _IR_TYPES[f.ctype], OFFSET[f.name]) for f in HEADER if f.ctype in _IR_TYPES
}


def c_declaration() -> str:
    """The C text of ``struct raddle_cpu_header``, for the runtime's header and for cffi."""
    body = "".join(f"    {f.ctype}{'' if f.ctype.endswith('*') else ' '}{f.name};\n" for f in HEADER)
    return f"struct raddle_cpu_header {{\n{body}}};\n"
