# SPDX-License-Identifier: Apache-2.0
"""Write the parts of the pages that are numbers: tests by layer, the benchmark's tables, where a boot's time goes, host
instructions by guest.

Each part stands between two comments, `<!-- generated: NAME -->` and `<!-- end -->`, and is replaced as a whole. What
is not given is left as it is.

    python docs/generate.py [--bench bench.json] [--alpha alpha.json] [--breakdown stats.txt]
                            [--instructions instructions.json]
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TESTING = ROOT / "docs" / "testing.md"
PERFORMANCE = ROOT / "docs" / "performance.md"


@dataclass(frozen=True)
class Layer:
    """One line of the table. A test file belongs to the first layer with a pattern that matches its path."""

    name: str
    finds: str
    patterns: tuple[str, ...]


def core(*names: str) -> tuple[str, ...]:
    """Patterns of the core's test files."""
    return tuple(f"tests/core/test_{name}.py" for name in names)


LAYERS = (
    Layer(
        "target contract",
        "every pattern of every table: valid IR, memo key, interpreter against host, faults; declarations, reset",
        ("tests/targets/*/test_contract.py",),
    ),
    Layer(
        "host contract",
        "interpreter against generated code, on shipped and random programs; register allocation",
        ("tests/hosts/*", *core("allocation")),
    ),
    Layer(
        "memory order",
        "litmus tests: models against published outcomes, translations against models, runs as guests",
        ("tests/litmus/*", "tests/ordering/*"),
    ),
    Layer("decode tables", "overlaps, unreachable lines, the table language's errors", ("tests/*/test_decode.py",)),
    Layer("IR", "semantics of operations, what the verifier refuses, text round trip", ("tests/core/test_ir_*.py",)),
    Layer(
        "guest instructions",
        "each instruction and random sequences against Unicorn or QEMU and against the manual; on the host too",
        tuple(
            f"tests/targets/*/test_{name}*.py"
            for name in ("insns", "vfp", "idioms", "integer", "float", "vax", "sharing", "families", "references")
        ),
    ),
    Layer(
        "guest system",
        "exceptions, page tables, system registers, state; against QEMU in lock-step",
        tuple(
            f"tests/targets/*/test_{name}*.py"
            for name in ("exceptions", "mmu", "pal", "sysregs", "state", "lockstep", "regressions", "fuzz")
        ),
    ),
    Layer(
        "native runtime",
        "the C code through its Python face, floating point, sanitizer builds",
        (
            "tests/native/*",
            *core("bounds", "code_memory", "fields", "fp", "header", "helper_calls", "reservations", "routines"),
            *core("loans", "runtime", "timers"),
            "tests/targets/*/test_memo_budget.py",
        ),
    ),
    Layer(
        "plug-ins",
        "discovery, broken packages, the mode decision, a third-party guest from its wheel",
        (
            *core(
                "accel",
                "contract_limits",
                "dependencies",
                "differential",
                "entry_points",
                "frontend",
                "host_code",
                "info",
                "long_instructions",
                "markers",
                "ordering",
                "other_systems",
            ),
            *core("plugin_pages", "plugins", "riscv_subset", "zero_register"),
            "tests/plugins/*",
        ),
    ),
    Layer(
        "devices and boards",
        "memory, devices, consoles, loaders, device trees, flash, interrupt controller",
        (
            *core(
                *("cfi_flash", "chardev", "device_state", "devices", "devicetree", "files", "flash_file", "fw_cfg"),
                *("layout", "loaders"),
            ),
            *core("i8254", "i8259", "mc146818", "memory", "pl011_receive", "ports", "time_of_day", "uart16550"),
            *core("virtio_mmio"),
            *(f"tests/targets/*/test_{name}*.py" for name in ("board_contract", "clipper", "device_state")),
            *(f"tests/targets/*/test_{name}*.py" for name in ("gic", "hwrpb", "ticks")),
            *(f"tests/targets/*/test_{name}*.py" for name in ("kernel_files", "uart", "virt")),
        ),
    ),
    Layer(
        "user's side",
        "command line, Python API, monitor, hooks and logs, the pytest plug-in; bad input, faults of the host",
        (
            *core("api", "cli_*", "debug_*", "drives", "errors", "fetch_demo_kernel", "host_faults", "interruptions"),
            *core("leftovers", "machine_*", "monitor", "new_target", "program", "pytest_plugin", "start"),
            *core("stuck_machine"),
        ),
    ),
    Layer(
        "whole machines",
        "bare-metal guests with their controls in every mode; stock Linux to its shell",
        ("tests/guests/*", "tests/system/*", *core("children")),
    ),
)
"""From the smallest thing to the largest, but for the two contracts that come first."""


# -- tests -------------------------------------------------------------------------------------------------------------


def collected(*options: str) -> Counter[str]:
    """How many tests each file has."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *options, "tests"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"generate: the tests cannot be collected:\n{done.stdout[-2000:]}{done.stderr}")
    return Counter(line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line)


def layer_of(file: str) -> Layer:
    for layer in LAYERS:
        if any(fnmatch(file, pattern) for pattern in layer.patterns):
            return layer
    sys.exit(f"generate: {file} belongs to no layer; name it in LAYERS")


def tests_table() -> str:
    """Layers with their numbers of tests, how many of these compare with a peer, and how to run them."""
    total, with_peer = collected(), collected("-m", "peer or cross")
    counts, peers = Counter[str](), Counter[str]()
    files: dict[str, list[str]] = {}
    for file, count in total.items():
        name = layer_of(file).name
        counts[name] += count
        peers[name] += with_peer[file]
        files.setdefault(name, []).append(file)
    rows = [
        (layer.name, layer.finds, str(counts[layer.name]), str(peers[layer.name] or ""), run(files[layer.name]))
        for layer in LAYERS
        if counts[layer.name]
    ]
    rows.append(("all", "", str(counts.total()), str(peers.total()), "`nox -s tests peers`"))
    return table(("layer", "finds", "tests", "with a peer", "run by"), rows)


def run(files: Iterable[str]) -> str:
    """A command for a shell that runs just these files."""
    folders: dict[str, list[str]] = {}
    for file in sorted(files):
        folder, _, name = file.rpartition("/")
        folders.setdefault(folder, []).append(name)
    words = []
    for folder, names in folders.items():
        everything = sorted(path.name for path in (ROOT / folder).glob("test_*.py"))
        if names == everything:
            words.append(folder)
        elif len(names) == 1:
            words.append(f"{folder}/{names[0]}")
        else:
            stems = ",".join(name.removeprefix("test_").removesuffix(".py") for name in names)
            words.append(f"{folder}/test_{{{stems}}}.py")
    return f"`pytest {' '.join(words)}`"


# -- speed -------------------------------------------------------------------------------------------------------------


def bench_table(rows: Sequence[dict[str, Any]]) -> str:
    """What `nox -s bench` wrote as JSON."""

    def number(value: float | None, unit: str = "") -> str:
        return "" if value is None else f"{value:.2f} {unit}".rstrip()

    def memory(row: dict[str, Any]) -> str:
        both = [row["detail"].get(name) for name in ("memory_mib", "peer_memory_mib")]
        return " / ".join(f"{value:.0f}" for value in both if value is not None)

    return table(
        ("", "Raddle", "peer", "ratio", "wanted", "memory, MiB"),
        [
            (
                row["name"],
                number(row["raddle"], row["unit"]),
                number(row["peer"], row["unit"]),
                number(row["ratio"]),
                "" if row["limit"] is None else f"{'at least' if row['at_least'] else 'at most'} {row['limit']:g}",
                memory(row),
            )
            for row in rows
        ],
    )


def instructions_table(rows: Sequence[dict[str, Any]]) -> str:
    """What `nox -s instructions` wrote as JSON."""
    return table(
        ("", "guest instructions", "x86-64", "AArch64", "ratio"),
        [
            (
                row["name"],
                f"{row['guest'] / 1e6:,.0f} million".replace(",", " "),
                *(f"{row[host] / row['guest']:.2f}" for host in ("x86_64", "aarch64")),
                f"{row['ratio']:.2f}",
            )
            for row in rows
        ],
    )


# -- pages -------------------------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def place(page: Path, name: str, text: str) -> None:
    """Put `text` between the comments of the part `name`."""
    part = re.compile(rf"(<!-- generated: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    old = page.read_text(encoding="utf-8")
    new, found = part.subn(lambda match: f"{match[1]}\n{text}\n{match[2]}", old)
    if found != 1:
        sys.exit(f"generate: {page.relative_to(ROOT)} has {found} parts {name!r}, not one")
    page.write_text(new, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, help="the JSON file of `nox -s bench`")
    parser.add_argument("--alpha", type=Path, help="the JSON file of `nox -s bench -- --only alpha`")
    parser.add_argument("--breakdown", type=Path, help="what `raddle boot -d stats -D FILE` wrote about a boot")
    parser.add_argument("--instructions", type=Path, help="the JSON file of `nox -s instructions`")
    options = parser.parse_args()
    place(TESTING, "tests", tests_table())
    for part, file in (("bench", options.bench), ("bench of Alpha", options.alpha)):
        if file is not None:
            place(PERFORMANCE, part, bench_table(json.loads(file.read_text(encoding="utf-8"))))
    if options.instructions is not None:
        rows = json.loads(options.instructions.read_text(encoding="utf-8"))
        place(PERFORMANCE, "instructions", instructions_table(rows))
    if options.breakdown is not None:
        text = options.breakdown.read_text(encoding="utf-8").strip("\n")
        place(PERFORMANCE, "breakdown", f"```\n{text}\n```\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
