# SPDX-License-Identifier: Apache-2.0
"""Things that there is one of: no copy and no pickle of them would do what they do."""

from __future__ import annotations

from typing import NoReturn, SupportsIndex

__all__ = ["Unique"]


class Unique:
    """Refuses `copy` and `pickle`."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(f"the {type(self).__name__} of a machine cannot be copied or pickled: there is one of it")
