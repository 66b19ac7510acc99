# SPDX-License-Identifier: Apache-2.0
"""The native runtime: an extension that cffi generates, in the limited ABI wherever the interpreter has one."""

import sysconfig

from setuptools import setup

# A free-threaded interpreter has no limited ABI, so its wheel keeps the interpreter's own tag.
LIMITED_ABI = not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    cffi_modules=["src/raddle/runtime/build.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED_ABI else {},
)
