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

from rms_deploy.fusion.grammar import casts, floor, foreign, layout, mean_square, normed, pooling, root, scaled, size
from rms_deploy.fusion.grammar.match import Match, Stage
from rms_deploy.fusion.near_miss import NearMiss, near_miss
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.ops.foreign_ops import CONTRIB_DOMAIN, RMS_NORMALIZATION, SIMPLIFIED_LAYER_NORMALIZATION
from rms_deploy.ops.nodes import label

__all__ = ["SearchResult", "search"]

_Piece = Callable[[Match, ir.Node, Facts], Match | NearMiss | None]

_ANCHORS: dict[tuple[str, str], Callable[[ir.Node, Facts], Match | None]] = {
    ("", "AveragePool"): pooling.anchor_pool,
    ("", "Conv"): pooling.anchor_product,
    ("", "Einsum"): mean_square.anchor_einsum,
    ("", "GlobalAveragePool"): mean_square.anchor,
    ("", "LpNormalization"): mean_square.anchor_normalized,
    ("", "MatMul"): pooling.anchor_product,
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
    "Abs": (floor.never_negative,),
    "Add": (root.add_epsilon,),
    "Cast": (casts.cast,),
    "CastLike": (casts.cast,),
    "Clip": (floor.clip,),
    "Div": (scaled.times_one, size.average, root.invert, normed.normed, normed.scale_inverse),
    "DequantizeLinear": (casts.quantize,),
    "Expand": (casts.expand,),
    "Flatten": (layout.reshape,),
    "Identity": (casts.identity,),
    "Max": (floor.floor,),
    "Min": (floor.ceiling,),
    "Mul": (scaled.times_one, size.average, root.undo_root, normed.normed, normed.scale_inverse, scaled.scaled),
    "Pow": (root.power,),
    "QuantizeLinear": (casts.quantize,),
    "Reciprocal": (root.invert,),
    "ReduceMean": (mean_square.again,),
    "ReduceSum": (mean_square.again,),
    "Relu": (floor.never_negative,),
    "Reshape": (layout.reshape,),
    "Sqrt": (root.sqrt,),
    "Squeeze": (layout.squeeze,),
    "Sub": (root.subtract_epsilon, mean_square.variance),
    "Sum": (root.add_epsilon,),
    "Transpose": (layout.transpose,),
    "Unsqueeze": (layout.unsqueeze,),
    "Where": (floor.where,),
}


_DOMAINS: Final = dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), ("", CONTRIB_DOMAIN))
"""Of the operators that pieces take from other domains too."""

_PRODUCTS: Final = ("Conv", "MatMul")
"""Anchors that weight squares, which much else does too: they are near misses only where a root follows."""

_ASIDE: Final = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Shape", "Size")
"""What reads statistics beside the norm."""

_STAGES: Final = {Stage.MEAN_SQUARE: "mean_square", Stage.INVERSE_MEAN_SQUARE: "mean_square"}
_STAGES.update(dict.fromkeys((Stage.ROOT, Stage.INVERSE_ROOT, Stage.ROUNDED_INVERSE), "root"))

_L2_NORM: Final = "x is divided by the root of the sum of squares: an L2 norm"

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
    is_variance: bool = False
    """Whether the squares are those of a LayerNorm or the like."""
    steps: int = 0
    """Values whose consumers were looked at."""
    _known: set[NearMiss] = field(default_factory=set)

    def add(self, miss: NearMiss) -> None:
        """Keep `miss` once; a variance is none."""
        if miss.piece == mean_square.VARIANCE:
            self.is_variance = True
        elif miss not in self._known:
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
    if last is not None and not (result.matches or result.near_misses or result.is_variance):
        is_product = anchor.op_type in _PRODUCTS and last.stage == Stage.MEAN_SQUARE
        if not is_product and anchor.op_type != "LpNormalization":
            result.add(last.doubt or _end_of(last))
    return result


def _end_of(match: Match) -> NearMiss:
    """Why nothing comes of the statistics that `match` reached."""
    anchor = match.anchor
    if match.is_norm and match.is_sum:
        return near_miss("mean_square", anchor, _L2_NORM)
    node = next((node for node in match.value.consumers() if node.op_type not in _ASIDE), None)
    if node is None:
        return near_miss("normed", anchor, "nothing divides x by its root")
    if node.graph is not anchor.graph:
        return near_miss("normed", anchor, f"{label(node)} is in a body of its own, which may run more often")
    name = label(node) if node.op_type in label(node) else f"{label(node)} ({node.op_type})"
    return near_miss(_STAGES.get(match.stage, "normed"), anchor, f"{name} is not a piece of a norm")


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
        if result.furthest is None or match.stage >= result.furthest.stage:
            result.furthest = match
        steps = [_step(match, node, facts) for node in match.value.consumers()]
        ends = match.is_norm and not (match.is_sum and match.factor is not None)  # before it, its norm has ended
        if ends and (match.value.is_graph_output() or not all(isinstance(step, Match) for step in steps)):
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
        return near_miss("mean_square", match.anchor, _L2_NORM)
    if match.dtype == ir.DataType.DOUBLE:
        return near_miss("casts", match.anchor, "the norm ends in float64; the op computes in float32")
    if match.gain is not None and not allow_gain:
        return replace(match.gain, reason=f"{match.gain.reason}; `allow_precision_gain=True` fuses it")
    return None


def _step(match: Match, node: ir.Node, facts: Facts) -> Match | NearMiss | None:
    if node.domain not in _DOMAINS.get(node.op_type, ("",)):
        return None
    here = match.value.producer() if match.is_norm else match.anchor  # a scale in a branch does not take its norm there
    if here is None or (node.graph is not here.graph and (match.is_norm or not facts.is_in_branch(node, here))):
        return None
    for piece in _PIECES.get(node.op_type, ()):
        step = piece(match, node, facts)
        if step is not None:
            return step
    return None
