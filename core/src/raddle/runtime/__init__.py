# SPDX-License-Identifier: Apache-2.0
"""The native runtime and the layout that it shares with generated code.

``raddle.runtime._native``, the extension, is built by ``build.py``.
"""
