"""Plugin against decomposed: two engines of one model, timed in turns on this GPU."""

from __future__ import annotations

from typing import Any, Final

import onnx_ir as ir

from rms_deploy.benchmark.latency import Latency, Speedup
from rms_deploy.benchmark.timing import measure
from rms_deploy.benchmark.turns import turns
from rms_deploy.engine.record import NormTiming
from rms_deploy.onnx_model.inputs import random_inputs
from rms_deploy.onnx_model.optimization_profiles import OptimizationProfile
from rms_deploy.runtime.tensorrt_api import TensorRT

__all__ = ["time_engines"]

_LAUNCHES: Final = 5
"""Each loads both engines anew. A loaded engine keeps its place in memory, and that sets its speed."""
_ROUNDS: Final = 4
_ROUND_SECONDS: Final = 0.1
_WARMUP_SECONDS: Final = 0.2


def time_engines(
    api: TensorRT, plugin: Any, decomposed: Any, model: ir.Model, profile: OptimizationProfile, *, embedded: bool
) -> NormTiming:
    """Run both on the same inputs of the profile's usual shapes, as CUDA graphs, a tenth of a second each in turns.

    Args:
        api: the runtime that built them.
        plugin: a plan.
        decomposed: another one.
        model: that both were built from.
        profile: the first of theirs.
        embedded: the first plan holds the plugin library.

    Raises:
        RunError: one of them does not run here.
    """
    from rms_deploy.runtime import tensorrt_session as runtime

    feeds = random_inputs(model, {name: shapes.opt for name, shapes in profile.items()})
    launches: list[list[list[list[float]]]] = [[], []]
    for _ in range(_LAUNCHES):
        runs = [
            runtime.bound_run(runtime.session(plan, runtime=api.name, embedded_plugin=holds, cuda_graph=True), feeds)
            for plan, holds in ((plugin, embedded), (decomposed, False))
        ]
        for run, rounds in zip(runs, launches, strict=True):
            measure(run, _WARMUP_SECONDS)
            rounds.append([])
        for _, index in turns(range(len(runs)), _ROUNDS):
            launches[index][-1].append(measure(runs[index], _ROUND_SECONDS))
    ours, theirs = (Latency.of(each) for each in launches)
    return NormTiming(ours, theirs, Speedup.of(theirs, ours))
