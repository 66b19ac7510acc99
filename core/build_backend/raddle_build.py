# SPDX-License-Identifier: Apache-2.0
"""setuptools' build backend, which takes the C compiler of the `ziglang` package where the machine has none."""

import os
import shlex
import shutil
import sys
import sysconfig
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (
    build_sdist,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

Settings = dict[str, Any] | None


def refuse_other_systems() -> None:
    """End the build in one line where Raddle cannot run, before anything is compiled."""
    if sys.platform != "linux":
        sys.exit(f"raddle: runs on Linux only, not on {sys.platform}: a Linux virtual machine will do")


def needs_zig() -> bool:
    """Whether neither $CC nor the compiler that Python was built with is there to run."""
    command = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    return shutil.which(shlex.split(command)[0]) is None


def use_zig() -> None:
    """Make setuptools compile and link with the compiler of the `ziglang` package."""
    compiler = f"{shlex.quote(sys.executable)} -m ziglang cc"
    os.environ["CC"] = compiler
    os.environ["LDSHARED"] = f"{compiler} -shared"


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    refuse_other_systems()
    return build_meta.get_requires_for_build_wheel(config_settings) + (["ziglang"] if needs_zig() else [])


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    refuse_other_systems()
    return build_meta.get_requires_for_build_editable(config_settings) + (["ziglang"] if needs_zig() else [])


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    """With RADDLE_WHEEL_PLATFORM (`linux-aarch64`), the wheel is for another machine, whose compiler $CC is."""
    if needs_zig():
        use_zig()
    platform = os.environ.get("RADDLE_WHEEL_PLATFORM")
    if platform:
        # Here only: with this variable, pip would install what the build needs for that machine, too.
        os.environ["_PYTHON_HOST_PLATFORM"] = platform
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    if needs_zig():
        use_zig()
    return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
