# SPDX-License-Identifier: Apache-2.0
"""Unicorn as a reference for `raddle.testing.differential`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, Final

from raddle.errors import UsageError
from raddle.testing.differential import FAULT, MISALIGNED, UNDEFINED, Case, Outcome

__all__ = ["UnicornReference"]

PAGE: Final = 0x1000

_EVENTS: Final = {
    "UC_ERR_INSN_INVALID": UNDEFINED,
    **dict.fromkeys(("UC_ERR_READ_UNMAPPED", "UC_ERR_WRITE_UNMAPPED", "UC_ERR_READ_PROT", "UC_ERR_WRITE_PROT"), FAULT),
    **dict.fromkeys(("UC_ERR_READ_UNALIGNED", "UC_ERR_WRITE_UNALIGNED"), MISALIGNED),
    **dict.fromkeys(("UC_ERR_FETCH_UNMAPPED", "UC_ERR_FETCH_PROT"), ""),  # a jump to an address outside the case
}


class UnicornReference:
    """Runs cases with Unicorn. Not thread-safe.

    Unicorn maps whole pages: an access beyond the memory of a case, but within its last page, does not fault.
    """

    def __init__(
        self,
        architecture: str,
        mode: str,
        registers: Sequence[str],
        *,
        model: str = "",
        interrupts: Mapping[int, str] | None = None,
    ) -> None:
        """``architecture`` and ``registers`` are parts of names of Unicorn's constants ("riscv"; "x10"). ``mode`` and
        ``model`` are whole names ("UC_MODE_RISCV32"). ``interrupts`` maps Unicorn's interrupt numbers to events. Raises
        UsageError if Unicorn is not installed, and for names that it does not know.
        """
        try:
            self.unicorn: Any = import_module("unicorn")
            self.constants: Any = import_module(f"unicorn.{architecture}_const")
        except ImportError as error:
            raise UsageError(f"Unicorn is not installed ({error}): pip install unicorn") from None
        self.event = ""
        self._interrupts = dict(interrupts or {})
        self._mapped: tuple[tuple[int, int], ...] = ()
        try:
            self._numbers = {name: getattr(self.constants, self._constant(architecture, name)) for name in registers}
            self._pc = getattr(self.constants, self._constant(architecture, "pc"))
            self.uc: Any = self.unicorn.Uc(
                getattr(self.unicorn, f"UC_ARCH_{architecture.upper()}"), getattr(self.unicorn, mode)
            )
            if model:
                self.uc.ctl_set_cpu_model(getattr(self.constants, model))
        except AttributeError as error:
            raise UsageError(f"Unicorn does not know one of these names: {error}") from None
        self._errors = {getattr(self.unicorn, name): event for name, event in _EVENTS.items()}
        self.uc.hook_add(self.unicorn.UC_HOOK_INTR, self._interrupt)
        self._reset = {name: self.uc.reg_read(number) for name, number in self._numbers.items()}

    @staticmethod
    def _constant(architecture: str, register: str) -> str:
        return f"UC_{architecture.upper()}_REG_{register.upper()}"

    def _interrupt(self, uc: Any, number: int, _: object) -> None:
        self.event = self._interrupts.get(number, f"interrupt {number}")
        uc.emu_stop()

    def execute(self, begin: int, until: int, count: int) -> str:
        """Run from ``begin`` to ``until``, at most ``count`` instructions. Returns the event, or an empty string."""
        self.event = ""
        try:
            self.uc.emu_start(begin, until, count=count)
        except self.unicorn.UcError as error:
            self.event = self.event or self._errors.get(error.errno, f"error {error.errno}")
        return self.event

    def entry(self, case: Case) -> int:
        """The address to begin at. Override this where Unicorn takes the instruction set from it, too."""
        return case.pc

    def run(self, case: Case) -> Outcome:
        self._map([(case.pc, len(case.code)), *((address, len(data)) for address, data in case.memory.items())])
        for address, data in case.memory.items():
            self.uc.mem_write(address, bytes(data))
        self.uc.mem_write(case.pc, bytes(case.code))
        self.uc.ctl_remove_cache(case.pc, case.pc + len(case.code))
        for name, value in (self._reset | dict(case.registers)).items():
            self.uc.reg_write(self._numbers[name], value)
        event = self.execute(self.entry(case), case.pc + len(case.code), case.steps)
        registers = {name: self.uc.reg_read(number) for name, number in self._numbers.items()}
        registers["pc"] = self.uc.reg_read(self._pc)
        memory = {address: bytes(self.uc.mem_read(address, len(data))) for address, data in case.memory.items()}
        return Outcome(event, registers, memory)

    def _map(self, parts: Iterable[tuple[int, int]]) -> None:
        """Map the pages of ``parts``, pairs of address and size, and no others."""
        pages = {page for start, size in parts for page in range(start & -PAGE, start + max(size, 1), PAGE)}
        wanted = tuple((page, PAGE) for page in sorted(pages))
        if wanted != self._mapped:
            for start, size in self._mapped:
                self.uc.mem_unmap(start, size)
            for start, size in wanted:
                self.uc.mem_map(start, size)
            self._mapped = wanted
