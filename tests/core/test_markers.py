# SPDX-License-Identifier: Apache-2.0
"""Tests that run guest code are run wherever a host plug-in makes code for the machine, whatever its name is."""

from __future__ import annotations

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
