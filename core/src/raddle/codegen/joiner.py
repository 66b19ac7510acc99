# SPDX-License-Identifier: Apache-2.0
"""The native memo: where templates go when they have been compiled, and from which blocks are joined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from raddle.codegen.backend import BackEnd, Stub
from raddle.codegen.template import HOST_FLAGS, Block, Template
from raddle.errors import MachineError
from raddle.runtime._native import ffi, lib

NO_TEMPLATE: Final = (1 << 32) - 1


class Joiner:
    """Keeps a back end's templates in native memory. Thread-safe, except that one template is added by one thread."""

    def __init__(self, backend: BackEnd) -> None:
        self._templates: list[Template] = []
        rules = ffi.new("struct raddle_rules *")
        config, shape = backend.config, backend.rules()
        rules.word_bits = config.word.bits
        rules.page_bits = config.page_bits
        kept = [
            _describe(stub, getattr(rules, name))
            for name, stub in (
                ("entry", shape.entry),
                ("leave", shape.leave),
                ("chainable", shape.chainable),
                ("indirect", shape.indirect),
            )
        ]
        for length, code in enumerate(shape.nops):
            ffi.memmove(rules.nops[length], code, length)
        self.memo = ffi.gc(_made(lib.raddle_memo_new(rules)), lib.raddle_memo_free)
        """struct raddle_memo *"""
        del kept
        falls_through = self.enter(None, 0, shape.falls_through, ())
        lib.raddle_memo_falls_through(self.memo, falls_through)

    def table(self) -> Any:
        """A new table of entries: raddle_table *. Lives as long as the joiner."""
        return _made(lib.raddle_memo_table(self.memo))

    def add(self, template: Template) -> None:
        """Take a template over, with its first variant."""
        number = lib.raddle_memo_template(self.memo, template.size, template.context, template.next_context)
        if number == NO_TEMPLATE:
            raise MachineError(
                f"no room for a translation of {template.size} guest bytes in context {template.context:#x}: there can "
                "be 255 bytes and 16 bits of context; if that is kept, memory is out"
            )
        while len(self._templates) <= number:
            self._templates.append(template)
        self._templates[number] = template
        template.ends = bool(self._put(template, number, 0) >> 16 & 1)
        template.number = number

    def supply(self, number: int, key: int) -> None:
        """Compile the variant `key` (host flags << 1 | dead) of template `number`."""
        self._put(self._templates[number], number, key)

    def _put(self, template: Template, number: int, key: int) -> int:
        variant = template.variant(key >> 1, bool(key & 1))
        hot, cold, fixups = variant.hot, variant.cold, variant.fixups
        if lib.raddle_memo_variant(
            self.memo, number, key, hot, len(hot), cold, len(cold), fixups, len(fixups) >> 4, variant.traits
        ):
            raise MachineError(
                f"no room for host code of {len(hot)} and {len(cold)} bytes: one instruction has at most 65527 in each "
                "part, and memory may be out"
            )
        return variant.traits

    def enter(self, table: Any, key: int, template: Template | None, values: Sequence[int]) -> Any:
        """The entry of `template` with these literals, under `key` in `table` unless that is None: raddle_entry *.

        None for `template` means that nothing is to be emitted.
        """
        if template is None:
            number = NO_TEMPLATE
        else:
            if template.number < 0:
                self.add(template)
            number = template.number
        return _made(lib.raddle_memo_enter(self.memo, table or ffi.NULL, key, number, values, len(values)))

    def join(self, entries: Sequence[Any], pc: int) -> Block:
        """Join entries to a block that starts at guest address `pc`, without installing it; for tests and tools."""
        out = ffi.gc(ffi.new("struct raddle_joined *"), lib.raddle_joined_clear)
        while (answer := lib.raddle_join(self.memo, entries, len(entries), pc, out)) == lib.RADDLE_WANTED:
            self.supply(out.template_number, out.variant_key)
        if answer:
            raise MachineError("the block has too many instructions, or memory is out")
        return block_of(out)


def block_of(joined: Any) -> Block:
    """The block in a struct raddle_joined, copied."""
    return Block(
        bytes(ffi.buffer(joined.code, joined.code_size)),
        bytes(ffi.buffer(joined.table, 8 * joined.count)),
        joined.hot_start,
        joined.cold_start,
    )


def _describe(stub: Stub, native: Any) -> Any:
    code = ffi.from_buffer("uint8_t[]", stub.code)
    native.code = code
    native.size = len(stub.code)
    native.field_count = len(stub.fields)
    for field, (offset, kind) in zip(native.fields, stub.fields, strict=False):
        field.offset = offset
        field.kind = int(kind)
    return code


def _made(pointer: Any) -> Any:
    if pointer == ffi.NULL:
        raise MachineError("there is no memory for more translations")
    return pointer


assert HOST_FLAGS == lib.RADDLE_HOST_FLAGS
