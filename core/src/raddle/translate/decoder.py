# SPDX-License-Identifier: Apache-2.0
"""Decoders: from an instruction word to the line of its table, a few bits at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from raddle.translate.pattern import UNDEFINED, Pattern


class Node:
    """A step of the decoder: either looks `word >> shift & mask` up in `children`, or tries `leaf` in order.

    A child is made when the first word comes to it. Threads may race to make one: either will do.
    """

    __slots__ = ("_kept", "_patterns", "_tested", "children", "leaf", "mask", "shift")

    def __init__(self, patterns: list[Pattern], tested: int, width: int) -> None:
        """The decoder of words that may be of `patterns` as far as their bits `tested` tell, inner lines first."""
        window = _window(patterns, ((1 << width) - 1) & ~tested) if len(patterns) > 2 else None
        self.children: list[Node | None] | None = None
        self.leaf = patterns
        self.shift = self.mask = 0
        if window is not None:
            self.shift, bits = window
            self.mask = (1 << bits) - 1
            self.children = [None] * (1 << bits)
            self._patterns = patterns
            self._tested = tested | self.mask << self.shift
            self._kept: dict[tuple[int, ...], Node] = {}

    def grow(self, choice: int, width: int) -> Node:
        """Make the child for words whose bits in the window are `choice`."""
        assert self.children is not None
        selected = self.mask << self.shift
        bits = choice << self.shift
        matching = [
            pattern
            for pattern in self._patterns
            if not (pattern.value ^ bits) & pattern.mask & selected
            and not any(mask & ~selected == 0 and bits & mask == value for mask, value in pattern.excluded)
        ]
        same = tuple(pattern.index for pattern in matching)
        child = self._kept.get(same)
        if child is None:
            child = self._kept[same] = Node(matching, self._tested, width)
        self.children[choice] = child
        return child


class Decoder:
    """A compiled table. Immutable to its users; may be used by any thread."""

    __slots__ = ("_patterns", "_root", "width")

    def __init__(self, patterns: Sequence[Pattern], width: int, root: Node) -> None:
        self._patterns = tuple(patterns)
        self.width = width
        self._root = root

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        """Every line in order, the undefined ones included, each at its `index`."""
        return tuple(pattern.read() for pattern in self._patterns)

    def decode(self, word: int) -> Pattern | None:
        """The pattern of `word`, an unsigned integer of the table's width; None if it is no instruction.

        Raises TableError for a mistake in a line of a trusted table.
        """
        node = self._root
        while node.children is not None:
            choice = word >> node.shift & node.mask
            node = node.children[choice] or node.grow(choice, self.width)
        for pattern in node.leaf:
            if word & pattern.mask == pattern.value:
                for mask, value in pattern.excluded:
                    if word & mask == value:
                        break
                else:
                    pattern.read()
                    return pattern if pattern.always_defined or pattern.is_defined(word) else None
        return None

    @property
    def names(self) -> frozenset[str]:
        """The names of all instructions in the table."""
        return frozenset(pattern.name for pattern in self._patterns if pattern.name != UNDEFINED)


def each_bit(mask: int) -> Iterator[int]:
    while mask:
        bit = mask & -mask
        yield bit
        mask ^= bit


_WIDEST_WINDOW = 8
_MOST = 0.7
"""Bits beside the best one join its window if they are fixed in at least this share of the patterns in which it is:
more makes a deeper decoder, less a larger one that takes longer to build."""


def _window(patterns: list[Pattern], open_bits: int) -> tuple[int, int] | None:
    """The bits to branch on, as lowest bit and width: where most patterns are fixed, and not all alike."""
    ones = zeros = 0
    for pattern in patterns:
        ones |= pattern.mask & pattern.value
        zeros |= pattern.mask & ~pattern.value
    candidates = list(each_bit(ones & zeros & open_bits))
    if not candidates:
        return None
    counts = {bit: sum(1 for pattern in patterns if pattern.mask & bit) for bit in candidates}
    most = max(counts.values())
    best = (0, 0, 0)
    for low in candidates:
        width = total = 0
        while width < _WIDEST_WINDOW and counts.get(low << width, 0) >= _MOST * most:
            total += counts[low << width]
            width += 1
        best = max(best, (total, low.bit_length() - 1, width))
    return best[1], best[2]
