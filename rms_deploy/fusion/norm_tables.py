"""Norms and near misses as tables; the norms of repeated layers are one row."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

from rms_deploy.display import Table
from rms_deploy.fusion.near_miss import NearMiss
from rms_deploy.fusion.norm import Norm
from rms_deploy.fusion.repeated import repeated

__all__ = ["near_miss_table", "norm_table"]

_Item = TypeVar("_Item", Norm, NearMiss)


def norm_table(norms: Iterable[Norm], *, full: bool = False) -> Table:
    """A row for each norm, or, unless `full`, for each norm of a repeated layer."""
    header = ("place", "norm", "n", "axes", "dtype", "epsilon", "rounding", "scale", "state", "ulp")
    each = [(norm.place or norm.node, _facts(norm), norm) for norm in norms]
    rows = [
        (name, *facts, "" if (ulp := _worst_ulp(group)) is None else str(ulp))
        for name, facts, group in _grouped(each, full=full)
    ]
    gone = ("scale", "rounding", "ulp", "epsilon", "axes", "n", "dtype")
    return Table(header, rows, left=len(header), first_to_go=gone)


def near_miss_table(misses: Iterable[NearMiss], *, full: bool = False) -> Table:
    """A row for each near miss with its reason, or, unless `full`, for each that repeats in layers."""
    header = ("near miss", "piece", "reason")
    each = [(miss.node, (miss.piece, miss.reason), miss) for miss in misses]
    rows = [(name, *facts) for name, facts, _ in _grouped(each, full=full)]
    return Table(header, rows, left=len(header), first_to_go=("piece",))


def _grouped(
    each: Sequence[tuple[str, tuple[str, ...], _Item]], *, full: bool
) -> Iterator[tuple[str, tuple[str, ...], list[_Item]]]:
    """The name and facts of each row, and what it stands for, in the order of the graph."""
    kinds: dict[Hashable, list[int]] = {}
    for i, (_, facts, _) in enumerate(each):
        kinds.setdefault(i if full else facts, []).append(i)
    groups = [
        (name, [kind[i] for i in found])
        for kind in kinds.values()
        for name, found in repeated(each[i][0] for i in kind)
    ]
    for name, found in sorted(groups, key=lambda group: group[1][0]):
        yield name, each[found[0]][1], [each[i][2] for i in found]


def _worst_ulp(norms: Iterable[Norm]) -> int | None:
    return max((norm.max_ulp for norm in norms if norm.max_ulp is not None), default=None)


def _facts(norm: Norm) -> tuple[str, ...]:
    """All but place and distance."""
    epsilon = "?" if norm.epsilon is None else f"{norm.epsilon:.6g}"
    if norm.rms_epsilon:
        epsilon += f", outside {norm.rms_epsilon:.6g}"
    if norm.rms_min:
        epsilon += f", at least {norm.rms_min:.6g}"
    return (
        norm.kind if norm.partial_size is None else f"{norm.kind} ({norm.partial_size})",
        "?" if norm.n is None else str(norm.n),
        "?" if norm.axes is None else "" if norm.axes == (-1,) else ",".join(map(str, norm.axes)),
        _types(norm),
        epsilon,
        norm.rounding or "",
        norm.scale,
        f"{norm.form}: {norm.note}" if norm.note else str(norm.form),
    )


def _types(norm: Norm) -> str:
    """float16, float16 + float32 where it adds a residual of that type, or float16 to int8."""
    text = norm.dtype or "?"
    if norm.sum_dtype not in (None, norm.dtype):
        text += f" + {norm.sum_dtype}"
    return text if norm.output_dtype is None else f"{text} to {norm.output_dtype}"
