# SPDX-License-Identifier: Apache-2.0
"""What stands for a vCPU where only its interrupt lines are looked at."""


class Lines:
    """Keeps the lines that are up, as a set of bits."""

    def __init__(self):
        self.lines = 0

    def interrupt_set(self, bits):
        self.lines |= bits

    def interrupt_clear(self, bits):
        self.lines &= ~bits
