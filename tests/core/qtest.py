# SPDX-License-Identifier: Apache-2.0
"""The board of the same name in QEMU, whose CPU stands still: its test protocol drives its memory and devices."""

import subprocess


class Qtest:
    """Accesses at guest-physical addresses from `base` on."""

    def __init__(self, base: int, *options: str) -> None:
        words = (
            "qemu-system-arm -M virt -cpu cortex-a15 -S -display none -nic none -serial null -monitor none -qtest stdio"
        )
        self._base = base
        self._process = subprocess.Popen(
            [*words.split(), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, command: str) -> str:
        """What is answered to a command of the protocol."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(("OK", "FAIL", "ERR")):
                return line
        raise EOFError(command)

    def load(self, offset: int, size: int = 4) -> int:
        return int(self.ask(f"read{'bw l   q'[size - 1]} {self._base + offset:#x}").split()[1], 0)

    def store(self, offset: int, value: int, size: int = 4) -> None:
        self.ask(f"write{'bw l   q'[size - 1]} {self._base + offset:#x} {value:#x}")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
