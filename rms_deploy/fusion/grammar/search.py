"""From an anchor along the consumers to every value where a norm ends.

A piece of the grammar takes (match, node that consumes its value, facts). It gives the match one step further, or a
near miss, or None where the node is no part of a norm. A new spelling is a new piece in `_PIECES`, or a new anchor in
`_ANCHORS`; nothing else knows which spellings exist.

A norm ends at the first value that something else than a next piece reads. So statistics that several norms share, or
that are outputs of the graph, are never lost: what is still read stays. Where x / rms itself is read, the norm ends
there, and its scale stays a product: one norm, not two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import onnx_ir as ir

from rms_deploy.fusion.grammar import casts, foreign, mean_square, normed, root, scaled, size
from rms_deploy.fusion.grammar.match import Match, Stage
from rms_deploy.fusion.near_miss import NearMiss, near_miss
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.ops.foreign_ops import RMS_NORMALIZATION, SIMPLIFIED_LAYER_NORMALIZATION

__all__ = ["SearchResult", "search"]

_Piece = Callable[[Match, ir.Node, Facts], Match | NearMiss | None]

_ANCHORS: dict[tuple[str, str], Callable[[ir.Node, Facts], Match | None]] = {
    ("", "Einsum"): mean_square.anchor_einsum,
    ("", "GlobalAveragePool"): mean_square.anchor,
    ("", "LpNormalization"): mean_square.anchor_normalized,
    ("", "ReduceL2"): mean_square.anchor,
    ("", "ReduceMean"): mean_square.anchor,
    ("", "ReduceSum"): mean_square.anchor,
    ("", "ReduceSumSquare"): mean_square.anchor,
    **{
        (domain, norm.op_type): foreign.anchor_foreign
        for norm in (RMS_NORMALIZATION, SIMPLIFIED_LAYER_NORMALIZATION)
        for domain in norm.domains
    },
}

_PIECES: dict[str, tuple[_Piece, ...]] = {
    "Add": (root.add_epsilon,),
    "Cast": (casts.cast,),
    "CastLike": (casts.cast,),
    "Clip": (root.floor,),
    "Div": (size.average, root.invert, normed.normed, normed.scale_inverse),
    "Expand": (casts.expand,),
    "Identity": (casts.identity,),
    "Max": (root.floor,),
    "Mul": (size.average, root.undo_root, normed.normed, normed.scale_inverse, scaled.scaled),
    "Pow": (root.power,),
    "Reciprocal": (root.invert,),
    "Reshape": (mean_square.reshape,),
    "Sqrt": (root.sqrt,),
    "Sub": (mean_square.variance,),
    "Unsqueeze": (mean_square.unsqueeze,),
}


_MAX_STEPS: Final = 1024
_MAX_DOUBTED_STEPS: Final = 128
"""Values up to which consumers are followed, and up to which those of a match in doubt are. A norm has some ten."""

_MAX_VISITS: Final = 8
"""How often a value is come to in doubt, from all anchors together."""


@dataclass
class SearchResult:
    """What one anchor led to: norms, each at its end, and near misses."""

    matches: list[Match] = field(default_factory=list)
    near_misses: list[NearMiss] = field(default_factory=list)
    furthest: Match | None = None
    """The match of the latest stage, whether a norm came of it or not."""
    steps: int = 0
    """Values whose consumers were looked at."""
    _known: set[NearMiss] = field(default_factory=set)

    def add(self, miss: NearMiss) -> None:
        """Keep `miss` once."""
        if miss not in self._known:
            self._known.add(miss)
            self.near_misses.append(miss)


def search(anchor: ir.Node, facts: Facts, *, allow_gain: bool = False) -> SearchResult:
    """Every norm that is anchored at `anchor`, in a time that does not depend on the size of the graph.

    `allow_gain`: also take norms whose statistics the model rounds to a half type.
    """
    result = SearchResult()
    start = _ANCHORS.get((anchor.domain, anchor.op_type))
    match = None if start is None else start(anchor, facts)
    if match is None:
        return result
    _follow(match, facts, result, allow_gain=allow_gain)
    last = result.furthest
    nothing = not result.matches and not result.near_misses
    if nothing and last is not None and last.stage > Stage.MEAN_SQUARE and not (last.is_sum or last.is_norm):
        result.add(last.doubt or near_miss("normed", anchor, "nothing divides x by its root"))
    return result


def _follow(start: Match, facts: Facts, result: SearchResult, *, allow_gain: bool) -> None:
    """Follow the consumers, depth first, each match once, as paths that part may meet again."""
    waiting: list[Match | NearMiss] = [start]
    seen: set[object] = set()
    while waiting:
        match = waiting.pop()
        if isinstance(match, NearMiss):
            result.add(match)
            continue
        # Once in doubt, a match is followed for its reason only.
        key = match if match.doubt is None else (match.value, match.stage, match.doubt)
        if key in seen or (match.doubt is not None and facts.visits[match.value, match.stage] >= _MAX_VISITS):
            continue
        seen.add(key)
        if match.doubt is not None:
            facts.visits[match.value, match.stage] += 1
        result.steps += 1
        if result.furthest is None or match.stage > result.furthest.stage:
            result.furthest = match
        steps = [_step(match, node, facts) for node in match.value.consumers()]
        if match.is_norm and (match.value.is_graph_output() or not all(isinstance(step, Match) for step in steps)):
            miss = _why_not(match, allow_gain=allow_gain)
            if miss is None:
                result.matches.append(match)
                continue
            if match.anchor.op_type != "LpNormalization":  # one node with a name of its own, which is not this one
                result.add(miss)
        if result.steps < (_MAX_STEPS if match.doubt is None else _MAX_DOUBTED_STEPS):
            waiting += [step for step in reversed(steps) if step is not None]
        elif match.doubt is None:
            result.add(near_miss("normed", match.anchor, f"more than {_MAX_STEPS} nodes read what is computed of it"))


def _why_not(match: Match, *, allow_gain: bool) -> NearMiss | None:
    """Why what looks like a norm at its end is not fused."""
    if match.doubt is not None:
        return match.doubt
    if match.is_sum:
        return near_miss("mean_square", match.anchor, "x is divided by the root of the sum of squares: an L2 norm")
    if match.dtype == ir.DataType.DOUBLE:
        return near_miss("casts", match.anchor, "the norm ends in float64; the op computes in float32")
    if match.gain is not None and not allow_gain:
        return replace(match.gain, reason=f"{match.gain.reason}; `allow_precision_gain=True` fuses it")
    return None


def _step(match: Match, node: ir.Node, facts: Facts) -> Match | NearMiss | None:
    if node.domain != "" or node.graph is not match.anchor.graph:
        return None
    for piece in _PIECES.get(node.op_type, ()):
        step = piece(match, node, facts)
        if step is not None:
            return step
    return None
