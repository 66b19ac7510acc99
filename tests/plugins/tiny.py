# SPDX-License-Identifier: Apache-2.0
"""Programs of the tiny guest, run by a Python that has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TINY = HERE / "raddle-target-tiny"

RUN = """
import json, sys
from pathlib import Path
import raddle
from raddle_target_tiny.assembler import assemble

source, cpus, accelerator, *cpu = sys.argv[1:]
program = Path(sys.argv[0]).with_suffix(".bin")
program.write_bytes(assemble(Path(source).read_text()))
options = {"cpu": cpu[0]} if cpu else {}
with raddle.Machine("desk", cpus=int(cpus), memory="1M", kernel=program, accelerator=accelerator, **options) as machine:
    machine.start()
    machine.spread()
    status = machine.wait(240)
    decision = machine.accel
    print(json.dumps({
        "status": status,
        "console": machine.console.text,
        "mode": decision.mode.value,
        "reasons": decision.reasons,
        "warnings": decision.warnings,
    }))
"""


@dataclass
class Environment:
    """A Python with core, host and the tiny guest, and a directory to work in."""

    directory: Path
    command: tuple[str, ...]
    variables: dict[str, str] | None = field(default=None)

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*self.command, *arguments]
        return subprocess.run(
            command, cwd=self.directory, env=self.variables, capture_output=True, text=True, timeout=280, check=False
        )

    def script(self) -> Path:
        """RUN, in a file: runs a program on some CPUs, with an accelerator and perhaps a CPU model."""
        script = self.directory / "run.py"
        script.write_text(RUN)
        return script

    def run(self, program: str, cpus: int, accelerator: str) -> dict[str, Any]:
        done = self(str(self.script()), str(HERE / "programs" / f"{program}.tiny"), str(cpus), accelerator)
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        return result


def with_sources(directory: Path) -> Environment:
    """This Python with the guest's sources on its path: test_tiny.py installs its wheel, which makes no difference to
    its programs.
    """
    information = directory / "raddle_target_tiny-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: raddle-target-tiny\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[raddle]\ntarget.tiny = raddle_target_tiny.plugin\n")
    path = os.pathsep.join((str(TINY / "src"), str(directory)))
    return Environment(directory, (sys.executable,), {**os.environ, "PYTHONPATH": path})
