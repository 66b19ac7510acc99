# SPDX-License-Identifier: Apache-2.0
"""Looking into a running machine: hooks, logs, and profiles. None of them costs time until it is used."""
