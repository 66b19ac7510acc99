# SPDX-License-Identifier: Apache-2.0
"""What runs programs of another machine, on a machine that has nothing of it yet."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from tests import foreign_python


def test_a_tool_that_the_system_lacks_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_python.shutil, "which", lambda name: None)
    monkeypatch.setattr(foreign_python, "ARCHITECTURES", {platform.machine(): "here"})
    monkeypatch.setattr(foreign_python, "unpack", lambda architecture, package, directory: directory.mkdir())
    directory = tmp_path / "foreign" / "other"
    command = foreign_python.make_tool("qemu-other", "qemu-user", "qemu-other-static", directory)
    assert command == directory / "bin" / "qemu-other"
    assert f"{directory}/tools/qemu-user/usr/bin/qemu-other-static " in command.read_text()
    assert (directory / "tools" / "qemu-user").is_dir()
