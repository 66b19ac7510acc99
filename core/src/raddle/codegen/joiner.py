# SPDX-License-Identifier: Apache-2.0
"""The native memo, which keeps compiled templates, and from which blocks are joined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from raddle.codegen.allocation import CodegenError
from raddle.codegen.backend import BackEnd, JoinRules, Stub
from raddle.codegen.faults import FieldChecks, package, rules_fault, too_far
from raddle.codegen.fields import describe_shape, pack_fixups
from raddle.codegen.template import HOST_FLAGS, MOST_CUT_REGISTERS, Block, Template
from raddle.errors import MachineError
from raddle.ir.types import Field
from raddle.runtime._native import ffi, lib

NO_TEMPLATE: Final = (1 << 32) - 1
_KEPT: Final = 250
"""Bytes, about, of a template's places in the joiner's tables."""


class Joiner:
    """Keeps a back end's templates in native memory. Thread-safe, but two threads must not add the same template."""

    def __init__(self, backend: BackEnd, registers: Sequence[Field | None] = ()) -> None:
        """``registers`` are those that templates may have open, by number; None for a number that never is."""
        self._backend = backend
        fields = [field for field in registers if field is not None]
        self._registers = [fields[0] if field is None else field for field in registers] if fields else []
        """By number; any field for a number that is never open."""
        self._templates: dict[int, Template] = {}
        self._numbers: dict[Template, int] = {}
        self._code_size = 0
        """The sum of the `footprint` of templates and variants."""
        rules = ffi.new("struct raddle_rules *")
        config, shape = backend.config, backend.rules()
        fault = rules_fault(shape, config)
        if fault:
            raise CodegenError(f"its rules are refused: {fault}")
        self._shapes = shape.shapes
        self._checks = FieldChecks(shape.shapes, config)
        rules.word_bits = config.word.bits
        rules.page_bits = config.page_bits
        if backend.renames:
            most = lib.RADDLE_REGISTERS
            if len(registers) > most:
                raise MachineError(
                    f"the guest gives {len(registers)} fields as `registers`; at most {most} are allowed"
                )
            rules.register_count = len(registers)
            rules.places = _alike([None if field is None else backend.place(field) for field in registers])
        kept = [
            _describe(stub, getattr(rules, name))
            for name, stub in (
                ("entry", shape.entry),
                ("leave", shape.leave),
                ("chainable", shape.chainable),
                ("indirect", shape.indirect),
            )
        ]
        _describe_fields(shape, rules)
        memo = lib.raddle_memo_new(rules)
        self.memo = ffi.gc(allocated(memo), lib.raddle_memo_free)
        """struct raddle_memo *"""
        del kept
        self._falls_through = shape.falls_through
        self._begin()

    def _begin(self) -> None:
        """Put what an empty memo needs into it."""
        lib.raddle_memo_falls_through(self.memo, self.enter(None, 0, self._falls_through, ()))

    def empty(self) -> None:
        """Forget all templates, entries and tables, also in the runtime. In an exclusive section, when nothing uses
        them."""
        self._templates = {}
        self._numbers = {}
        self._code_size = 0
        if lib.raddle_memo_clear(self.memo):
            raise MachineError("there is no memory for more translations")
        self._begin()

    @property
    def footprint(self) -> int:
        """Bytes of Python's memory that are kept for what is in the memo, about."""
        return _KEPT * len(self._numbers) + self._code_size

    def table(self) -> Any:
        """A new table of entries: raddle_table *. Lives as long as the joiner."""
        return allocated(lib.raddle_memo_table(self.memo))

    def number(self, template: Template) -> int:
        """The memo's number of the template. A new template is added, with its first variant."""
        number = self._numbers.get(template)
        if number is None:
            number = lib.raddle_memo_template(
                self.memo, template.size, template.decode_state, template.next_decode_state
            )
            if number == NO_TEMPLATE:
                raise MachineError(
                    f"no room for a translation of {template.size} guest bytes with decode state "
                    f"{template.decode_state:#x}: an instruction has at most 255 bytes and 16 bits of decode state, or "
                    "memory has run out"
                )
            self._templates[number] = template
            self._numbers[template] = number
            self._code_size += template.footprint
            self._put(number, 0)
        return number

    def supply(self, joined: Any) -> None:
        """Give the memo what a struct raddle_joined wants: a variant, or encodings of host instructions."""
        if joined.wanted == lib.RADDLE_WANT_VARIANT:
            self._put(joined.template_number, joined.variant_key)
            return
        for key in joined.encodings[0 : joined.encoding_count]:
            self._encode(key)

    def _encode(self, key: int) -> None:
        fields = [self._registers[key >> 8 * n & 0xFF] for n in range(MOST_CUT_REGISTERS)]
        code = self._backend.encode(key >> 32, fields)
        if lib.raddle_memo_encoding(self.memo, key, code, len(code)):
            raise MachineError(
                f"no room for a host instruction of {len(code)} bytes: one has at most 16, or memory has run out"
            )

    def _put(self, number: int, key: int) -> None:
        """Compile the variant `key` (host flags << 1 | dead) of template `number`."""
        variant = self._templates[number].variant(key >> 1, bool(key & 1))
        self._code_size += variant.footprint
        hot, cold, fixups, cuts, jumps = variant.hot, variant.cold, variant.fixups, variant.cuts, variant.jumps
        self._refuse(self._checks.fault(variant, self._templates[number]))
        if lib.raddle_memo_variant(
            self.memo,
            number,
            key,
            hot,
            len(hot),
            cold,
            len(cold),
            fixups,
            len(fixups) >> 4,
            cuts,
            len(cuts) >> 4,
            jumps,
            len(jumps) >> 3,
            variant.traits,
            variant.orders,
        ):
            self._refuse(self._checks.misplaced(variant))
            raise MachineError(
                f"no room for host code of {len(hot)} and {len(cold)} bytes: one instruction has at most 65527 in each "
                "part, or memory has run out"
            )

    def _refuse(self, fault: str) -> None:
        """Not a CodegenError, to which `of_the_host` adds the package's name: the message has it already."""
        if fault:
            raise MachineError(f"{package(type(self._backend))} makes code that is refused: {fault}")

    def enter(self, table: Any, key: int, template: Template | None, values: Sequence[int]) -> Any:
        """The entry of `template` with these literals, under `key` in `table` unless that is None: raddle_entry *.

        None for `template` means that nothing is to be emitted.
        """
        number = NO_TEMPLATE if template is None else self.number(template)
        literals = [value & 0xFFFF_FFFF for value in values]
        return allocated(lib.raddle_memo_enter(self.memo, table or ffi.NULL, key, number, literals, len(literals)))

    def too_far(self, joined: Any) -> MachineError:
        """The error for RADDLE_TOO_FAR of a struct raddle_joined."""
        return MachineError(
            too_far(type(self._backend), self._shapes, joined.far_source, joined.far_shape, joined.far_value)
        )

    def join(self, entries: Sequence[Any], pc: int) -> Block:
        """Join entries to a block that starts at guest address `pc`, without installing it; for tests and tools."""
        out = ffi.gc(ffi.new("struct raddle_joined *"), lib.raddle_joined_clear)
        while (answer := lib.raddle_join(self.memo, entries, len(entries), pc, out)) == lib.RADDLE_WANTED:
            self.supply(out)
        if answer == lib.RADDLE_TOO_FAR:
            raise self.too_far(out)
        if answer:
            raise MachineError("the block has too many instructions, or memory has run out")
        return block_of(out)


def _alike(places: Sequence[int | None]) -> list[int]:
    """The places, with their kinds numbered 0, 1 … in the order in which they first come."""
    kinds = {place: number for number, place in enumerate(dict.fromkeys(p for p in places if p is not None))}
    return [lib.RADDLE_NO_PLACE if place is None else kinds[place] for place in places]


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
    native.fixup_count = len(stub.relocs)
    ffi.memmove(native.fixups, fixups := pack_fixups(0, stub.relocs), len(fixups))
    return code


def _describe_fields(shape: JoinRules, rules: Any) -> None:
    """Copy shapes, chaining and nops to the runtime's rules."""
    for number, one in enumerate(shape.shapes):
        describe_shape(one, rules.shapes[number])
    rules.shape_count = len(shape.shapes)
    rules.chain.shape, rules.chain.span, rules.chain.flush = shape.chaining
    for code in (b"", *shape.nops):
        rules.nop_lengths |= 1 << len(code)
        ffi.memmove(rules.nops[len(code)], code, len(code))


def allocated(pointer: Any) -> Any:
    """`pointer`, which the runtime has allocated; raises MachineError when it is NULL."""
    if pointer == ffi.NULL:
        raise MachineError("there is no memory for more translations")
    return pointer


assert HOST_FLAGS == lib.RADDLE_HOST_FLAGS
