# SPDX-License-Identifier: Apache-2.0
"""Runs IR programs for the host contract, with the back end of another machine than this one.

The back end compiles them here. ``foreign_runner.c``, a small static program for the other machine, executes the code
under an emulator of that machine's user programs. One process serves many programs, one after the other. It also has
the functions that the code calls: accesses that miss the TLB, and the runtime's floating point.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from struct import Struct, pack
from typing import IO, Final

from raddle.codegen.allocation import Allocation
from raddle.codegen.backend import BackEnd, CodegenConfig, Thunks
from raddle.codegen.joiner import Joiner
from raddle.codegen.template import Template
from raddle.ir.builder import Callee
from raddle.ir.header import COMMON, HEADER, HEADER_SIZE, NO_RESERVATION, OFFSET
from raddle.ir.interpreter import READ, WRITE, Leave, Outcome
from raddle.ir.opcodes import Op
from raddle.ir.types import FloatRules
from raddle.runtime import helpers
from raddle.testing.generate import ARENA_BASE, Program
from raddle.testing.host_harness import GUEST_BYTES, RESERVATION, outcome_of, returned, shared_by
from raddle.testing.ir_programs import LAYOUT, Execution

PAGE_BITS: Final = 12
_FLAGS: Final = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fno-strict-aliasing", "-static")
_REQUEST: Final = Struct("<8I3Q")
_ANSWER: Final = Struct("<4I2Q")
_SIZES: Final = {field.name: field.size for field in HEADER}


def build_runner(compiler: Sequence[str | Path], directory: Path) -> Path:
    """Build the runner in ``directory`` with a compiler for the other machine. Returns its path. Raises
    CalledProcessError.
    """
    native = helpers.NATIVE
    subprocess.run([sys.executable, native.parent / "build.py", "--generate", directory], check=True)
    runner = directory / "foreign_runner"
    sources = [Path(__file__).with_name("foreign_runner.c"), native / "fp.c"]
    includes = [f"-I{directory}", f"-I{native}"]
    subprocess.run([*compiler, *_FLAGS, *includes, *sources, "-lm", "-o", runner], check=True)
    return runner


class RunnerError(Exception):
    """The code crashed or did not end; the message says where."""


class Runner:
    """The process that runs the code, started at its first use. Not thread-safe."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        """``command`` starts the program of `build_runner`: an emulator and its path."""
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._addresses: dict[str, int] = {}

    @property
    def addresses(self) -> dict[str, int]:
        """Addresses and sizes that the code needs, by name: C functions, `code` and `code_size`, `jump_cache`."""
        self._pipes()
        return self._addresses

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        if self._process is None:
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert self._process.stdout is not None
            for line in iter(self._process.stdout.readline, b"end\n"):
                if not line:
                    raise RunnerError(f"{self._command[-1]} ended with status {self._process.wait()} at its start")
                name, value = line.split()
                self._addresses[name.decode()] = int(value)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout

    def close(self) -> None:
        """End the process. A later request starts another one."""
        if self._process is not None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.close()
            self._process.stdout.close()
            self._process.wait()
            self._process = None

    def run(self, request: bytes, answer_size: int) -> bytes:
        """Send one request and return the answer. Raises RunnerError if the process has ended."""
        stdin, stdout = self._pipes()
        try:
            stdin.write(request)
            stdin.flush()
            answer = stdout.read(answer_size)
        except BrokenPipeError:
            answer = b""
        if len(answer) == answer_size:
            return answer
        process, self._process = self._process, None
        assert process is not None
        process.kill()
        raise RunnerError(f"the process that ran the code ended with status {process.wait()}")


class ForeignHarness:
    """A `raddle.testing.host_contract.Backend` whose programs run in a `Runner`. Not thread-safe."""

    def __init__(self, backend: Callable[[CodegenConfig], BackEnd], runner: Runner, tlb: bool) -> None:
        """`backend` is called for each program, and makes the host's back end. With `tlb`, the arena's pages are in the
        software TLB; without, every access misses.
        """
        self.backend = backend
        self.runner = runner
        self.tlb = tlb
        self.called: list[str] = []
        """The names of the C floating-point functions that the program's code calls."""
        self._thunks: dict[CodegenConfig, Thunks] = {}
        """The thunks of the back end for each configuration, by `shared_by`."""

    def run(self, program: Program, allocation: Allocation = Allocation.USUAL) -> Execution:
        image = _Image(program, self.backend, self.runner.addresses, allocation, self._thunks)
        self.called = [callee.name for callee in image.callees if callee.name not in program.routines]
        request = image.request(self.tlb)
        size = HEADER_SIZE + LAYOUT.size + len(program.memory)
        answer = self.runner.run(request, _ANSWER.size + size)
        outcome, write, misaligned, signal, address, result = _ANSWER.unpack_from(answer)
        header = answer[_ANSWER.size :][:HEADER_SIZE]
        state = answer[_ANSWER.size + HEADER_SIZE :][: LAYOUT.size]
        fields = {name: _header_field(header, name) for name in COMMON}
        if outcome == _CRASHED:
            raise RunnerError(
                f"signal {signal} at {result:#x} (code from {self.runner.addresses['code']:#x}), address {address:#x}\n"
                + program.describe(LAYOUT)
            )
        if outcome == _FAULTED:
            end = Outcome(Leave.FAULT, address, WRITE if write else READ, bool(misaligned))
        elif image.template is None:
            end = returned(program, result)
        else:
            end = outcome_of(program, image.template, fields["pc"])
        return Execution(end, state, fields, answer[_ANSWER.size + HEADER_SIZE + LAYOUT.size :])


_FAULTED, _CRASHED = 1, 2


class _Image:
    """One program for the runner: thunks, its block or routine, and the routines that it calls, at fixed addresses."""

    def __init__(
        self,
        program: Program,
        backend: Callable[[CodegenConfig], BackEnd],
        addresses: dict[str, int],
        allocation: Allocation,
        known: dict[CodegenConfig, Thunks],
    ) -> None:
        self.program = program
        self.addresses = addresses
        self.callees: list[Callee] = []
        self.code = bytearray()
        self.header = bytearray(HEADER_SIZE)
        self.template: Template | None = None
        function = program.function
        rules = FloatRules.from_bits(program.header.get("fp_rules", 0))
        config = CodegenConfig(
            LAYOUT, function.word, PAGE_BITS, self._number, allocation=allocation, floats=rules, strict=program.strict
        )
        made = backend(config)
        self._fill_header()
        if shared_by(config) not in known:
            functions = {name: value for name, value in addresses.items() if name.startswith("raddle_")}
            known[shared_by(config)] = made.thunks(functions)
        thunks = known[shared_by(config)]
        self.enter = self._place(thunks.enter)
        for name, code in thunks.by_field.items():
            self._set(name, self._place(code))
        if any(ins.op is Op.RET for ins in function.code):
            self.entry = self._place(made.routine(function.code, function.locals))
            self.table = self._routines(made)
        else:
            self.template = made.template(function.code, function.locals, GUEST_BYTES, 0, 0)
            joiner = Joiner(made)
            entry = joiner.enter(None, 0, self.template, program.holes + (0,) * 16)
            # Only now, after the variants are compiled, their callees are known.
            block = joiner.join([entry], program.pc)
            self.table = self._routines(made)
            self.entry = self._place(block.code)

    def _number(self, callee: Callee) -> int:
        if callee not in self.callees:
            self.callees.append(callee)
        return self.callees.index(callee)

    def _set(self, name: str, value: int) -> None:
        at = HEADER_SIZE + OFFSET[name]
        self.header[at : at + _SIZES[name]] = value.to_bytes(_SIZES[name], "little")

    def _fill_header(self) -> None:
        self._set("exclusive_address", NO_RESERVATION)
        self._set("helpers", self.addresses["helpers"])
        self._set("jump_cache", self.addresses["jump_cache"])
        if self.program.strict:
            self._set("granules", self.addresses["granules"])
            self._set("reservation", RESERVATION)
        for name, value in self.program.header.items():
            self._set(name, value)

    def _place(self, code: bytes) -> int:
        address = self.addresses["code"] + len(self.code)
        self.code += code
        self.code += bytes(-len(self.code) % 16)
        return address

    def _routines(self, backend: BackEnd) -> list[int]:
        """The addresses of all callees, by number. Routines may add callees when they are compiled."""
        table: list[int] = []
        while len(table) < len(self.callees):
            name = self.callees[len(table)].name
            routine = self.program.routines.get(name)
            if routine is None:
                table.append(self.addresses[name])
            else:
                table.append(self._place(backend.routine(routine.code, routine.locals)))
        return table

    def request(self, hits: bool) -> bytes:
        program = self.program
        if len(self.code) > self.addresses["code_size"]:
            raise RunnerError(f"{len(self.code)} bytes of code; the runner has room for {self.addresses['code_size']}")
        whole_pages = len(program.memory) % (1 << PAGE_BITS) == 0
        sizes = PAGE_BITS, len(self.code), LAYOUT.size, len(program.memory), len(self.table), 0
        head = _REQUEST.pack(self.template is None, hits and whole_pages, *sizes, ARENA_BASE, self.enter, self.entry)
        table = pack(f"<{len(self.table)}Q", *self.table)
        return b"".join((head, self.header, program.state, program.memory, self.code, table))


def _header_field(header: bytes, name: str) -> int:
    at = HEADER_SIZE + OFFSET[name]
    return int.from_bytes(header[at : at + _SIZES[name]], "little")


def emulator(name: str, machine: str) -> tuple[str, ...]:
    """The command that runs a static program for ``machine``: empty on such a machine, else the emulator."""
    return () if os.uname().machine == machine else (name,)
