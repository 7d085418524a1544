"""onnx's own evaluator, with the norm ops that it does not know, and with noise as large as rounding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

__all__ = ["Arrays", "evaluate", "noise"]

Arrays = dict[str, NDArray[Any]]


def _rms(x: NDArray[Any], scale: NDArray[Any], epsilon: float, axis: int = -1) -> NDArray[Any]:
    wide = x.astype(np.float32)
    axes = tuple(range(axis % x.ndim, x.ndim))
    root = np.sqrt(np.mean(wide * wide, axis=axes, keepdims=True) + np.float32(epsilon))
    return np.asarray(wide / root * scale.astype(np.float32)).astype(x.dtype)


class RMSNorm(OpRun):  # type: ignore[misc]
    """As the generator writes it; a model that has its body gets that."""

    op_domain = "rms_deploy"

    def _run(self, x: Any, scale: Any, epsilon: float = 1e-6, **_: Any) -> Any:
        return (_rms(x, scale, epsilon),)


class SimplifiedLayerNormalization(OpRun):  # type: ignore[misc]
    """Of ONNX Runtime."""

    op_domain = ""

    def _run(self, x: Any, scale: Any, epsilon: float | None = None, axis: int | None = None, **_: Any) -> Any:
        return (_rms(x, scale, 1e-5 if epsilon is None else epsilon, -1 if axis is None else axis),)


class SkipSimplifiedLayerNormalization(OpRun):  # type: ignore[misc]
    """Of ONNX Runtime."""

    op_domain = "com.microsoft"

    def _run(self, x: Any, skip: Any, scale: Any, epsilon: float | None = None, **_: Any) -> Any:
        total = x + skip
        normed = _rms(total, scale, 1e-12 if epsilon is None else epsilon)
        return (normed, np.float32(0), np.float32(0), total)[: len(self.output)]


def evaluate(path: Path, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
    """All outputs; whatever the evaluator raises is for the caller to judge."""
    functions = {function.name for function in onnx.load(path, load_external_data=False).functions}
    ops = [op for op in (RMSNorm, SimplifiedLayerNormalization, SkipSimplifiedLayerNormalization)
           if op.__name__ not in functions]  # fmt: skip
    evaluator = ReferenceEvaluator(str(path), new_ops=ops)
    with np.errstate(all="ignore"):
        return dict(zip(evaluator.output_names, evaluator.run(None, dict(feeds)), strict=True))


@contextmanager
def _noisy(rng: np.random.Generator) -> Iterator[None]:
    plain = OpRun.run

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        results = plain(self, *args, **kwargs)
        return tuple(_perturbed(result, rng) for result in results)

    OpRun.run = run
    try:
        yield
    finally:
        OpRun.run = plain


def _perturbed(array: Any, rng: np.random.Generator) -> Any:
    if not isinstance(array, np.ndarray) or not array.size or array.dtype.kind not in "fV":
        return array
    eps = float(ml_dtypes.finfo(array.dtype).eps)
    wide = array.astype(np.float64)
    return np.asarray(wide * (1 + eps * rng.uniform(-1, 1, array.shape))).astype(array.dtype)


def noise(path: Path, feeds: Mapping[str, NDArray[Any]], runs: int = 6) -> Arrays:
    """How far each output moves if the result of every operator is off by up to one unit in the last place.

    That is what a legal change of the order of rounding can do, amplified as this graph amplifies it: the largest
    distance of some runs, the largest of each row.
    """
    exact = evaluate(path, feeds)
    spread = {name: np.zeros(np.shape(array)) for name, array in exact.items()}
    for seed in range(runs):
        with _noisy(np.random.default_rng(seed)):
            for name, array in evaluate(path, feeds).items():
                distance = np.abs(np.asarray(array, np.float64) - np.asarray(exact[name], np.float64))
                spread[name] = np.fmax(spread[name], np.nan_to_num(distance, nan=0, posinf=np.inf))
    return {
        name: np.broadcast_to(array.max(axis=-1, keepdims=True, initial=0), array.shape) if array.ndim else array
        for name, array in spread.items()
    }
