# SPDX-License-Identifier: Apache-2.0
"""Looking into a machine that runs: hooks, logs, and where the time goes. None of it costs anything until it is used."""
