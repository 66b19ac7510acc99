# SPDX-License-Identifier: Apache-2.0
"""The ARM guest's own boards."""
