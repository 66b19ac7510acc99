# SPDX-License-Identifier: Apache-2.0
"""The public names of the package: all there, and imported when they are used."""

import subprocess
import sys

import pytest

import raddle


@pytest.mark.parametrize("name", raddle.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(raddle, name) is not None
    assert name in dir(raddle)


def test_other_names_are_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Machin'"):
        _ = raddle.Machin


def test_importing_raddle_imports_no_machine() -> None:
    code = "import sys, raddle; print([name for name in sys.modules if name.startswith('raddle.')])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == "['raddle.errors']\n"
