# SPDX-License-Identifier: Apache-2.0
"""Commands that need a guest of which nothing else says which."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from raddle.cli.guests import only_guest
from raddle.errors import UsageError


def registry(*names: str) -> Any:
    return SimpleNamespace(targets=lambda: [SimpleNamespace(name=name) for name in names])


def is_able(target: Any) -> bool:
    return target.name.startswith("able")


def test_the_only_one_that_has_it_is_taken() -> None:
    assert only_guest(registry("able", "other"), is_able, "a demo").name == "able"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("able1", "able2", "other"), r"several guests have a demo; say which: --target able1\|able2$"),
        (("one", "other"), r"no installed guest has a demo \(installed: one, other\); remedy: install a guest"),
        ((), r"no installed guest has a demo \(installed: none\); remedy: install a guest"),
    ],
)
def test_none_and_several_are_errors(names: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        only_guest(registry(*names), is_able, "a demo")
