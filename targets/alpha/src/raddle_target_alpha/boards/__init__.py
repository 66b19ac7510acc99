# SPDX-License-Identifier: Apache-2.0
"""Boards of the Alpha guest."""
