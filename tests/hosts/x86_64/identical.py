# SPDX-License-Identifier: Apache-2.0
"""Whether two installed trees make the same x86-64 code.

It compares the golden listings, the host contract's programs, the ARM guest's routines, the thunks, and all blocks
that the boot of a stock kernel installs.

    python tests/hosts/x86_64/identical.py PYTHON OTHER_PYTHON [--payload DIRECTORY] [--keep DIRECTORY]

The arguments are the interpreters of two environments; both run this file. Without a payload (`raddle
fetch-demo-kernel`) there is no boot. A boot counts instructions (``-icount``), so that it always has the same blocks.
Code that holds addresses of C functions gets made-up ones. When something differs, the first differences are printed,
and the exit status is 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from random import Random
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[3]
SEEDS: Final = 60
"""Random programs of each operation, and ten times as many of all operations."""
ADDRESS: Final = 0x7EDC_BA98_7654_3210
"""Stands for every address of a C function."""
SHOWN: Final = 5
BOOT_SECONDS: Final = 3000.0

Row = dict[str, Any]
"""Of a dump: ``part``, ``name``, ``code`` in hexadecimal digits, and what else is to be the same."""


# -- one tree's code ---------------------------------------------------------------------------------------------------


def _listings() -> Iterator[Row]:
    sys.path.insert(0, str(Path(__file__).parent))
    import test_listings

    for table, name in test_listings.CASES:
        yield {"part": "listings", "name": f"{table} {name}", "code": test_listings.block_of(table, name).code.hex()}
    for file in sorted(test_listings.IR.glob("*.txt")):
        code = test_listings.ir_code(test_listings.parse_ir(test_listings.ir_of(file)))
        yield {"part": "listings", "name": file.stem, "code": (code if isinstance(code, bytes) else code.code).hex()}


def _programs() -> Iterator[tuple[str, Any]]:
    from raddle.ir.types import Type
    from raddle.testing.generate import GENERATED, focused_program, random_program
    from raddle.testing.ir_programs import LAYOUT, shipped_cases

    for case in shipped_cases():
        yield f"shipped {case.name}", case.program
    for op in GENERATED:
        for seed in range(SEEDS):
            word = (Type.I32, Type.I64)[seed & 1]
            yield f"{op.name} {seed}", focused_program(Random(f"{op.name} {seed}"), LAYOUT, op, word=word)
    for seed in range(10 * SEEDS):
        yield f"random {seed}", random_program(Random(seed), LAYOUT, word=(Type.I32, Type.I64)[seed & 1])


def _contract() -> Iterator[Row]:
    """Each program for an old host with threads, and for a new one that counts instructions."""
    from raddle.codegen.backend import CodegenConfig
    from raddle.testing.ir_programs import LAYOUT
    from raddle_host_x86_64.backend import X86BackEnd
    from raddle_host_x86_64.features import BASELINE, Features

    newest = Features(*[True] * len(Features._fields))
    backends = {}
    for name, program in _programs():
        word = program.function.word
        for kind, features, counts in (("old", BASELINE, False), ("new", newest, True)):
            backend = backends.get((word, kind))
            if backend is None:
                config = CodegenConfig(
                    LAYOUT, word, 12, _number, not counts, counts, call_helper=ADDRESS, first_python=4096
                )
                backend = backends[word, kind] = X86BackEnd(config, features)
            for what, function in (("", program.function), *program.routines.items()):
                for part, code in _compiled(backend, function, program.holes, program.pc):
                    yield {"part": "contract", "name": f"{name} {what} {kind} {part}", "code": code}


def _number(callee: Any) -> int:
    return int.from_bytes(hashlib.sha256(callee.name.encode()).digest()[:1], "little")


def _compiled(backend: Any, function: Any, holes: tuple[int, ...], pc: int) -> Iterator[tuple[str, str]]:
    """The function as a routine if it returns, else as a block, and in all its variants."""
    from raddle.codegen.joiner import Joiner
    from raddle.ir.opcodes import Op

    try:
        if any(ins.op is Op.RET for ins in function.code):
            yield "routine", backend.routine(function.code, function.locals).hex()
            return
        template = backend.template(function.code, function.locals, 4, 0, 0)
        joiner = Joiner(backend)
        block = joiner.join([joiner.enter(None, 0, template, (*holes, *[0] * 16))], pc)
        yield "block", _hex(block)
        for flags in range(4):
            for dead in (False, True):
                variant = template.variant(flags, dead)
                yield f"variant {flags} {dead}", f"{variant.hot.hex()} {variant.cold.hex()} {variant.traits:x}"
    except Exception as error:
        if type(error).__name__ != "CodegenError":  # which is not in the same module in all trees
            raise
        yield "refused", str(error)


def _hex(block: Any) -> str:
    return f"{block.code.hex()} {block.table.hex()} {block.hot_start} {block.cold_start}"


def _guest() -> Iterator[Row]:
    """The ARM guest's routines, and the thunks of its machines."""
    from raddle.codegen.backend import CodegenConfig
    from raddle.ir.builder import Builder
    from raddle_host_x86_64.backend import X86BackEnd
    from raddle_host_x86_64.features import BASELINE
    from raddle_target_arm.frontend import FRONT_END

    config = CodegenConfig(
        FRONT_END.state, FRONT_END.word, FRONT_END.page_bits, _number, call_helper=ADDRESS, first_python=4096
    )
    backend = X86BackEnd(config, BASELINE)
    for name, build in FRONT_END.routines.items():
        b = Builder(FRONT_END.word, FRONT_END.state.nzcv)
        build(b)
        yield {"part": "routines", "name": name, "code": backend.routine(b.code, b.locals).hex()}
    called = ("raddle_slow_load", "raddle_slow_store", "raddle_slow_atomic", "raddle_call_helper")
    thunks = backend.thunks(dict.fromkeys(called, ADDRESS))
    for name, code in ({"enter": thunks.enter} | thunks.by_field).items():
        yield {"part": "thunks", "name": name, "code": code.hex()}


def _boot(payload: Path) -> Iterator[Row]:
    """All blocks in the order in which they are installed; each boot has the same."""
    from raddle import Machine

    rows: list[Row] = []
    with Machine(
        "virt",
        cpus=1,
        memory="512M",
        kernel=payload / "vmlinuz",
        initrd=payload / "initramfs.cpio.gz",
        append="console=ttyAMA0 panic=-1",
        icount="shift=auto",
        reboot=False,
    ) as machine:
        machine.engine.observer.hooks.add_translation(
            lambda trace: rows.append(
                {"part": "boot", "name": f"{len(rows)}: {trace.pc:#x}, {trace.mode:#x}", "code": _hex(trace.block)}
            )
        )
        machine.start()
        status = machine.wait(BOOT_SECONDS)
        if status or "PAYLOAD-OK" not in machine.console.text:
            raise SystemExit(f"the boot ended with status {status}, and said\n{machine.console.text[-2000:]}")
    yield from rows


def dump(output: Path, payload: Path | None) -> None:
    """Write the rows of the tree that this interpreter has."""
    parts: list[Iterable[Row]] = [_listings(), _guest(), _contract()]
    if payload is not None:
        parts.append(_boot(payload))
    with output.open("w", encoding="utf-8") as file:
        for part in parts:
            for row in part:
                file.write(json.dumps(row) + "\n")


# -- two trees' code ---------------------------------------------------------------------------------------------------


def _rows(file: Path) -> dict[str, list[Row]]:
    parts: dict[str, list[Row]] = {}
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            parts.setdefault(row["part"], []).append(row)
    return parts


def _digest(rows: list[Row]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row['name']} {row['code']}\n".encode())
    return digest.hexdigest()


def compare(one: Path, other: Path) -> int:
    """Print a line a part, and the first differences of each; 1 if there are any."""
    ones, others = _rows(one), _rows(other)
    differences = Counter[str]()
    for part in ones | others:
        a, b = ones.get(part, []), others.get(part, [])
        for left, right in zip_longest(a, b):
            if left != right:
                differences[part] += 1
                if differences[part] <= SHOWN:
                    print(f"{part}: {json.dumps(left)}\n{' ' * len(part)}  {json.dumps(right)}")
        size = sum(len(row["code"]) for row in a) // 2
        print(f"{part}: {len(a)} and {len(b)}, {size} bytes, {differences[part]} differ, sha256 {_digest(a)[:16]}")
    return int(bool(differences.total()))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pythons", nargs="*", metavar="PYTHON")
    parser.add_argument("--payload", type=Path, help="directory with vmlinuz and initramfs.cpio.gz")
    parser.add_argument("--keep", type=Path, help="where to leave the two dumps")
    parser.add_argument("--dump", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.dump:
        dump(options.dump, options.payload)
        return 0
    if len(options.pythons) != 2:
        parser.error("name the interpreters of two environments")
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        files = [directory / f"{number}.jsonl" for number in range(2)]
        for python, file in zip(options.pythons, files, strict=True):
            command = [python, __file__, "--dump", str(file)]
            command += ["--payload", str(options.payload)] if options.payload else []
            subprocess.run(command, check=True)
        return compare(*files)


if __name__ == "__main__":
    sys.exit(main())
