# SPDX-License-Identifier: Apache-2.0
"""Tests that run guest code are run wherever a host plug-in makes code for the machine, whatever its name is; and files
are imported where they have a test that can be asked for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from tests import conftest

from raddle.errors import UsageError
from raddle.ordering import MemoryOrder
from raddle.plugins import Host

OTHER = Host("other", 64, MemoryOrder.NONE, ("another",), lambda: None)  # type: ignore[arg-type, return-value]


def lacking(name: str = "") -> str:
    return str(conftest.lacking_host.__wrapped__(name))


def test_any_host_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "registry", lambda: SimpleNamespace(host_for=lambda: OTHER))
    assert lacking() == lacking("other") == ""
    assert lacking("x86_64") == "needs the host x86_64; this machine has other"


def test_the_reason_is_told_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Host:
        raise UsageError("no usable host plug-in for this machine")

    monkeypatch.setattr(conftest, "registry", lambda: SimpleNamespace(host_for=none))
    assert lacking() == lacking("x86_64") == "no usable host plug-in for this machine"


@pytest.mark.parametrize(
    ("asked", "collected"),
    [
        ("", "none slow both"),
        ("slow", "slow both"),
        ("not slow", "none slow both"),
        ("alone", "both"),
        ("slow and not alone", "slow both"),
        ("(not (peer or cross or stress)) and alone", "both"),
        ("not (peer or cross or stress)", "none slow both"),
        ("not an expression", "none slow both"),
        ('peer("one")', "none slow both"),
    ],
)
def test_files_without_a_test_that_is_asked_for_are_not_imported(tmp_path: Path, asked: str, collected: str) -> None:
    config = SimpleNamespace(option=SimpleNamespace(markexpr=asked))
    for name, text in {
        "none": "",
        "slow": "@pytest.mark.slow",
        "both": "[pytest.mark.alone, pytest.mark.slow]",
    }.items():
        path = tmp_path / f"test_{name}.py"
        path.write_text(text)
        ignored = conftest.pytest_ignore_collect(path, config)  # type: ignore[arg-type]
        assert ignored is (None if name in collected.split() else True), name
    assert conftest.pytest_ignore_collect(tmp_path, config) is None  # type: ignore[arg-type]
