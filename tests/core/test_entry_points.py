# SPDX-License-Identifier: Apache-2.0
"""Entry points: what is read by hand is what importlib-metadata finds, and what cannot be is left to it."""

from __future__ import annotations

import os.path
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import importlib_metadata
import pytest

from raddle.entry_points import EntryPoint, entry_points

TEXT = """
[console_scripts]
tool = tool:main

# a comment
[ raddle ]
target.one = one.plugin
host.two=two : deep.er [extra]

[other]
target.three = three
"""


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the interpreter's own finder, as in a process that has not imported importlib-metadata."""
    monkeypatch.setattr(sys, "meta_path", [PathFinder])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The groups that importlib-metadata is asked for."""
    groups: list[str] = []

    def ask(group: str) -> tuple[()]:
        groups.append(group)
        return ()

    monkeypatch.setattr(importlib_metadata, "entry_points", ask)
    return groups


def found(points: Iterable[EntryPoint]) -> list[tuple[str, str]]:
    return sorted((one.name, one.value) for one in points)


def distribution(place: Path, name: str, text: str) -> None:
    (place / name).mkdir(parents=True)
    (place / name / "entry_points.txt").write_text(text)


@pytest.mark.parametrize("group", ["raddle", "console_scripts", "pytest11", "none.such"])
def test_the_installed_ones(group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [PathFinder, importlib_metadata.MetadataPathFinder()])
    theirs = found(importlib_metadata.entry_points(group=group))
    monkeypatch.setattr(sys, "meta_path", [PathFinder])
    monkeypatch.setattr(importlib_metadata, "entry_points", None)
    assert found(entry_points(group)) == theirs


@pytest.mark.parametrize("name", ["some_thing-1.0.dist-info", "some_thing.egg-info", "Some.thing-1-py3.11.egg-info"])
def test_a_distribution(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    distribution(tmp_path, name, TEXT)
    assert found(entry_points("raddle")) == [("host.two", "two : deep.er [extra]"), ("target.one", "one.plugin")]
    monkeypatch.setattr(sys, "meta_path", [importlib_metadata.MetadataPathFinder()])
    assert [one.name for one in entry_points("console_scripts")] == ["tool"]


def test_of_two_installations_of_a_distribution_the_first_one_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [tmp_path / "first", tmp_path / "second", tmp_path / "missing"]
    monkeypatch.setattr(sys, "path", list(map(str, places)))
    distribution(places[0], "thing-1.0.dist-info", "[raddle]\nhost.a = first\n")
    distribution(places[1], "thing-2.0.dist-info", "[raddle]\nhost.a = second\nhost.b = second\n")
    distribution(places[1], "other-2.0.dist-info", "[raddle]\nhost.c = other\n")
    assert found(entry_points("raddle")) == [("host.a", "first"), ("host.c", "other")]


def test_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    text = "[raddle]\nhost.module = os.path\nhost.attribute = os:path.join [extra]\nhost.none = no_such_module\n"
    distribution(tmp_path, "thing-1.0.dist-info", text)
    points: dict[str, Any] = {one.name: one for one in entry_points("raddle")}
    assert points["host.module"].load() is os.path
    assert points["host.attribute"].load() is os.path.join
    with pytest.raises(ModuleNotFoundError):
        points["host.none"].load()


def test_archives_and_eggs_are_left_to_importlib_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    with ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("thing-1.0.dist-info/entry_points.txt", TEXT)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "all.zip")])
    assert found(entry_points("raddle")) == []
    (tmp_path / "thing-1.0-py3.11.egg").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert found(entry_points("raddle")) == []
    assert asked == ["raddle", "raddle"]


def test_finders_of_distributions_are_left_to_importlib_metadata(
    monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    monkeypatch.setattr(sys, "meta_path", [PathFinder, importlib_metadata.MetadataPathFinder()])
    entry_points("raddle")
    assert asked == ["raddle"]
