# SPDX-License-Identifier: Apache-2.0
"""`raddle new-target`: what it writes and refuses. That the package works is tested with the tiny guest."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from raddle.cli.main import main
from raddle.plugins import registry


def test_writes_a_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-target", "acme", str(tmp_path / "here" / "it_is")]) == 0
    assert "pip install -e" in capsys.readouterr().out
    written = [path for path in (tmp_path / "here" / "it_is").rglob("*") if path.is_file()]
    assert {"pyproject.toml", "plugin.py", "acme.dec", "test_contract.py"} <= {path.name for path in written}
    for path in written:
        text = path.read_text()
        assert "@name@" not in text
        if path.suffix == ".py":
            ast.parse(text)


@pytest.mark.parametrize("name", ["", "Acme", "a-b", "1st", "a/b", "..", "é", "class"])
def test_refuses_names_that_are_no_module(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-target", name, str(tmp_path / "x")]) == 2
    assert "is no name for a guest" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-target", "acme", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["new-target", "acme", str(tmp_path / "file" / "x")]) == 1
    assert capsys.readouterr().err.startswith("raddle: cannot write")


def test_refuses_the_name_of_a_guest_that_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = registry().names("target")[0]
    assert main(["new-target", name, str(tmp_path / "x")]) == 2
    assert f"there is a guest {name} already" in capsys.readouterr().err
