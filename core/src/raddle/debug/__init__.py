# SPDX-License-Identifier: Apache-2.0
"""Looking into a machine that runs: hooks, logs, and where the time goes. Nothing of it costs time until it is used."""
