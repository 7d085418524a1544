"""Names that differ in one number only, such as those of repeated layers, as one name with a range."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

__all__ = ["repeated"]

_NUMBER: Final = re.compile(r"\d+")
_RANGES: Final = 3
"""So many ranges are written out; of more, only the first and the last number."""


def repeated(names: Iterable[str]) -> Iterator[tuple[str, list[int]]]:
    """Group names that differ in one number.

        layers.0.norm1, layers.0.norm2, layers.1.norm1, layers.1.norm2
        layers.{0-1}.norm1 x2, layers.{0-1}.norm2 x2

    Where several numbers vary, the one with the most values becomes the range.

    Yields:
        The name of each group, in the order of their first names, and the positions of its names.
    """
    templates: dict[tuple[str, ...], list[tuple[int, list[str]]]] = {}
    for position, name in enumerate(names):
        templates.setdefault(tuple(_NUMBER.split(name)), []).append((position, _NUMBER.findall(name)))
    groups = [(texts, group) for texts, found in templates.items() for group in _groups(found)]
    for texts, group in sorted(groups, key=lambda each: each[1][0][0]):
        ranges = [_range(values) for values in zip(*(numbers for _, numbers in group), strict=True)]
        name = "".join(text + number for text, number in zip(texts, [*ranges, ""], strict=True))
        yield name + f" x{len(group)}" * (len(group) > 1), [position for position, _ in group]


def _groups(found: Sequence[tuple[int, list[str]]]) -> Iterator[list[tuple[int, list[str]]]]:
    """The names of one template, parted so that one number varies in each group."""
    values = [set(column) for column in zip(*(numbers for _, numbers in found), strict=True)]
    varying = max(range(len(values)), key=lambda i: len(values[i]), default=0)
    groups: dict[tuple[str, ...], list[tuple[int, list[str]]]] = {}
    for position, numbers in found:
        others = (*numbers[:varying], *numbers[varying + 1 :])
        groups.setdefault(others, []).append((position, numbers))
    yield from groups.values()


def _range(values: Sequence[str]) -> str:
    """`{0-31}`, `{0-3,5}`, or the number itself where all are equal."""
    if len(set(values)) == 1:
        return values[0]
    numbers = sorted({int(value) for value in values})
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    if len(starts) > _RANGES:
        return f"{{{numbers[0]}...{numbers[-1]}}}"
    return f"{{{','.join(f'{a}-{b}' if b > a else str(a) for a, b in zip(starts, ends, strict=True))}}}"
