# SPDX-License-Identifier: Apache-2.0
"""A board's flash banks, with their files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar, Final

from raddle.devices.cfi_flash import CfiFlash
from raddle.errors import UsageError
from raddle.machine.files import read_file
from raddle.machine.firmware import check_firmware
from raddle.machine.flash_file import FlashFile, FlashImage
from raddle.memory import AddressSpace
from raddle.plugins import Magic
from raddle.stateful import Stateful

__all__ = ["FlashBanks"]

ERASED_BLOCK: Final = b"\xff" * CfiFlash.BLOCK


class FlashBanks(Stateful):
    """All methods except `__init__` are called under the big lock, or when nothing runs."""

    STATE: ClassVar = ("banks",)

    def __init__(
        self,
        memory: AddressSpace,
        starts: Sequence[int],
        files: Sequence[FlashFile | None],
        bios: Path | None,
        foreign: Iterable[Magic] = (),
    ) -> None:
        """Adds a bank at each of `starts`. `files` has the files of the first banks; `bios` is firmware for the first
        bank, which then has no file. The CPU starts in the first bank if that has either. Banks without a file begin
        with an erased block, followed by zeros, and lose their contents when the machine ends. `foreign` are files that
        the target refuses as firmware. Raises UsageError for a file that cannot be used.
        """
        given = [*files, *[None] * (len(starts) - len(files))]
        if bios is not None and given[0] is not None:
            raise UsageError(
                f"there are two images for the first flash bank: firmware {bios} (-bios) and {given[0].path} (-pflash, "
                "or -drive if=pflash,unit=0); the second bank is unit=1"
            )
        self._images: list[FlashImage] = []
        with ExitStack() as opened:
            opened.callback(self.close)
            banks = []
            for number, (start, file) in enumerate(zip(starts, given, strict=True)):
                image = None if file is None else FlashImage(file, CfiFlash.SIZE)
                if image is not None:
                    self._images.append(image)
                name = f"flash {number}"
                if image is None:
                    bank = CfiFlash(memory, name, start)
                    # A CPU that takes an exception without vectors meets words that it cannot execute: it would
                    # silently run through zeros to the end of the flash. Ones in the whole bank would take memory.
                    memory.write(start, ERASED_BLOCK)
                else:
                    bank = CfiFlash(memory, name, start, save=image.save, writable=not image.file.readonly)
                    assert bank.region.memory is not None
                    image.load(bank.region.memory.bytes)
                banks.append(bank)
            self.banks: Final = tuple(banks)
            if bios is not None:
                firmware, name = read_file(bios, "firmware", CfiFlash.SIZE), f"firmware {bios}"
                check_firmware(firmware, name, foreign)
                # As if it had been programmed: its blocks are erased first. So a CPU that runs off the end of a
                # truncated image meets no zeros, through which it would silently run.
                memory.write(starts[0], firmware + ERASED_BLOCK[: -len(firmware) % CfiFlash.BLOCK])
            elif self._images and given[0] is not None:
                assert banks[0].region.memory is not None
                check_firmware(banks[0].region.memory.bytes, self._images[0].name, foreign)
            opened.pop_all()

    def reset(self) -> None:
        for bank in self.banks:
            bank.reset()

    def sync(self) -> None:
        """Make the host write the guest's changes to disk. Raises OutputError."""
        for image in self._images:
            image.sync()

    def disconnect(self) -> None:
        """The machine is closed."""
        for bank in self.banks:
            bank.disconnect()

    def close(self) -> None:
        while self._images:
            self._images.pop().close()
