"""Operator times: the events of ONNX Runtime's profiler, summed up as norms, matrix products and the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

__all__ = ["CATEGORIES", "Operator", "OperatorTimes", "fold"]

CATEGORIES: Final = ("norms", "matmul", "rest")

_MATMUL: Final = ("MatMul", "Gemm", "Conv", "Attention", "Einsum", "GRU", "LSTM", "RNN")
"""What the names of operators contain that are matrix products for the most part: FusedMatMul, QLinearConv ..."""

_CONTROL_FLOW: Final = ("If", "Loop", "Scan")
"""Their events include those of the nodes in their bodies, which are counted on their own."""

_MOST_OVERHEAD: Final = 10.0
"""Microseconds that the profiler takes for a node at most; 2.5 were measured on an AMD EPYC."""

_NODE_SUFFIX: Final = "_kernel_time"


@dataclass(frozen=True)
class Operator:
    """All nodes of one operator in one category."""

    category: str
    name: str
    calls: float
    """In one run."""
    microseconds: float
    """In one run: the median over the runs, less the cost of the profiler."""


@dataclass(frozen=True)
class OperatorTimes:
    """The time that one run spends in each operator.

    In a decomposed model the category `norms` holds the nodes that `fuse` would replace in the graph that ONNX Runtime
    runs, residual Adds included. So the category holds the same work before and after fusion.

    The profiler makes every node some microseconds longer, because ONNX Runtime formats the event of a node within the
    time of that node. Models of many small nodes would look slower than they are. Therefore the run is also timed
    without the profiler, and the difference is subtracted from all nodes in equal parts. These are at most the time of
    the shortest node, and 10 us, because the difference is mostly noise where runs are long. Two errors remain: the
    true cost grows with the number of inputs of a node, and ONNX Runtime cuts times off to whole microseconds. Shares
    of a few percent are therefore rough.
    """

    operators: tuple[Operator, ...]
    """The longest first."""
    runs: int
    overhead: float
    """Microseconds that were subtracted from each node, as the cost of the profiler."""
    norm_bytes: int
    """Read and written by the norms of one run, if each is one node; 0 if they are decomposed."""
    copy_microseconds: float | None = None
    """Time of plain copies that read and write as many bytes, one copy for each norm, in warm caches."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OperatorTimes:
        """From what `dataclasses.asdict` made of one."""
        return cls(**{**data, "operators": tuple(Operator(**operator) for operator in data["operators"])})

    def microseconds(self, category: str | None = None) -> float:
        """Of one category, or of all."""
        return sum(o.microseconds for o in self.operators if category in (None, o.category))

    def share(self, category: str) -> float:
        """Part of the time that is spent in `category`: 0 to 1."""
        total = self.microseconds()
        return self.microseconds(category) / total if total else 0.0

    @property
    def bandwidth(self) -> float | None:
        """How near the norms are to the speed of plain copies of their tensors, the measured limit: 1 is equal."""
        norms = self.microseconds("norms")
        return self.copy_microseconds / norms if self.copy_microseconds is not None and norms else None


def fold(
    events: Sequence[Mapping[str, Any]], is_whole_norm: Mapping[str, bool], *, latency: float, skip: int = 1
) -> OperatorTimes:
    """Sum up the events that `InferenceSession.end_profiling` writes.

    Args:
        events: all of them.
        is_whole_norm: the names of the nodes that belong to a norm, and whether the node is the whole norm.
        latency: microseconds of a run without the profiler.
        skip: number of runs at the beginning that are not counted.
    """
    spans = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e.get("name") == "model_run")[skip:]
    nodes = sorted((e for e in events if _is_node(e)), key=lambda e: float(e["ts"]))
    runs: list[dict[tuple[str, str], list[float]]] = []
    index = 0
    for start, end in spans:
        while index < len(nodes) and nodes[index]["ts"] < start:
            index += 1
        run: dict[tuple[str, str], list[float]] = defaultdict(list)
        while index < len(nodes) and nodes[index]["ts"] <= end:
            run[_category(nodes[index], is_whole_norm), nodes[index]["args"]["op_name"]].append(nodes[index]["dur"])
            index += 1
        runs.append(run)
    keys = dict.fromkeys(key for run in runs for key in run)
    found = {key: [run.get(key, []) for run in runs] for key in keys}
    measured = {key: (median(map(len, each)), median(map(sum, each))) for key, each in found.items()}
    calls, total = (sum(values) for values in zip(*measured.values(), strict=True)) if measured else (0, 0)
    shortest = min((microseconds / nodes for nodes, microseconds in measured.values() if nodes), default=0.0)
    most = min(shortest + 1, _MOST_OVERHEAD)  # 1 us, as times are cut off
    overhead = min(max(0.0, (total - latency) / calls), most) if calls else 0.0
    operators = [
        Operator(*key, nodes, max(0.0, microseconds - nodes * overhead))
        for key, (nodes, microseconds) in measured.items()
    ]
    return OperatorTimes(
        operators=tuple(sorted(operators, key=lambda o: -o.microseconds)),
        runs=len(runs),
        overhead=overhead,
        norm_bytes=sum(norm_sizes(events, is_whole_norm)),
    )


def norm_sizes(events: Sequence[Mapping[str, Any]], is_whole_norm: Mapping[str, bool]) -> list[int]:
    """Bytes that each norm reads and writes, in one run; empty unless every norm is one node."""
    if not is_whole_norm or not all(is_whole_norm.values()):
        return []
    spans = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e.get("name") == "model_run")
    if not spans:
        return []
    start, end = spans[-1]
    return [
        sum(int(e["args"][size]) for size in ("activation_size", "parameter_size", "output_size"))
        for e in events
        if _is_node(e) and start <= e["ts"] <= end and _node_name(e) in is_whole_norm
    ]


def _is_node(event: Mapping[str, Any]) -> bool:
    is_kernel = event.get("cat") == "Node" and event["name"].endswith(_NODE_SUFFIX)
    return is_kernel and event["args"]["op_name"] not in _CONTROL_FLOW


def _node_name(event: Mapping[str, Any]) -> str:
    return str(event["name"]).removesuffix(_NODE_SUFFIX)


def _category(event: Mapping[str, Any], is_whole_norm: Mapping[str, bool]) -> str:
    if _node_name(event) in is_whole_norm:
        return "norms"
    return "matmul" if any(part in event["args"]["op_name"] for part in _MATMUL) else "rest"
