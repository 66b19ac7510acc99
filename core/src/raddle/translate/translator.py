# SPDX-License-Identifier: Apache-2.0
"""Translates guest instructions and puts their templates into the memo, from which the runtime joins blocks.

The runtime looks up instruction words and joins their entries without Python and without the GIL. What the memo lacks,
it requests from this module (struct raddle_want). The memo, and what Python keeps for it, have one budget. When it is
used up, everything is dropped, and made again as the guest needs it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from time import thread_time_ns
from typing import Any, Final

from raddle.codegen.backend import BackEnd
from raddle.codegen.joiner import Joiner, allocated, block_of
from raddle.codegen.template import Block, Template
from raddle.errors import MachineError
from raddle.ir.builder import Builder, Instruction
from raddle.ir.types import Field, FieldArray, Hole, LiteralKind
from raddle.runtime._native import ffi, lib
from raddle.runtime.calls import require_calls
from raddle.translate.families import Families
from raddle.translate.frontend import FrontEnd, InstructionSet
from raddle.translate.pattern import Pattern
from raddle.translate.sharing import Sharing
from raddle.translate.tables import Mode, Scope, Tables

_EPILOGUE: Final = 1 << 63
"""Marks the key of an epilogue: RADDLE_EPILOGUE of the runtime."""
_REPORT_EVERY: Final = 16
"""After so many requests, the runtime is told again how much memory Python keeps."""
_NO_LIMIT: Final = (1 << 64) - 1


class BlockTrace:
    """A translated block, as `Translator.listeners` are told of it.

    `words` has (instruction word, size in bytes) for each row of `block.table`. The size is 0 where the row is no
    instruction's, but the prologue's or epilogue's.
    """

    __slots__ = ("block", "mode", "pc", "words")

    def __init__(self, pc: int, mode: int, words: list[tuple[int, int]], block: Block) -> None:
        self.pc = pc
        self.mode = mode
        self.words = words
        self.block = block


class Translator:
    """Translates for all vCPUs of a machine. Any thread may call its methods."""

    def __init__(self, frontend: FrontEnd, backend: BackEnd, context: Any, memo_size: int = 0) -> None:
        """`context` is the runtime's. With None nothing can run, and only `block` and `instruction` may be called.
        `memo_size` is the memo's budget in bytes; 0 means that there is no limit.
        """
        self.frontend = frontend
        self.backend = backend
        self.joiner = Joiner(backend, frontend.registers)
        self._context = context
        if context is not None:
            lib.raddle_memo_use(context, self.joiner.memo)
        if memo_size:
            lib.raddle_memo_limit(self.joiner.memo, memo_size)
        self._places = [None if field is None else backend.place(field) for field in frontend.registers]
        self._tables = Tables(self._places)
        self._lock = threading.Lock()
        """Guards the fields above, the tables of the front end and the back end, and Python's use of objects in the
        memo. The memo is emptied under this lock and in an exclusive section. The lock is taken after the section has
        begun: no exclusive section begins under it."""
        self._listeners: Sequence[Callable[[BlockTrace], object]] = ()
        self.check: Callable[[Builder, str], None] | None = None
        """Called before IR is compiled, with the IR and a text that says what it translates; may raise. Or None."""
        self.misses = 0
        """Blocks whose translation needed Python. Threads add to this and to the time below without a lock, so a few
        additions may be lost."""
        self.compiled = 0
        """Instructions that Python compiled. The runtime derived the other templates from theirs."""
        self._supplied = 0
        """Requests of the runtime that were served. Under the lock."""
        self.total_ns = 0
        """CPU time of serving the runtime's requests, in nanoseconds."""

    @property
    def listeners(self) -> Sequence[Callable[[BlockTrace], object]]:
        """Functions that are called with each translated block, on the thread that translated it."""
        return self._listeners

    @listeners.setter
    def listeners(self, listeners: Sequence[Callable[[BlockTrace], object]]) -> None:
        self._listeners = tuple(listeners)
        lib.raddle_memo_listen(self.joiner.memo, bool(listeners))

    def statistics(self) -> dict[str, int]:
        """Counters of words, templates, compilations, and blocks that needed Python; CPU time in nanoseconds; the
        memo's size and budget in bytes. What is made again after the memo was emptied is counted again.
        """
        memo = ffi.new("struct raddle_memo_stats *")
        lib.raddle_memo_stats(self.joiner.memo, memo)
        return {
            "words": memo.entries,
            "templates": memo.templates,
            "memo_bytes": memo.bytes + memo.outside,
            "memo_python_bytes": memo.outside,
            "memo_size": 0 if memo.limit == _NO_LIMIT else memo.limit,
            "memo_emptied": memo.emptied,
            "compiled": self.compiled,
            "translate_misses": self.misses,
            "translate_ns": self.total_ns,
        }

    def miss(self, env: Any) -> int:
        """Make the block that `env` is to run next. Returns the result of raddle_translate; after RADDLE_FULL, run the
        vCPU again. If the block's first instruction cannot be fetched, this enters the guest's exception instead.

        Called on the vCPU's own thread. Raises MachineError.
        """
        want = lib.raddle_wanted(env)
        answer = want.answer
        if answer != lib.RADDLE_WANTED:
            answer = lib.raddle_translate(env)
        while answer == lib.RADDLE_WANTED:
            started = thread_time_ns()
            self._supply(want)
            self.total_ns += thread_time_ns() - started
            answer = lib.raddle_translate(env)
        if answer == lib.RADDLE_TOO_FAR:
            raise self.joiner.too_far(want.joined)
        if answer == lib.RADDLE_ERROR:
            raise MachineError("there is no memory for more translations")
        if self._listeners and answer == lib.RADDLE_INSTALL_OK:
            self._tell(want)
        self.misses += 1
        return int(answer)

    def block(self, mode: int, data: bytes, pc: int) -> Block:
        """The block of the instructions in `data`, as if they were at `pc`; for tests and tools. It ends with `data`,
        or with the first instruction that ends a block.
        """
        with self._lock:
            known = self._mode(mode)
            entries = self._extra_entries(mode, known.decode_state, self.frontend.prologue)
            decode_state, ends = known.decode_state, False
            for word, size in _words(known.set, data):
                entry = self._word(known, word, size, decode_state)
                entries.append(entry)
                decode_state = lib.raddle_entry_next_decode_state(entry)
                ends = bool(lib.raddle_entry_ends(entry))
                if ends:
                    break
            if decode_state and not ends:
                entries += self._extra_entries(mode, decode_state, self.frontend.epilogue, decode_state)
            return self.joiner.join(entries, pc)

    def instruction(self, mode: int, word: int, size: int, decode_state: int, pc: int) -> Block:
        """The block of one instruction, as if it were at `pc`; for tests and tools."""
        with self._lock:
            return self.joiner.join([self._word(self._mode(mode), word, size, decode_state)], pc)

    # -- requests of the runtime ---------------------------------------------------------------------------------------

    def _supply(self, want: Any) -> None:
        if want.kind == lib.RADDLE_WANT_ROOM:
            self._make_room(want.generation)
            return
        with self._lock:
            # If the memo was emptied after the request, the request's numbers mean nothing any more.
            if want.generation == lib.raddle_memo_generation(self.joiner.memo):
                self._supply_kind(want.kind, want)
                self._supplied += 1
                if self._supplied % _REPORT_EVERY == 0:
                    footprint = self._tables.footprint + self.joiner.footprint + self.backend.footprint
                    lib.raddle_memo_outside(self.joiner.memo, footprint)

    def _make_room(self, generation: int) -> None:
        """Drop everything, unless another thread has done so since `generation` was read.

        In the exclusive section no vCPU's thread is in the runtime, and under the lock no thread is in this module. So
        nobody uses the memo.
        """
        lib.raddle_exclusive_begin(self._context)
        try:
            with self._lock:
                if generation == lib.raddle_memo_generation(self.joiner.memo):
                    self._tables = Tables(self._places)
                    self.backend.forget()
                    self.joiner.empty()
        finally:
            lib.raddle_exclusive_end(self._context)

    # Under the lock from here on.

    def _supply_kind(self, kind: int, want: Any) -> None:
        if kind == lib.RADDLE_WANT_WORD:
            self._supply_word(self._mode(want.mode), want.word, want.word_size, want.decode_state)
        elif kind == lib.RADDLE_WANT_EPILOGUE:
            mode, decode_state = self._mode(want.mode), want.decode_state
            epilogue = self._extra(mode.mode, decode_state, self.frontend.epilogue, decode_state)
            self.joiner.enter(mode.own.table, _EPILOGUE | decode_state << 32, epilogue, ())
        elif kind == lib.RADDLE_WANT_MODE:
            self._mode(want.mode)
        else:
            self.joiner.supply(want.joined)

    def _word(self, mode: Mode, word: int, size: int, decode_state: int) -> Any:
        """The runtime's entry of an instruction word (raddle_entry *), made if need be."""
        memo, key = self.joiner.memo, word | decode_state << 32
        while (entry := lib.raddle_memo_word(memo, mode.mode, key)) == ffi.NULL:
            self._supply_word(mode, word, size, decode_state)
        return entry

    def _mode(self, mode: int) -> Mode:
        """The tables of a block mode, made if need be. Another thread may find the mode in the runtime a moment before
        this returns.
        """
        known = self._tables.modes.get(mode)
        if known is not None:
            return known
        frontend, joiner = self.frontend, self.joiner
        decode_state = frontend.initial_decode_state(mode)
        shared = [self._shared_scope(index, mode & mask) for index, mask in enumerate(frontend.mode_masks)]
        known = Mode(mode, frontend.instruction_set(mode), decode_state, Scope(joiner.table()), shared)
        native = ffi.new("struct raddle_mode *")
        native.mode = mode
        native.unit = known.set.unit
        wide = known.set.wide
        if wide is not None:
            native.wide_shift, native.wide, native.low_first = wide.shift, wide.firsts, wide.halves.value
        native.decode_state = decode_state
        native.prologue = next(iter(self._extra_entries(mode, decode_state, frontend.prologue)), ffi.NULL)
        native.table = known.own.table
        for index, scope in enumerate(shared):
            native.shared[index] = scope.table
        if lib.raddle_memo_mode(joiner.memo, native):
            raise MachineError("there is no memory for more translations")
        self._tables.modes[mode] = known
        return known

    def _shared_scope(self, mode_class: int, bits: int) -> Scope:
        scopes = self._tables.shared_scopes
        scope = scopes.get((mode_class, bits))
        if scope is None:
            scope = scopes[mode_class, bits] = Scope(self.joiner.table())
        return scope

    def _extra(self, mode: int, decode_state: int, emit: Callable[..., None], *arguments: int) -> Template | None:
        """The template, of guest size 0, of the prologue or epilogue that `emit` builds. None if that emits nothing."""
        b = Builder(self.frontend.word, self.frontend.state.nzcv)
        emit(b, mode, *arguments)
        what = f"{emit.__name__} in mode {mode:#x} and decode state {decode_state:#x}"
        require_calls(b, lambda: what, instruction=False)
        if self.check is not None:
            self.check(b, what)
        return self.backend.template(b.code, b.locals, 0, decode_state, decode_state) if b.code else None

    def _extra_entries(self, mode: int, decode_state: int, emit: Callable[..., None], *arguments: int) -> list[Any]:
        """A list of that template's entry; empty if there is no template."""
        template = self._extra(mode, decode_state, emit, *arguments)
        return [] if template is None else [self.joiner.enter(None, 0, template, ())]

    def _supply_word(self, mode: Mode, word: int, size: int, decode_state: int) -> None:
        if lib.raddle_memo_word(self.joiner.memo, mode.mode, word | decode_state << 32) != ffi.NULL:
            return  # another thread was faster
        pattern = mode.set.decode(word, size)
        if pattern is None:
            template = self._template((size, decode_state, mode.mode), mode, None, word, size, decode_state, {}, {})
            self.joiner.enter(mode.own.table, word | decode_state << 32, template, ())
        elif not self._supply_model(mode, pattern, word, size, decode_state):
            kinds = self._families_of(mode.set, pattern).literal_kinds(word)
            key = pattern, word & pattern.key_mask, decode_state, mode.mode, kinds
            template = self._template(key, mode, pattern, word, size, decode_state, _holes(pattern, kinds), {})
            self.joiner.enter(mode.own.table, word | decode_state << 32, template, pattern.hole_values(word))

    def _supply_model(self, mode: Mode, pattern: Pattern, word: int, size: int, decode_state: int) -> bool:
        """Give the runtime the word's family and the model of its registers. The runtime then makes the entry by
        itself.

        Returns False if the runtime cannot take the family or the model, or if it already has both and still lacks the
        word. The word then needs an entry of its own.
        """
        families = self._families_of(mode.set, pattern)
        sharing = families.sharing
        open_literal = sharing.closed(word) is not None
        fixed = families.fixed_bits(word, open_literal)
        operands = sharing.open_literal(word) if open_literal else {}
        kinds = families.literal_kinds(word)
        operands |= _holes(pattern, kinds)
        # In a decode state, the code may end with a store of the next one into the block mode, so it depends on all of
        # the mode.
        mode_class = sharing.mode_class if not decode_state else -1
        kept = word & sharing.key_mask & (sharing.literal_mask if open_literal else -1)
        numbers = sharing.numbers(word)
        if self.backend.renames:
            model = self._tables.models.model(numbers, len(numbers) - len(sharing.names))
            operands |= sharing.operands(model.numbers)
        else:
            model, kept = self._tables.models.none(numbers), word & pattern.key_mask
        common = model.inside and mode_class >= 0
        scope = mode.shared[mode_class] if common else mode.own
        key_mode = mode.mode & self.frontend.mode_masks[mode_class] if common else mode.mode
        template = self._template(
            (sharing, kept, model.numbers, decode_state, key_mode, open_literal, kinds),
            mode,
            pattern,
            word,
            size,
            decode_state,
            operands,
            {number: field for number in model.chosen if (field := self.frontend.registers[number]) is not None},
        )
        family = self._family(scope, families, word, decode_state, fixed, open_literal)
        if family is None:
            return False
        number, used = self.joiner.number(template), self._tables.fixed.get(template, 0)
        return bool(
            lib.raddle_memo_model(self.joiner.memo, family, number, model.numbers, len(model.numbers), used) == 0
        )

    def _families_of(self, instructions: InstructionSet, pattern: Pattern) -> Families:
        known = self._tables.families
        families = known.get(pattern)
        if families is None:
            sharing = instructions.sharing(pattern) or Sharing(pattern)
            count = len(self.frontend.registers) if self.backend.renames else 0
            families = known[pattern] = Families(sharing, count, self.backend.literal_kinds)
        return families

    def _family(
        self, scope: Scope, families: Families, word: int, decode_state: int, fixed: int, open_literal: bool
    ) -> Any | None:
        key = fixed, word & fixed, decode_state
        family = scope.families.get(key)
        if family is None:
            description = families.describe(word, decode_state, fixed, open_literal)
            if description is None:
                return None
            family = allocated(lib.raddle_memo_family(self.joiner.memo, scope.table, description))
            scope.families[key] = family
            self._tables.known_families += 1
        return family

    def _template(
        self,
        key: tuple[object, ...],
        mode: Mode,
        pattern: Pattern | None,
        word: int,
        size: int,
        decode_state: int,
        operands: Mapping[str, int | Hole],
        open_registers: Mapping[int, Field],
    ) -> Template:
        """The template under `key`, compiled if need be. Its variant 0 is compiled with it, because all other variants
        are made after that one.
        """
        tables = self._tables
        template = tables.templates.get(key)
        if template is None:
            b = Builder(self.frontend.word, self.frontend.state.nzcv)
            next_decode_state = mode.set.translate(b, pattern, word, decode_state, mode.mode, operands)
            what = partial(_name, pattern, word, mode.mode, decode_state)
            if not isinstance(next_decode_state, int):
                raise MachineError(
                    f"translate() returned {next_decode_state!r} for {what()} and not the decode state of the next "
                    "instruction, which is 0 for a guest without decode states"
                )
            require_calls(b, what, instruction=True)
            if self.check is not None:
                self.check(b, what())
            template = self.backend.template(b.code, b.locals, size, decode_state, next_decode_state, open_registers)
            template.variant(0, False)
            tables.templates[key] = template
            if open_registers:
                tables.fixed[template] = self._used(b.code, open_registers)
            self.compiled += 1
        return template

    def _used(self, code: Sequence[Instruction], besides: Collection[int]) -> int:
        """The registers that the code reads or writes, without those in `besides`: bit n stands for register n."""
        used: set[Field] = set()
        for ins in code:
            if isinstance(ins.aux, Field):
                used.add(ins.aux)
            elif isinstance(ins.aux, FieldArray):
                used.update(ins.aux)
        registers = enumerate(self.frontend.registers)
        return sum(1 << number for number, field in registers if field in used and number not in besides)

    def _tell(self, want: Any) -> None:
        block = block_of(want.joined)
        data = bytes(ffi.buffer(want.data, want.size))
        instructions = self.frontend.instruction_set(want.mode)
        words: list[tuple[int, int]] = []
        position = 0
        for size in block.table[4::8]:
            words.append((instructions.word_at(data, position) if size else None) or (0, 0))
            position += size
        trace = BlockTrace(want.pc, want.mode, words, block)
        for listener in self._listeners:
            listener(trace)


def _name(pattern: Pattern | None, word: int, mode: int, decode_state: int) -> str:
    name = "an undefined instruction" if pattern is None else f"{pattern.name} ({pattern.where})"
    return f"{name}, word {word:#x} in mode {mode:#x} and decode state {decode_state:#x},"


def _holes(pattern: Pattern, kinds: Iterable[tuple[str, LiteralKind]]) -> dict[str, int | Hole]:
    """The literals of which more is known than what holds for all words of the pattern."""
    return {name: pattern.hole(name, kind) for name, kind in kinds}


def _words(instructions: InstructionSet, data: bytes) -> Iterator[tuple[int, int]]:
    """The instruction words in `data` and their sizes in bytes. An incomplete one at the end is left out."""
    position = 0
    while (found := instructions.word_at(data, position)) is not None:
        yield found
        position += found[1]
