# SPDX-License-Identifier: Apache-2.0
"""The tiny guest's own tests are run where it is installed: by test_tiny.py, in an environment of their own."""

collect_ignore = ["raddle-target-tiny"]
