# SPDX-License-Identifier: Apache-2.0
"""Litmus tests: their text format, the models of memory that say what may come out, and runs of them as guests."""
