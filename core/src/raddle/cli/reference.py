# SPDX-License-Identifier: Apache-2.0
"""Pages of `raddle docs` that are generated from the tables that the program itself uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from raddle.ir.header import COMMON, HEADER
from raddle.ir.opcodes import TABLE, Effect, Op, OpInfo
from raddle.runtime.helpers import HELPERS

__all__ = ["PAGES"]


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [columns, tuple("---" for _ in columns), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def helpers() -> str:
    """The page on native helpers."""
    rows = [
        (f"`{helper.name}`", helper.parameters, "yes" if helper.may_exit else "", helper.meaning)
        for helper in HELPERS
        if helper.arity is not None
    ]
    return f"""# Native helpers

IR calls them by `b.call(native("NAME"), arguments ..., type=Type.I64)`; leave `type` out where nothing is returned.
Arguments and the result are 64 bits wide: narrower values are zero-extended, the result is cut to `type`. Calls are
checked when IR is compiled.

A helper that may exit is called with `native("NAME", may_exit=True)`. It may leave the block: the guest then goes on at
the common fields `pc` and `mode`. So set `pc` to the next instruction before the call, and end with `b.exit_main()`
after it, for when it returns. In `wfi`, `wfe` and `yield_` that is all there is to do.

After `icache_sync`, end the block (`exit_main`, or `goto` the next instruction): what follows in the same block was
translated before.

Physical addresses may have any alignment, except for `phys_cmpxchg`. Only naturally aligned accesses are atomic. An
access that crosses the end of a region loads 0, or stores nothing.

Some arguments have several parts: in `prot | size_log2 << 8`, bits 7:0 are `prot`, and `size_log2` begins at bit 8.

{_table(("helper", "arguments", "may exit", "does"), rows)}
Host back ends call others for floating point (`fp_...`); IR has operations for that (`raddle docs ir`).
"""


KINDS: Final = """| operand | is |
| --- | --- |
| v | a value of the operation's type |
| i | an i32 value |
| l | an i64 value |
| b | an i1 value |
| a | a guest address: of the guest's word type |
| x | a value whose type the meaning says |
| * | any number of integers |
"""


def _operation(info: OpInfo) -> tuple[str, ...]:
    types = " ".join(kind.name.lower() for kind in sorted(info.types))
    effects = (Effect.FAULT, "may fault"), (Effect.END, "ends a basic block"), (Effect.EXIT, "leaves the block")
    said = [text for effect, text in effects if effect in info.effects and info.op is not Op.CALL]
    beside = "" if info.aux == "None" else info.aux
    meaning = "; ".join((info.meaning, *said))
    return f"`{info.name}`", " ".join(info.operands), types, info.result.value, beside, meaning


def ir() -> str:
    """The page on the operations of IR."""
    return f"""# IR operations

`Builder` (`raddle.ir.builder`) has a method for each operation (`and_`, `or_`, `not_` where the name is a keyword of
Python). Atomic operations are `b.atomic(Op.ATOMIC_..., ...)`. Operands may also be Python integers and literal holes.
The interpreter (`raddle.ir.interpreter`) defines what each operation does.

{KINDS}
"Beside" is what an operation has in addition to operands: the `MemOp` and MMU index of an access, a `Field`, a
condition.

{_table(("operation", "operands", "types", "result", "beside", "meaning"), map(_operation, TABLE.values()))}"""


WRITERS: Final = {
    "own": "its own vCPU's thread",
    "any": "any thread, atomically",
    "lock": "under the big lock",
    "init": "before the vCPU runs",
}


def fields() -> str:
    """The page on the common header of every vCPU."""
    rows = [
        (
            f"`{field.name}`",
            COMMON[field.name].type.name.lower() if field.name in COMMON else "",
            WRITERS[field.writer],
            field.meaning,
        )
        for field in HEADER
    ]
    return f"""# Common fields

Every vCPU has these fields in addition to the guest's own state. IR reads and writes those that have a type by
`b.get(COMMON["NAME"])` and `b.set` (`raddle.ir.header`), Python by `cpu["NAME"]`. No field of the guest's own may have
one of these names.

For a guest register that counts instructions, use the native helper `instructions`. With `-icount` its result is exact,
also within a block. Without `-icount` instructions are not counted, and the result is 0: then take the register from
the clock, like registers that count cycles (`clock_ns`, `clock_ticks`). The field `count_instructions` lags behind
within a turn.

{_table(("field", "IR type", "written by", "meaning"), rows)}"""


PAGES: Final[dict[str, Callable[[], str]]] = {"fields": fields, "helpers": helpers, "ir": ir}
"""The functions that make the pages, by the pages' names."""
