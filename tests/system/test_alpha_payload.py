# SPDX-License-Identifier: Apache-2.0
"""What `alpha_payload/build.py` says when it cannot make the payload, and when there is nothing to make."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.system.alpha_payload import build


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is missing, and the sources have always the same fingerprint."""
    monkeypatch.setattr(build, "PACKAGES", {})
    monkeypatch.setattr(build, "fingerprint", lambda: "abc")


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.touch()
    needed = {"sh": "dash", str(there): "one", "no-such-program": "two", str(tmp_path / "archive"): "three"}
    needed["no-other-program"] = "two"
    monkeypatch.setattr(build, "PACKAGES", needed)
    said = build.main([str(tmp_path / "payload")])
    assert said == "Alpha's boot payload needs Debian's packages: apt-get install two three"
    assert not (tmp_path / "payload").exists()


@pytest.mark.usefixtures("complete")
def test_it_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def make(directory: Path, made_of: str) -> None:
        assert directory.is_absolute()  # make runs in another one
        made.append(made_of)
        (directory / build.FINGERPRINT).write_text(made_of)

    made: list[str] = []
    monkeypatch.setattr(build, "build", make)
    monkeypatch.chdir(tmp_path)
    for made_of in ("abc", "abc", "def"):
        monkeypatch.setattr(build, "fingerprint", lambda made_of=made_of: made_of)
        assert build.main(["payload"]) == 0
    assert made == ["abc", "def"]


@pytest.mark.usefixtures("complete")
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (subprocess.CalledProcessError(2, ["make", "vmlinux"]), "make vmlinux has failed"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_failures_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, said: str) -> None:
    def fail(directory: Path, made_of: str) -> None:
        raise error

    monkeypatch.setattr(build, "build", fail)
    assert build.main([str(tmp_path)]) == f"cannot make Alpha's boot payload: {said}"


def test_a_setting_that_the_kernel_does_not_take_is_found() -> None:
    wanted = ["# a heading", "CONFIG_ONE=y", "CONFIG_TWO=4", "# CONFIG_THREE is not set"]
    assert build.refused_lines(wanted, ["CONFIG_ONE=y", "CONFIG_TWO=4"]) == []
    assert build.refused_lines(wanted, ["CONFIG_ONE=y", "CONFIG_TWO=2"]) == ["CONFIG_TWO=4"]
