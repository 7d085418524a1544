"""Each norm run before it is replaced: as the model spells it, and as our op, on rows that tell the two apart."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import ml_dtypes
import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir
from numpy.typing import NDArray

from rms_deploy.fusion.grammar.match import Match
from rms_deploy.fusion.proof.reference_ops import NEW_OPS
from rms_deploy.fusion.proof.subgraph import Subgraph, cut
from rms_deploy.fusion.replacement import Replacement
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.upcast import Upcast
from rms_deploy.ops.element_types import is_quantized
from rms_deploy.ops.ulp import ulp_distance

__all__ = ["Proof", "Prover", "compare", "proven"]

_WIDE_ULPS: Final = 16
_HALF_ULPS: Final = 2
_HALF_FRACTION: Final = 0.05


@dataclass(frozen=True)
class Proof:
    """What running one subgraph showed."""

    max_ulp: int | None
    """The largest distance in units in the last place; None: it was not run."""
    why_not: str = ""
    """Why it was not run, or why it must not be fused."""
    passed: bool = True

    def then(self, other: Proof) -> Proof:
        """Of both steps one after the other: their distances add up at most."""
        total = None if self.max_ulp is None or other.max_ulp is None else self.max_ulp + other.max_ulp
        return Proof(total, self.why_not or other.why_not, passed=self.passed and other.passed)


class Prover:
    """Runs subgraphs, each kind of subgraph once, with onnx's own evaluator.

    Tolerance, where n elements are summed: in float32 and wider 16 ulp or sqrt(n) if that is more, as the two forms may
    add in another order and round some ten times; in half types 2 ulp, in one element of twenty, as those differences
    change an element only where they cross a rounding boundary. Codes are equal. Where the op gains precision it is
    held to the norm in float64 instead, within 2 ulp of a half type, for the model's own half statistics may be far
    from it.
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._proofs: dict[bytes, Proof] = {}

    def __call__(self, match: Match, op: Replacement) -> Proof:
        """Run the subgraph of `match` in both forms."""
        return proven(lambda: self._prove(match, op))

    def _prove(self, match: Match, op: Replacement) -> Proof:
        subgraph = cut(match, op, self._facts)
        if isinstance(subgraph, str):
            return Proof(None, subgraph)
        if subgraph.key not in self._proofs:
            self._proofs[subgraph.key] = _prove(subgraph, gains=match.gain is not None)
        return self._proofs[subgraph.key]


def _prove(subgraph: Subgraph, *, gains: bool) -> Proof:
    return compare(subgraph.original, subgraph.rewritten(), subgraph.shapes, subgraph.n, gains=gains)


def compare(
    before: onnx.ModelProto, after: onnx.ModelProto, shapes: dict[str, tuple[int, ...]], n: int, *, gains: bool = False
) -> Proof:
    """Run two models on inputs of these `shapes`, x first.

    Their first output is the norm of n elements, held to the tolerance; further outputs, and a norm that is quantised,
    must be equal bit for bit.
    """
    try:
        with _evaluating("onnx's evaluator does not run it"):
            original = onnx.reference.ReferenceEvaluator(before, new_ops=NEW_OPS)
            exact = onnx.reference.ReferenceEvaluator(_in_float64(before)) if gains else None
    except _NotRunError as error:
        return Proof(None, str(error))
    op = onnx.reference.ReferenceEvaluator(after, new_ops=NEW_OPS)
    worst = 0
    for rows, feeds in _feeds(before, shapes, n):
        try:
            with _evaluating("onnx's evaluator does not run it"):
                expected, *others = _run(original, feeds)
                truth = None if exact is None else _run(exact, {n: _widened(array) for n, array in feeds.items()})[0]
        except _NotRunError as error:
            return Proof(None, str(error))
        try:
            with _evaluating(f"run on {rows} rows, the op fails"):
                actual, *others_now = _run(op, feeds)
        except _NotRunError as error:
            return Proof(None, str(error), passed=False)
        reason, distance = _difference(actual, expected, n)
        worst = max(worst, distance)
        if truth is not None:
            reason = _far_from(truth, actual, n)
        if not all(map(_identical, others_now, others)):
            reason = reason or "the sum is another"
        if reason:
            return Proof(worst, f"run on {rows} rows, the op differs: {reason}", passed=False)
    return Proof(worst)


class _NotRunError(Exception):
    """onnx's evaluator did not run a model."""


@contextmanager
def _evaluating(failure: str) -> Iterator[None]:
    """What is raised, whatever it is, as one error."""
    try:
        yield
    except Exception as error:
        text = " ".join(str(error).split())[:120] or type(error).__name__
        raise _NotRunError(f"{failure}: {text}") from error


def proven(prove: Callable[[], Proof]) -> Proof:
    """What `prove` shows; whatever it raises makes a norm one that was not run, and loses nobody a model."""
    try:
        with _evaluating("the proof cannot be made"):
            return prove()
    except _NotRunError as error:
        return Proof(None, str(error))


def _run(evaluator: onnx.reference.ReferenceEvaluator, feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    names = {value.name for value in evaluator.proto_.graph.input}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # rows of zeros divide by zero where there is no epsilon
        return [np.asarray(result) for result in evaluator.run(None, {name: feeds[name] for name in names})]


def _identical(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _in_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    wide = ir.from_proto(model)
    Upcast(ir.DataType.DOUBLE)(wide)
    return ir.to_proto(wide)


def _widened(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float64) if array.dtype.kind not in "iub" else array


def _far_from(truth: NDArray[Any], actual: NDArray[Any], n: int) -> str:
    """How the op is further from the exact result than its own roundings, two in half types; empty if it is not."""
    reason, worst = _difference(actual, truth.astype(actual.dtype), n)
    return "" if actual.dtype.itemsize == 2 and worst <= _HALF_ULPS else reason


def _difference(actual: NDArray[Any], expected: NDArray[Any], n: int) -> tuple[str, int]:
    if actual.dtype != expected.dtype or actual.shape != expected.shape:
        return f"{actual.dtype}{list(actual.shape)}, not {expected.dtype}{list(expected.shape)}", 0
    if not actual.size:
        return "", 0
    if is_quantized(actual.dtype):  # both forms quantise the result of one op
        differing = np.count_nonzero(actual.view(np.uint8) != expected.view(np.uint8))
        return (f"{differing} of {actual.size} codes differ" if differing else ""), 0
    distance = ulp_distance(np.ascontiguousarray(actual), np.ascontiguousarray(expected))
    worst = int(distance.max())
    half = actual.dtype.itemsize == 2
    if worst > (_HALF_ULPS if half else max(_WIDE_ULPS, math.isqrt(n))):
        return ("NaN or infinity" if worst == np.iinfo(np.int64).max else f"{worst} ulp"), worst
    differing = np.count_nonzero(distance)
    if half and differing > max(2, _HALF_FRACTION * actual.size):
        return f"{differing} of {actual.size} elements are rounded otherwise", worst
    return "", worst


def _feeds(
    model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]], n: int
) -> Iterator[tuple[str, dict[str, NDArray[Any]]]]:
    """Rows of each kind. The rest of the inputs are random."""
    generator = np.random.default_rng(0)
    dtypes = {value.name: _numpy(value) for value in model.graph.input}
    others = {name: np.asarray(generator.standard_normal(shape)).astype(dtypes[name]) for name, shape in shapes.items()}
    x = generator.standard_normal(shapes["x"])
    outlier = x * np.where(generator.random(x.shape) < max(0.1, 1 / max(n, 1)), 300.0, 1.0)
    # Below the largest square whose sum is finite: in float32 the statistics of both forms overflow beyond it.
    limit = float(ml_dtypes.finfo(dtypes["x"]).max)  # type: ignore[no-untyped-call]
    largest = min(limit / 2, math.sqrt(float(np.finfo(np.float32).max) / max(n, 1)) / 2)
    peak = float(np.abs(x).max(initial=1.0))
    kinds = {
        "random": x,
        "small": x * 1e-2,
        "outlier": outlier,
        "zero": np.zeros_like(x),
        "near-overflow": x / peak * largest,
    }
    for kind, rows in kinds.items():
        yield kind, {**others, "x": rows.astype(dtypes["x"])}


def _numpy(value: onnx.ValueInfoProto) -> np.dtype[Any]:
    return np.dtype(ir.DataType(value.type.tensor_type.elem_type).numpy())
