# SPDX-License-Identifier: Apache-2.0
"""Compares a guest of Raddle's with its peers on random input.

    python tests/fuzz.py [--guest arm|alpha] OPTION ...

The options are those of the guest's own fuzzer, tests/targets/GUEST/fuzz.py; ``--help`` after ``--guest`` lists them.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

GUESTS = ("arm", "alpha")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--guest", choices=GUESTS, default=GUESTS[0])
    options, others = parser.parse_known_args(arguments)
    return int(importlib.import_module(f"tests.targets.{options.guest}.fuzz").main(others))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
