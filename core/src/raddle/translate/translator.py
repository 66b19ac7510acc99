# SPDX-License-Identifier: Apache-2.0
"""From guest instructions to the memo of their translations, from which the runtime joins blocks.

The runtime looks instruction words up and joins what it finds without Python and without the GIL; what it lacks, it
asks for here (struct raddle_want).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import thread_time_ns
from typing import Any, Final

from raddle.codegen.backend import BackEnd
from raddle.codegen.joiner import Joiner, block_of
from raddle.codegen.template import Block, Template
from raddle.errors import MachineError
from raddle.ir.builder import Builder
from raddle.ir.types import Hole
from raddle.runtime._native import ffi, lib
from raddle.translate.decode import Pattern
from raddle.translate.frontend import FrontEnd, InstructionSet
from raddle.translate.sharing import Models, Sharing

_EPILOGUE: Final = 1 << 63
"""In the key of an epilogue; as in internal.h."""


_Name = tuple[object, int, int]
"""Of a template: pattern (its sharing if a literal is open; size for undefined words), kept bits of a word, context."""


class BlockTrace:
    """What a listener of translations is told: see ``Translator.listeners``.

    ``words`` are (instruction word, bytes), one for each row of ``block.table``; those of no instruction have size 0.
    """

    __slots__ = ("block", "mode", "pc", "words")

    def __init__(self, pc: int, mode: int, words: list[tuple[int, int]], block: Block) -> None:
        self.pc = pc
        self.mode = mode
        self.words = words
        self.block = block


class _Scope:
    """Translations that hold in one block mode, or in several that are equal to most instructions."""

    __slots__ = ("known", "table", "templates")

    def __init__(self, table: Any) -> None:
        self.table = table
        """The runtime's: raddle_table *."""
        self.known: dict[int, Template] = {}
        """What is in it, by word | context << 32."""
        self.templates: dict[_Name, Template] = {}


class _Mode:
    """What is known of one block mode."""

    __slots__ = ("context", "mode", "own", "prologue", "scopes", "set", "shared")

    def __init__(
        self,
        mode: int,
        instruction_set: InstructionSet,
        context: int,
        own: _Scope,
        shared: Sequence[_Scope],
        prologue: Template | None,
    ) -> None:
        self.mode = mode
        self.set = instruction_set
        self.context = context
        """Of a block's first instruction."""
        self.own = own
        self.shared = shared
        """Of all modes that have the same bits in `FrontEnd.mode_masks`, by class."""
        self.scopes = (*shared, own)
        self.prologue = prologue


class Translator:
    """Translates for all vCPUs of a machine. Thread-safe: reading the memo needs no lock, compiling takes one."""

    def __init__(self, frontend: FrontEnd, backend: BackEnd, context: Any) -> None:
        """`context` is the runtime's, or None when nothing is to run: then `block` alone may be called."""
        self.frontend = frontend
        self.backend = backend
        self.joiner = Joiner(backend)
        if context is not None:
            lib.raddle_memo_use(context, self.joiner.memo)
        self._modes: dict[int, _Mode] = {}
        self._shared_scopes: dict[tuple[int, int], _Scope] = {}
        self._model_templates: dict[tuple[Sharing, int, tuple[int, ...], int, int, bool], Template] = {}
        """Of models, by the bits of the word besides the registers, the model's registers, context, mode, and whether
        its literal is open."""
        self._models = Models(frontend.registers, [backend.place(field) for field in frontend.registers])
        self._lock = threading.Lock()
        """Guards compiling, and what is kept of modes and templates; two threads may enter a word at once, alike."""
        self._listeners: Sequence[Callable[[BlockTrace], object]] = ()
        self.misses = 0
        """Blocks whose translation needed Python. This and the times below may lose a little between threads."""
        self.compiled = 0
        """Instructions that were compiled; the other templates have been made of these."""
        self.template_ns = 0
        self.total_ns = 0

    @property
    def listeners(self) -> Sequence[Callable[[BlockTrace], object]]:
        """Called with each block that was translated, on the translating thread."""
        return self._listeners

    @listeners.setter
    def listeners(self, listeners: Sequence[Callable[[BlockTrace], object]]) -> None:
        self._listeners = tuple(listeners)
        lib.raddle_memo_listen(self.joiner.memo, bool(listeners))

    def statistics(self) -> dict[str, int]:
        """Counters: distinct words, templates, how many of them were compiled, blocks that needed Python, and CPU time.

        The time is in nanoseconds: in Python, and of compiling in it.
        """
        scopes = [*self._shared_scopes.values(), *(mode.own for mode in list(self._modes.values()))]
        return {
            "words": sum(len(scope.known) for scope in scopes),
            "templates": sum(len(scope.templates) for scope in scopes),
            "compiled": self.compiled,
            "translate_misses": self.misses,
            "translate_ns": self.total_ns,
            "template_ns": self.template_ns,
        }

    def miss(self, env: Any) -> int:
        """Make the block that `env` is to run next; returns the runtime's answer (RADDLE_FULL: flush, then again).

        When its first instruction cannot be fetched, enters the guest's exception instead.
        """
        started = thread_time_ns()
        want = lib.raddle_wanted(env)
        answer = want.answer
        if answer != lib.RADDLE_WANTED:
            answer = lib.raddle_translate(env)
        while answer == lib.RADDLE_WANTED:
            self._supply(want)
            answer = lib.raddle_translate(env)
        if answer == lib.RADDLE_ERROR:
            raise MachineError("there is no memory for more translations")
        if self._listeners and answer == lib.RADDLE_INSTALL_OK:
            self._tell(want)
        self.misses += 1
        self.total_ns += thread_time_ns() - started
        return int(answer)

    def block(self, mode: int, data: bytes, pc: int) -> Block:
        """The block of the instructions in `data`, to its end, as if they were at `pc`; for tests and tools."""
        known = self._mode(mode)
        entries = [] if known.prologue is None else [self._extra_entry(known.prologue)]
        template = known.prologue
        for word, size, context, template in self._words(known, data, 0, known.context):
            _, values = self._name(known, known.set.decode(word, size), word, size, context)
            entries.append(self.joiner.enter(None, 0, template, values))
        if template is not None and template.next_context and not template.ends:
            epilogue = self._extra(known.mode, template.next_context, self.frontend.epilogue, template.next_context)
            entries += [] if epilogue is None else [self._extra_entry(epilogue)]
        return self.joiner.join(entries, pc)

    # -- what the runtime lacks ----------------------------------------------------------------------------------------

    def _supply(self, want: Any) -> None:
        kind = want.kind
        if kind == lib.RADDLE_WANT_WORD:
            mode = self._modes[want.mode]
            data = bytes(ffi.buffer(want.data, want.data_size))
            for _ in self._words(mode, data, want.position, want.context):
                pass
        elif kind == lib.RADDLE_WANT_VARIANT:
            self.joiner.supply(want.joined.template_number, want.joined.variant_key)
        elif kind == lib.RADDLE_WANT_EPILOGUE:
            mode, context = self._modes[want.mode], want.context
            epilogue = self._extra(mode.mode, context, self.frontend.epilogue, context)
            self.joiner.enter(mode.own.table, _EPILOGUE | context << 32, epilogue, ())
        else:
            self._mode(want.mode)

    def _words(self, mode: _Mode, data: bytes, position: int, context: int) -> Iterator[tuple[int, int, int, Template]]:
        """The instructions in `data` from `position` on, to the block's end: word, size, context, and the template that
        is entered for it.
        """
        known = [scope.known for scope in mode.scopes]
        instructions = mode.set
        unit = instructions.unit
        end = len(data)
        while position + unit <= end:
            word = int.from_bytes(data[position : position + unit], "little")
            size = unit
            if unit == 2 and instructions.is_wide(word):
                size = 4
                if position + size > end:
                    return
                word = word << 16 | int.from_bytes(data[position + 2 : position + 4], "little")
            key = word | context << 32
            for entered in known:
                template = entered.get(key)
                if template is not None:
                    break
            else:
                template = self._enter(mode, word, size, context, key)
            yield word, size, context, template
            position += size
            if template.ends:
                return
            context = template.next_context

    def _mode(self, mode: int) -> _Mode:
        known = self._modes.get(mode)
        if known is not None:
            return known
        frontend, joiner = self.frontend, self.joiner
        context = frontend.initial_context(mode)
        prologue = self._extra(mode, context, frontend.prologue)
        with self._lock:
            known = self._modes.get(mode)
            if known is not None:
                return known
            shared = [self._shared_scope(index, mode & mask) for index, mask in enumerate(frontend.mode_masks)]
            known = _Mode(mode, frontend.instruction_set(mode), context, _Scope(joiner.table()), shared, prologue)
            native = ffi.new("struct raddle_mode *")
            native.mode = mode
            native.unit = known.set.unit
            native.wide_shift, native.wide = known.set.wide
            native.context = context
            native.prologue = ffi.NULL if prologue is None else self._extra_entry(prologue)
            native.table = known.own.table
            for index, scope in enumerate(shared):
                native.shared[index] = scope.table
            if lib.raddle_memo_mode(joiner.memo, native):
                raise MachineError("the guest uses more block modes than there is room for")
            self._modes[mode] = known
        return known

    def _shared_scope(self, mode_class: int, bits: int) -> _Scope:
        """Under the lock."""
        scope = self._shared_scopes.get((mode_class, bits))
        if scope is None:
            scope = self._shared_scopes[mode_class, bits] = _Scope(self.joiner.table())
        return scope

    def _extra(self, mode: int, context: int, emit: Callable[..., None], *arguments: int) -> Template | None:
        """Code of no guest instruction, at a block's start or end: of size 0, None where there is none."""
        b = Builder(self.frontend.word, self.frontend.state.nzcv)
        emit(b, mode, *arguments)
        if not b.code:
            return None
        with self._lock:
            template = self.backend.template(b.code, b.locals, 0, context, context)
            self.joiner.add(template)
        return template

    def _extra_entry(self, template: Template) -> Any:
        return self.joiner.enter(None, 0, template, ())

    def _enter(self, mode: _Mode, word: int, size: int, context: int, key: int) -> Template:
        pattern = mode.set.decode(word, size)
        name, values = self._name(mode, pattern, word, size, context)
        for scope in mode.scopes:
            template = scope.templates.get(name)
            if template is not None:
                break
        else:
            scope, template = self._template(mode, pattern, word, size, context, name)
        self.joiner.enter(scope.table, key, template, values)
        scope.known[key] = template
        return template

    @staticmethod
    def _name(
        mode: _Mode, pattern: Pattern | None, word: int, size: int, context: int
    ) -> tuple[_Name, tuple[int, ...]]:
        """What a scope knows the template of a word by, and the word's literals."""
        if pattern is None:
            return (size, word, context), ()
        values = pattern.hole_values(word)
        sharing = mode.set.sharing(pattern)
        if sharing is not None and sharing.literal_of is not None:
            literal = sharing.literal_of(word)
            if literal >= 0:
                return (sharing, word & sharing.literal_mask, context), (*values, literal)
        return (pattern, word & pattern.key_mask, context), values

    def _template(
        self, mode: _Mode, pattern: Pattern | None, word: int, size: int, context: int, name: _Name
    ) -> tuple[_Scope, Template]:
        with self._lock:
            for scope in mode.scopes:
                if name in scope.templates:
                    return scope, scope.templates[name]
            scope, template = mode.own, None
            sharing = None if pattern is None else mode.set.sharing(pattern)
            operands = sharing.open_literal() if sharing is not None and name[0] is sharing else {}
            if sharing is not None:
                scope, template = self._shared(mode, sharing, word, size, context, operands)
            if template is None:
                template = self._compile(mode, pattern, word, size, context, operands)
            if template.number < 0:
                self.joiner.add(template)
            scope.templates[name] = template
        return scope, template

    def _compile(
        self,
        mode: _Mode,
        pattern: Pattern | None,
        word: int,
        size: int,
        context: int,
        operands: Mapping[str, int | Hole],
    ) -> Template:
        started = thread_time_ns()
        b = Builder(self.frontend.word, self.frontend.state.nzcv)
        next_context = mode.set.translate(b, pattern, word, context, mode.mode, operands)
        template = self.backend.template(b.code, b.locals, size, context, next_context)
        template.variant(0, False)
        self.compiled += 1
        self.template_ns += thread_time_ns() - started
        return template

    def _shared(
        self, mode: _Mode, sharing: Sharing, word: int, size: int, context: int, operands: Mapping[str, int | Hole]
    ) -> tuple[_Scope, Template | None]:
        """The template of `word` made from its model's, and where it holds; None when that cannot be done.

        In a context the code may end with that for the next one, which goes into the block mode.
        """
        numbers = sharing.numbers(word)
        model = self._models.model(numbers, len(numbers) - len(sharing.names))
        mode_class = sharing.mode_class
        common = model.inside and mode_class >= 0 and not context
        key_mode = mode.mode & self.frontend.mode_masks[mode_class] if common else mode.mode
        kept = word & sharing.key_mask & (sharing.literal_mask if operands else -1)
        key = (sharing, kept, model.numbers, context, key_mode, bool(operands))
        template = self._model_templates.get(key)
        if template is None:
            chosen = {**sharing.operands(model.numbers), **operands}
            template = self._compile(mode, sharing.pattern, word, size, context, chosen)
            self._model_templates[key] = template
        scope = mode.shared[mode_class] if common else mode.own
        return scope, template if model.same else template.renamed(model.model_fields, model.fields)

    def _tell(self, want: Any) -> None:
        block = block_of(want.joined)
        data = bytes(ffi.buffer(want.data, want.size))
        halves = self._modes[want.mode].set.unit == 2
        words: list[tuple[int, int]] = []
        position = 0
        for size in block.table[4::8]:
            raw = data[position : position + size]
            if size == 4 and halves:
                raw = raw[2:] + raw[:2]
            words.append((int.from_bytes(raw, "little"), size))
            position += size
        trace = BlockTrace(want.pc, want.mode, words, block)
        for listener in self._listeners:
            listener(trace)
