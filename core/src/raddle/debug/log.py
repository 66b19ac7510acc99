# SPDX-License-Identifier: Apache-2.0
"""`-d`: logs of what a machine does.

An entry is one write to the stream, under a lock: entries of vCPUs that run at the same time never mix.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, TextIO

from raddle import kinds
from raddle.debug import disassembly
from raddle.debug.probes import ExceptionTaken, Filled
from raddle.debug.ranges import contains
from raddle.errors import unknown
from raddle.ir.builder import Builder
from raddle.ir.printer import print_function

if TYPE_CHECKING:
    from raddle.debug.hooks import Hooks
    from raddle.threads.engine import Engine
    from raddle.threads.vcpu import VCpu
    from raddle.translate.translator import BlockTrace

__all__ = ["ITEMS", "Log"]

MOST_SEEN: Final = 1 << 16
"""The most instructions that are remembered as shown; then all are forgotten, since a guest may run ever new ones."""

ROW_SIZE: Final = 8
"""Bytes of a row of a block's table, which begins with the lengths of the hot and the cold part, 16 bits each."""

UNDEFINED: Final = "undefined"
"""The name that targets give to the exception of an undefined instruction."""

PLACES: Final = 4096
"""The most undefined instructions that are logged: a guest can execute any number."""


class Log:
    """Logs some items to a stream, until `remove`."""

    def __init__(
        self, engine: Engine, hooks: Hooks, items: Sequence[str], stream: TextIO, within: Sequence[range] = ()
    ) -> None:
        """Begins at once. `items` are names in ITEMS; raises UsageError for others. With `within`, items about blocks
        (all except BESIDES) are logged only for blocks that begin at one of these guest addresses. Any thread.
        """
        kinds.words("items of log()", items)
        kinds.ranges("within= of log()", within)
        if not callable(getattr(stream, "write", None)):
            raise kinds.another_kind("the stream of log()", "a file that is open for text", stream)
        self._engine = engine
        self._stream = stream
        self._within = tuple(within)
        self._lock = threading.Lock()
        self._seen: dict[tuple[int, int, int], int] = {}
        """Instructions whose IR was shown, by word, decode state and mode, and the decode state that follows; MOST_SEEN
        of them."""
        self._places: set[int] = set()
        """Undefined instructions that were logged. Under the lock."""
        for item in items:
            if item not in ITEMS:
                raise unknown("log item", item, ITEMS)
        self._hooks = []
        self._verifies = "verify" in items
        chosen = tuple(TRANSLATIONS[item] for item in items if item in TRANSLATIONS)
        if chosen:
            self._hooks.append(hooks.add_translation(lambda trace: self._translated(chosen, trace)))
        if "int" in items:
            self._hooks.append(hooks.add_exception(self._exception))
        if "mmu" in items:
            self._hooks.append(hooks.add_fill(self._fill))
        if "unimp" in items:
            self._hooks.append(hooks.add_exception(self._unimplemented))
        if "exec" in items:
            self._hooks.append(hooks.add_block(self._executed))
        if "cpu" in items:
            self._hooks.append(hooks.add_block(self._registers))
        if self._verifies:
            from raddle.debug.verification import begin

            begin(engine)
        if "nochain" in items:  # while blocks are watched, none is chained
            self._hooks.append(hooks.add_block(lambda cpu, pc: None))

    def remove(self) -> None:
        """End. Any thread; see raddle.debug.hooks."""
        for hook in self._hooks:
            hook.remove()
        if self._verifies:
            self._engine.translator.check = None

    def _write(self, text: str) -> None:
        with self._lock:
            self._stream.write(text)

    # --- what happens while it runs

    def _executed(self, cpu: VCpu, pc: int) -> None:
        if contains(self._within, pc):
            self._write(f"exec: vCPU {cpu.index}: {pc:#x}\n")

    def _registers(self, cpu: VCpu, pc: int) -> None:
        if contains(self._within, pc):
            self._write(f"cpu: vCPU {cpu.index}: block at {pc:#x}\n{self._engine.frontend.describe(cpu).rstrip()}\n\n")

    def _unimplemented(self, cpu: VCpu, event: ExceptionTaken) -> None:
        if event.kind != UNDEFINED:
            return
        with self._lock:
            if event.pc in self._places or len(self._places) >= PLACES:
                return
            self._places.add(event.pc)
        self._write(f"unimp: vCPU {cpu.index}: instruction or system register at pc {event.pc:#x} is undefined\n")

    def _exception(self, cpu: VCpu, event: ExceptionTaken) -> None:
        self._write(f"int: vCPU {cpu.index}: {event}\n")

    def _fill(self, cpu: VCpu, event: Filled) -> None:
        self._write(f"mmu: vCPU {cpu.index}: {event}\n")

    # --- translation

    def _translated(self, parts: Sequence[Callable[[Log, BlockTrace], Iterator[str]]], trace: BlockTrace) -> None:
        if not contains(self._within, trace.pc):
            return
        lines = [line for part in parts for line in part(self, trace)]
        if lines:
            self._write("".join(f"{line}\n" for line in (*lines, "")))

    def _in_asm(self, trace: BlockTrace) -> Iterator[str]:
        yield f"in_asm: block at {trace.pc:#x}, mode {trace.mode:#x}"
        for pc, word, size, _ in _instructions(trace):
            yield f"  {pc:#010x}:  {word:0{2 * size}x}{' ' * (8 - 2 * size)}  {self._text(trace, pc, word, size)}"

    def _op(self, trace: BlockTrace) -> Iterator[str]:
        """The IR of instructions that were not shown before, built again: it depends only on word, decode state and
        mode.
        """
        frontend = self._engine.frontend
        instructions = frontend.instruction_set(trace.mode)
        decode_state = frontend.initial_decode_state(trace.mode)
        for pc, word, size, _ in _instructions(trace):
            key = (word | size << 32, decode_state, trace.mode)
            following = self._seen.get(key)
            if following is None:
                pattern = instructions.decode(word, size)
                b = Builder(frontend.word, frontend.state.nzcv)
                if len(self._seen) >= MOST_SEEN:
                    self._seen.clear()
                following = self._seen[key] = instructions.translate(b, pattern, word, decode_state, trace.mode)
                yield f"op: {pc:#x}: {self._text(trace, pc, word, size)}"
                if pattern is not None and pattern.holes:
                    values = pattern.hole_values(word)
                    yield "       ; " + ", ".join(f"%{index} = {value:#x}" for index, value in enumerate(values))
                yield from print_function(b).splitlines()
            decode_state = following

    def _out_asm(self, trace: BlockTrace) -> Iterator[str]:
        block = trace.block
        yield f"out_asm: block at {trace.pc:#x}, mode {trace.mode:#x}: {len(block.code)} bytes"
        texts = {
            entry: f"{pc:#x}: {self._text(trace, pc, word, size)}" for pc, word, size, entry in _instructions(trace)
        }
        rows = list(struct.iter_unpack("<HHxxxx", block.table))
        parts = [("entry", block.hot_start)]
        parts += [(texts.get(index, "between instructions"), hot) for index, (hot, _) in enumerate(rows)]
        hot_end = sum(size for _, size in parts)
        parts.append(("padding", block.cold_start - hot_end))
        parts += [(f"{texts.get(index, 'between instructions')} (cold)", cold) for index, (_, cold) in enumerate(rows)]
        parts.append(("exits", len(block.code) - sum(size for _, size in parts)))
        position = 0
        for name, size in parts:
            if size <= 0:
                continue
            yield f"  {name}"
            code = block.code[position : position + size]
            for at, data, text in disassembly.lines(self._engine.backend.disassembler, code, position):
                yield f"    {at:04x}:  {data.hex(' '):<32}  {text}"
            position += size

    def _text(self, trace: BlockTrace, pc: int, word: int, size: int) -> str:
        instructions = self._engine.frontend.instruction_set(trace.mode)
        try:
            return instructions.disassemble(word, size, pc)
        except Exception as error:  # a log must not stop the guest for lack of a text
            return f".word {word:#x} (no disassembly: {error})"


def _instructions(trace: BlockTrace) -> Iterator[tuple[int, int, int, int]]:
    """pc, word, size, and index of the row of each guest instruction; rows of size 0 are of none."""
    pc = trace.pc
    for index, (word, size) in enumerate(trace.words):
        if size:
            yield pc, word, size, index
        pc += size


TRANSLATIONS: Final[dict[str, Callable[[Log, BlockTrace], Iterator[str]]]] = {
    "in_asm": Log._in_asm,
    "op": Log._op,
    "out_asm": Log._out_asm,
}

BESIDES: Final = ("int", "mmu", "unimp", "verify")
"""Items about events instead of blocks, and the item that only checks."""

ITEMS: Final = (*TRANSLATIONS, "exec", "cpu", "nochain", *BESIDES)
"""Items of `-d` that a log can have."""
