# SPDX-License-Identifier: Apache-2.0
"""A kernel and an initial RAM disk from Debian's packages, for a guest to boot."""
