# SPDX-License-Identifier: Apache-2.0
"""From guest bytes to installed blocks: the memo of instructions and the loop that a block look-up miss runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import thread_time_ns
from typing import Any, Final

from raddle.codegen.backend import BackEnd
from raddle.codegen.template import Block, Entry, Template
from raddle.ir.builder import Builder
from raddle.runtime._native import ffi, lib
from raddle.translate.decode import Pattern
from raddle.translate.frontend import FrontEnd, InstructionSet
from raddle.translate.sharing import Models, Sharing

MAX_INSTRUCTIONS: Final = 64
"""Guest instructions in a block at the most."""

_COUNT_MASK: Final = int(lib.RADDLE_COUNT_MASK)
_NO_PAGE: Final = (1 << 64) - 1


class BlockTrace:
    """What a listener of translations is told: see ``Translator.listeners``.

    ``words`` are (instruction word, bytes), one for each of ``entries``; those of no instruction have size 0.
    """

    __slots__ = ("block", "entries", "mode", "pc", "words")

    def __init__(self, pc: int, mode: int, words: list[tuple[int, int]], entries: list[Entry], block: Block) -> None:
        self.pc = pc
        self.mode = mode
        self.words = words
        self.entries = entries
        self.block = block


class _Memo:
    """What is known of one block mode: its instruction set, and its entries by word and context."""

    __slots__ = ("entries", "epilogues", "mode", "prologue", "set")

    def __init__(self, instruction_set: InstructionSet, mode: int, prologue: Entry | None) -> None:
        self.set = instruction_set
        self.mode = mode
        self.prologue = prologue
        self.epilogues: dict[int, Entry | None] = {}
        """By context."""
        self.entries: dict[int, Entry] = {}
        """By word | context << 32. Two threads may make the same entry; either will do."""


class Translator:
    """Translates for all vCPUs of a machine. Thread-safe: memo reads need no lock, compiling takes one."""

    def __init__(self, frontend: FrontEnd, backend: BackEnd, context: Any) -> None:
        self.frontend = frontend
        self.backend = backend
        self.context = context
        self.page_size = 1 << frontend.page_bits
        self._memos: dict[int, _Memo] = {}
        self._templates: dict[tuple[object, int, int, int], Template] = {}
        """By pattern (size for undefined words), kept bits of the word, context and mode."""
        self._shared_templates: dict[tuple[Sharing, int, tuple[int, ...], int, int], Template] = {}
        """Of models, by the bits of the word besides the registers, the model's registers, context and mode."""
        self._models = Models(frontend.registers, [backend.place(field) for field in frontend.registers])
        self._lock = threading.Lock()
        self.listeners: list[Callable[[BlockTrace], None]] = []
        """Called with each block that was translated, on the translating thread."""
        self.blocks = 0
        self.instructions = 0
        self.compiled = 0
        """Instructions that were compiled; the other templates have been made of these."""
        self.words = 0
        """Distinct instruction words (by mode and context) that were looked up in the templates."""
        self.template_ns = 0
        self.total_ns = 0

    def statistics(self) -> dict[str, int]:
        """Counters: blocks, instructions, distinct words, templates, how many of them were compiled, and CPU time.

        The time is in nanoseconds: of all translation, and of compiling in it.
        """
        return {
            "blocks": self.blocks,
            "instructions": self.instructions,
            "words": self.words,
            "templates": len(self._templates),
            "compiled": self.compiled,
            "translate_ns": self.total_ns,
            "template_ns": self.template_ns,
        }

    def miss(self, env: Any) -> int:
        """Translate the block that `env` is to run next and install it; returns the runtime's answer (0: done).

        When its first instruction cannot be fetched, enters the guest's exception instead.
        """
        started = thread_time_ns()
        wanted = ffi.new("struct raddle_miss *")
        if lib.raddle_miss(env, wanted):
            return 0
        pc, mode, flags, page, version = wanted.pc, wanted.mode, wanted.flags, wanted.page, wanted.version
        host = wanted.memory
        offset = pc & (self.page_size - 1)
        limit = flags & _COUNT_MASK or MAX_INSTRUCTIONS
        memo = self._memos.get(mode)
        if memo is None:
            memo = self._new_memo(mode)
        unit = memo.set.unit
        data = bytes(ffi.buffer(host + offset, min(self.page_size - offset, limit * 4)))
        entries: list[Entry] = []
        if memo.prologue is not None:
            entries.append(memo.prologue)
            limit += 1
        if unit == 4:
            size = self._gather4(memo, memoryview(data[: len(data) & -4]).cast("I"), limit, entries)
            second, second_version = _NO_PAGE, 0
        else:
            size = self._gather2(memo, memoryview(data[: len(data) & -2]).cast("H"), limit, entries)
            second, second_version = _NO_PAGE, 0
            if size == 0:
                # One instruction that goes on in the next page.
                second = lib.raddle_code_page(env, pc + 2)
                if second == _NO_PAGE:
                    lib.raddle_fetch_fault(env, pc + 2)
                    return 0
                second_version = lib.raddle_code_begin(self.context, second)
                rest = bytes(ffi.buffer(lib.raddle_phys_pointer(self.context, second, 2), 2))
                data = data[:2] + rest
                size = self._gather2(memo, memoryview(data).cast("H"), limit, entries)
        last = entries[-1]
        if last.next_context and not last.ends:
            epilogue = self._epilogue(memo, last.next_context)
            if epilogue is not None:
                entries.append(epilogue)
        block = self.backend.join(entries, pc, not entries[-1].ends)
        desc = ffi.new("struct raddle_block_desc *")
        desc.pc = pc
        desc.mode = mode
        desc.flags = flags
        desc.phys[0] = page
        desc.phys[1] = second
        desc.version[0] = version
        desc.version[1] = second_version
        desc.guest_size = size
        desc.ninsns = len(entries)
        guest = ffi.from_buffer(data)
        code = ffi.from_buffer(block.code)
        table = ffi.from_buffer(block.table)
        desc.guest = guest if second == _NO_PAGE else ffi.NULL
        desc.code = code
        desc.code_size = len(block.code)
        desc.hot_start = block.hot_start
        desc.cold_start = block.cold_start
        desc.table = table
        answer = lib.raddle_block_install(self.context, env, desc)
        self.blocks += 1
        self.instructions += len(entries)
        if self.listeners:
            self._tell(pc, mode, data, entries, block)
        self.total_ns += thread_time_ns() - started
        return int(answer)

    def entries(self, mode: int, data: bytes) -> list[Entry]:
        """The entries of the instructions in `data` as a block in `mode` has them, to its end; for tests and tools."""
        memo = self._memos.get(mode) or self._new_memo(mode)
        entries: list[Entry] = []
        if memo.set.unit == 4:
            self._gather4(memo, memoryview(data).cast("I"), MAX_INSTRUCTIONS, entries)
        else:
            self._gather2(memo, memoryview(data).cast("H"), MAX_INSTRUCTIONS, entries)
        return entries

    def _gather4(self, memo: _Memo, units: memoryview, limit: int, entries: list[Entry]) -> int:
        """Append entries of 4-byte instructions up to the block's end; returns the guest bytes taken."""
        known = memo.entries
        context = self.frontend.initial_context(memo.mode)
        count = 0
        limit -= len(entries)
        for word in units:
            key = word | context << 32
            entry = known.get(key)
            if entry is None:
                entry = self._entry(memo, word, 4, context, key)
            entries.append(entry)
            count += 1
            if entry.ends or count == limit:
                break
            context = entry.next_context
        return count * 4

    def _gather2(self, memo: _Memo, units: memoryview, limit: int, entries: list[Entry]) -> int:
        """The same for instructions of one or two 2-byte units; 0 when the first one goes on beyond `units`."""
        known = memo.entries
        is_wide = memo.set.is_wide
        context = self.frontend.initial_context(memo.mode)
        end = len(units)
        position = 0
        while position < end and len(entries) < limit:
            word = units[position]
            size = 2
            if is_wide(word):
                if position + 1 == end:
                    break
                word = word << 16 | units[position + 1]
                size = 4
            key = word | context << 32
            entry = known.get(key)
            if entry is None:
                entry = self._entry(memo, word, size, context, key)
            entries.append(entry)
            position += size >> 1
            if entry.ends:
                break
            context = entry.next_context
        return position * 2

    def _new_memo(self, mode: int) -> _Memo:
        b = Builder(self.frontend.word, self.frontend.state.nzcv)
        self.frontend.prologue(b, mode)
        prologue = self._extra(b, self.frontend.initial_context(mode))
        memo = _Memo(self.frontend.instruction_set(mode), mode, prologue)
        return self._memos.setdefault(mode, memo)

    def _epilogue(self, memo: _Memo, context: int) -> Entry | None:
        if context not in memo.epilogues:
            b = Builder(self.frontend.word, self.frontend.state.nzcv)
            self.frontend.epilogue(b, memo.mode, context)
            memo.epilogues[context] = self._extra(b, context)
        return memo.epilogues[context]

    def _extra(self, b: Builder, context: int) -> Entry | None:
        """Code of no guest instruction, at a block's start or end: an entry of size 0, None where there is none."""
        if not b.code:
            return None
        with self._lock:
            return self.backend.template(b.code, b.locals, 0, context, context).fill(())

    def _entry(self, memo: _Memo, word: int, size: int, context: int, key: int) -> Entry:
        pattern = memo.set.decode(word, size)
        if pattern is None:
            entry = self._template(memo, None, word, size, context, word).fill(())
        else:
            kept = word & pattern.key_mask
            template = self._templates.get((pattern, kept, context, memo.mode))
            if template is None:
                template = self._template(memo, pattern, word, size, context, kept)
            entry = template.fill(pattern.hole_values(word))
        memo.entries[key] = entry
        self.words += 1
        return entry

    def _template(
        self, memo: _Memo, pattern: Pattern | None, word: int, size: int, context: int, kept: int
    ) -> Template:
        key = (size if pattern is None else pattern, kept, context, memo.mode)
        with self._lock:
            template = self._templates.get(key)
            if template is None:
                sharing = None if pattern is None else memo.set.sharing(pattern)
                if sharing is not None:
                    template = self._shared(memo, sharing, word, size, context)
                if template is None:
                    template = self._compile(memo, pattern, word, size, context, None)
                self._templates[key] = template
        return template

    def _compile(
        self, memo: _Memo, pattern: Pattern | None, word: int, size: int, context: int, registers: dict[str, int] | None
    ) -> Template:
        started = thread_time_ns()
        b = Builder(self.frontend.word, self.frontend.state.nzcv)
        next_context = memo.set.translate(b, pattern, word, context, memo.mode, registers)
        template = self.backend.template(b.code, b.locals, size, context, next_context)
        self.compiled += 1
        self.template_ns += thread_time_ns() - started
        return template

    def _shared(self, memo: _Memo, sharing: Sharing, word: int, size: int, context: int) -> Template | None:
        """The template of `word` made from its model's; None when that cannot be done."""
        numbers = sharing.numbers(word)
        model = self._models.model(numbers, len(numbers) - len(sharing.names))
        mode = memo.mode & sharing.mode_mask if model.inside else memo.mode
        key = (sharing, word & sharing.key_mask, model.numbers, context, mode)
        template = self._shared_templates.get(key)
        if template is None:
            template = self._compile(memo, sharing.pattern, word, size, context, sharing.operands(model.numbers))
            self._shared_templates[key] = template
        return template if model.same else template.renamed(model.model_fields, model.fields)

    def _tell(self, pc: int, mode: int, data: bytes, entries: list[Entry], block: Block) -> None:
        words: list[tuple[int, int]] = []
        position = 0
        for entry in entries:
            raw = data[position : position + entry.size]
            if entry.size == 4 and self._memos[mode].set.unit == 2:
                raw = raw[2:] + raw[:2]
            words.append((int.from_bytes(raw, "little"), entry.size))
            position += entry.size
        trace = BlockTrace(pc, mode, words, entries, block)
        for listener in self.listeners:
            listener(trace)
