# SPDX-License-Identifier: Apache-2.0
"""A back end whose templates an `Emitter` makes, in variants, with cuts where registers are open."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from raddle.codegen.backend import BackEnd, CodegenConfig
from raddle.codegen.barriers import pack_orders
from raddle.codegen.emitter import Emitter
from raddle.codegen.fields import pack_fixups
from raddle.codegen.locations import in_state
from raddle.codegen.renaming import Forms
from raddle.codegen.template import HOST_FLAGS_KEPT, HOST_FLAGS_NONE, Variant, pack_jump, pack_traits
from raddle.codegen.variants import CompiledTemplate, flag_bits, flag_effects, without_flags
from raddle.ir.builder import Instruction, Local, Location
from raddle.ir.opcodes import Op
from raddle.ir.types import Field, Type


class CompilingBackEnd(BackEnd):
    """A `BackEnd` that leaves only thunks, routines, stubs and their fields to the host."""

    renames = True

    def __init__(self, config: CodegenConfig, emitter: Emitter[Any, Any], make_forms: Callable[[], Forms]) -> None:
        """``emitter`` makes templates; ``make_forms`` an empty `Forms` for the host instructions that it traces."""
        self.config = config
        self._lock = threading.Lock()
        """Guards `_emitter`: variants are compiled when a join first wants them, by any thread."""
        self._emitter = emitter
        self._make_forms = make_forms
        self._forms = make_forms()
        self._flag_bits = flag_bits(config.state)
        self._where: dict[Field, Location] = {
            field: emitter.pinned.get(field.offset) or in_state(field.offset) for field in config.state.fields.values()
        }
        """The location of each field, as a value's location."""
        self._classes = list(emitter.pools)

    def falls_through(self) -> CompiledTemplate:
        """What ends a block whose last instruction goes on to the next one (`JoinRules.falls_through`)."""
        return self.template([Instruction(Op.GOTO, Type.VOID, (), 0)], [], 0, 0, 0)

    def template(
        self,
        code: list[Instruction],
        locals: list[Local],
        size: int,
        decode_state: int,
        next_decode_state: int,
        open_registers: Mapping[int, Field] | None = None,
    ) -> CompiledTemplate:
        where = self._where
        places = {where[field]: number for number, field in (open_registers or {}).items()}
        return CompiledTemplate(self.compile, code, locals, (size, decode_state, next_decode_state), places)

    def place(self, field: Field) -> int:
        register = self._emitter.pinned.get(field.offset)
        return int(field.type) if register is None else -1 - self._classes.index(register.register_class)

    def encode(self, form: int, fields: Sequence[Field]) -> bytes:
        return self._forms.encode(form, [self._where[field] for field in fields])

    def compile(self, template: CompiledTemplate, kind: int, dead: bool) -> Variant:
        """Compile the variant for what the host's flags hold before, with the guest's flags or without (``dead``)."""
        code = without_flags(template.code, self._flag_bits) if dead else template.code
        defs, uses = flag_effects(code, self._flag_bits)
        with self._lock:
            e = self._emitter
            e.run(code, template.locals, kind)
            hot, cold = e.finish(), bytes(e.cold)
            after = e.kind if e.touched or e.kind != kind else HOST_FLAGS_KEPT
            traits = pack_traits(defs, uses, after, template.ends, e.kinds_matter and kind == HOST_FLAGS_NONE)
            fixups = pack_fixups(0, e.hot_relocs, e.hot_holes) + pack_fixups(1, e.cold_relocs, e.cold_holes)
            orders = pack_orders(e.operations, e.head_barrier, e.orders_kept) if e.behind_barriers else 0
            if not template.open_places:
                return Variant(hot, cold, fixups, traits, orders=orders)
            cuts = self._forms.cuts(e.code, e.trace, template.open_places)
            jumps = [pack_jump(part is e.cold, shape, at, label.position) for part, shape, at, label in e.jumps]
            return Variant(hot, cold, fixups, traits, cuts, b"".join(jumps), orders)

    @property
    def footprint(self) -> int:
        return self._forms.footprint

    def forget(self) -> None:
        self._forms = self._make_forms()
