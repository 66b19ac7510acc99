# SPDX-License-Identifier: Apache-2.0
"""How long tests wait for what must happen. Where Raddle itself is emulated, all takes longer: `nox -s emulated` says
how many times, in RADDLE_TEST_PATIENCE.
"""

from __future__ import annotations

import os

__all__ = ["seconds"]


def seconds(usual: float) -> float:
    """The seconds after which a test that waits counts as failed; `usual` is the time where nothing is emulated."""
    return usual * float(os.environ.get("RADDLE_TEST_PATIENCE", "1"))
