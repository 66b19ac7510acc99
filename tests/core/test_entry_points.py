# SPDX-License-Identifier: Apache-2.0
"""Entry points are found as importlib.metadata finds them, and no distribution's metadata can do harm."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raddle.entry_points import EntryPoint, entry_points

USUAL = """\
; a comment
[console_scripts]
raddle = raddle_command:main

[plugs]
target.one=package.one
target.two = package.two : deep.attribute [extra]
# target.three = package.three
no value

[others]
target.four = package.four
"""


def install(directory: Path, name: str, text: str | bytes) -> None:
    metadata = directory / name
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.partition('-')[0]}\nVersion: 1\n")
    (metadata / "entry_points.txt").write_bytes(text.encode() if isinstance(text, str) else text)


def found(*path: Path, group: str = "plugs") -> list[tuple[str, str]]:
    return [(one.name, one.value) for one in entry_points(group, [str(directory) for directory in path])]


def test_all_of_the_group_and_no_other_is_found(tmp_path: Path) -> None:
    install(tmp_path, "usual-1.dist-info", USUAL)
    assert found(tmp_path) == [("target.one", "package.one"), ("target.two", "package.two : deep.attribute [extra]")]


@pytest.mark.parametrize("group", ["raddle", "console_scripts", "pytest11"])
def test_as_the_standard_library_finds_them(group: str) -> None:
    expected = {(one.name, one.value) for one in importlib.metadata.entry_points(group=group)}
    assert {(one.name, one.value) for one in entry_points(group)} == expected


@pytest.mark.parametrize("second", ["some_name-2.dist-info", "Some.Name-1.dist-info", "some_name.egg-info"])
def test_the_first_of_two_of_one_name_counts(tmp_path: Path, second: str) -> None:
    install(tmp_path / "a", "some_name-1.dist-info", "[plugs]\nx = first\n")
    install(tmp_path / "b", second, "[plugs]\nx = second\ny = second\n")
    install(tmp_path / "b", "other-1.dist-info", "[plugs]\nz = third\n")
    assert found(tmp_path / "a", tmp_path / "b") == [("x", "first"), ("z", "third")]


def test_the_first_counts_if_it_has_none(tmp_path: Path) -> None:
    (tmp_path / "a" / "name-2.dist-info").mkdir(parents=True)
    install(tmp_path / "b", "name-1.dist-info", "[plugs]\nx = second\n")
    assert found(tmp_path / "a", tmp_path / "b") == []


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "archive.zip").write_bytes(b"PK")
    (tmp_path / "file-1.dist-info").write_text("[plugs]\nx = y\n")
    (tmp_path / "folder-1.dist-info" / "entry_points.txt").mkdir(parents=True)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "endless-1.dist-info").mkdir()
    os.mkfifo(tmp_path / "endless-1.dist-info" / "entry_points.txt")
    install(tmp_path, "good-1.dist-info", "[plugs]\nx = good\n")
    assert found(tmp_path / "archive.zip", Path("null\0"), tmp_path / "nowhere", tmp_path / "loop", tmp_path) == [
        ("x", "good")
    ]


def test_the_empty_entry_of_the_path_is_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "good-1.dist-info", "[plugs]\nx = good\n")
    monkeypatch.chdir(tmp_path)
    assert [one.name for one in entry_points("plugs", [""])] == ["x"]


@given(st.binary() | st.text().map(lambda text: f"[plugs]\n{text}".encode(errors="replace")))
def test_any_file_is_survived(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    directory = tmp_path_factory.mktemp("any")
    install(directory, "any-1.dist-info", data)
    for name, value in found(directory):
        assert name == name.strip()
        assert "\n" not in name + value


@pytest.mark.parametrize(
    ("value", "loaded"),
    [("os", os), ("os:path", os.path), ("os : path.join", os.path.join), ("os.path:join [fast, slow]", os.path.join)],
)
def test_loading(value: str, loaded: object) -> None:
    assert EntryPoint("x", value).load() is loaded


@pytest.mark.parametrize(
    ("value", "error"),
    [("", ValueError), (":path", ValueError), ("os:no.such", AttributeError), ("no_such_module", ImportError)],
)
def test_loading_fails(value: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        EntryPoint("x", value).load()
