# SPDX-License-Identifier: Apache-2.0
"""Sets of events and relations between them, as bits. Events are numbered from 0.

A set is a number with a bit for each event. A relation is a list: for each event, the set of events that it is related
to. Operations return new lists. All relations of an execution have the same length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = [
    "Relation",
    "acyclic",
    "closure",
    "compose",
    "elements",
    "intersection",
    "inverse",
    "irreflexive",
    "reflexive",
    "related",
    "restricted",
    "set_of",
    "union",
]

Relation = list[int]


def set_of(numbers: Iterable[int]) -> int:
    return sum(1 << number for number in numbers)


def elements(members: int) -> Iterator[int]:
    """The numbers in a set, in ascending order."""
    while members:
        lowest = members & -members
        yield lowest.bit_length() - 1
        members ^= lowest


def related(size: int, pairs: Iterable[tuple[int, int]]) -> Relation:
    """The relation of `size` events that has these pairs."""
    rows = [0] * size
    for first, second in pairs:
        rows[first] |= 1 << second
    return rows


def union(*relations: Relation) -> Relation:
    rows = list(relations[0])
    for relation in relations[1:]:
        for number, row in enumerate(relation):
            rows[number] |= row
    return rows


def intersection(first: Relation, second: Relation) -> Relation:
    return [one & other for one, other in zip(first, second, strict=True)]


def restricted(relation: Relation, domain: int, codomain: int) -> Relation:
    """The pairs from `domain` to `codomain`: [domain]; relation; [codomain]."""
    return [row & codomain if domain >> number & 1 else 0 for number, row in enumerate(relation)]


def inverse(relation: Relation) -> Relation:
    rows = [0] * len(relation)
    for number, row in enumerate(relation):
        for other in elements(row):
            rows[other] |= 1 << number
    return rows


def compose(first: Relation, *others: Relation) -> Relation:
    """first; second; ...: the pairs that are connected by one pair of each relation in turn."""
    rows = first
    for relation in others:
        made = []
        for row in rows:
            reached = 0
            for number in elements(row):
                reached |= relation[number]
            made.append(reached)
        rows = made
    return rows


def reflexive(relation: Relation) -> Relation:
    return [row | 1 << number for number, row in enumerate(relation)]


def closure(relation: Relation) -> Relation:
    """The transitive closure."""
    rows = list(relation)
    for middle in range(len(rows)):
        bit = 1 << middle
        through = rows[middle]
        for number, row in enumerate(rows):
            if row & bit:
                rows[number] = row | through
    return rows


def irreflexive(relation: Relation) -> bool:
    return not any(row >> number & 1 for number, row in enumerate(relation))


def acyclic(relation: Relation) -> bool:
    """Whether no path leads from an event back to itself. Removes events without successors until none is left."""
    left = set_of(number for number, row in enumerate(relation) if row)
    while left:
        ends = set_of(number for number in elements(left) if not relation[number] & left)
        if not ends:
            return False
        left ^= ends
    return True
