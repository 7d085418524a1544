"""A benchmark's result that was made up: two candidates, a failed one, a sweep, operator times."""

from __future__ import annotations

from dataclasses import replace

from rms_deploy.benchmark.latency import Latency, Speedup
from rms_deploy.benchmark.method import Method
from rms_deploy.benchmark.operator_times import Operator, OperatorTimes
from rms_deploy.benchmark.provenance import Provenance
from rms_deploy.benchmark.result import BenchmarkResult, CandidateResult, Point
from rms_deploy.runtime.machine import Machine

LAUNCHES, ROUNDS = 5, 2


def latency(median: float) -> Latency:
    """Every round has runs of 0.9, 1 and 1.1 times its median, and the rounds differ by 1 % at most."""
    levels = [median * (1 + i / 1000) for i in range(LAUNCHES * ROUNDS)]
    rounds = [[level * run for run in (0.9, 1.0, 1.1)] for level in levels]
    return Latency.of([rounds[i : i + ROUNDS] for i in range(0, len(rounds), ROUNDS)], seconds=1.0)


def operator_times(norms: float, *, fused: bool) -> OperatorTimes:
    operators = (
        Operator("rest", "Softmax", 2, 60.0),
        Operator("matmul", "MatMul", 4, 80.0 - norms),
        Operator("norms", "AddRMSNorm" if fused else "Mul", 2, norms),
    )
    return OperatorTimes(operators, 20, 3.5, 4096 if fused else 0, 1.5 if fused else None)


def candidates(scale: float = 1.0) -> tuple[CandidateResult, ...]:
    first, second = latency(200 * scale), latency(160 * scale)
    known = {"load_seconds": 0.02, "first_run_seconds": 0.001, "memory_before": 90 * 2**20, "peak_memory": 120 * 2**20}
    return (
        CandidateResult("<m&1>.onnx", name="decomposed", norm_counts={"decomposed RMSNorm": 2}, latency=first,
                  operator_times=operator_times(20, fused=False), settled=True, **known),
        CandidateResult("<m&1>.onnx", name="fused", norm_counts={"fused AddRMSNorm": 2}, latency=second, settled=False,
                  speedup=Speedup.of(first, second), operator_times=operator_times(5, fused=True), **known),
        CandidateResult("<m&1>.onnx", name="standard", failure="1 of 2 norms cannot take this form | <b>"),
    )  # fmt: skip


def result(*, scale: float = 1.0, sweep: bool = True) -> BenchmarkResult:
    norm = {
        "kind": "RMSNorm", "form": "decomposed", "node": "mul_1", "place": "layers.0.norm", "dtype": "float32",
        "axes": [-1], "n": 64, "epsilon": 1e-5, "rms_epsilon": 0.0, "rms_min": 0.0, "partial_size": None,
        "rounding": None, "scale": "float32[64]", "note": "fuse takes it", "max_ulp": None, "unproven": "",
    }  # fmt: skip
    miss = {"node": "div_3", "piece": "root", "reason": "epsilon is 2", "place": ""}
    points = [Point(candidates(scale), {"x": (1, 64)}, {"seq": 1})]
    if sweep:
        points += [Point(candidates(scale * size), {"x": (size, 64)}, {"seq": size}) for size in (16, 128)]
    else:
        points = [replace(points[0], dims={})]
    return BenchmarkResult(
        points=tuple(points),
        method=Method(launches=LAUNCHES, rounds=ROUNDS),
        provenance=Provenance(
            machine=Machine("a processor", 2, 2, "a system", 0.1),
            versions={"python": "3.11", "onnxruntime": "1.32.0"},
            date="2026-01-01T00:00:00+00:00",
            command="rms-deploy bench '<m&1>.onnx' --compare decomposed,fused,standard",
        ),
        inspection={"form_count": {"decomposed RMSNorm": 1}, "norms": [norm], "near_misses": [miss]},
    )
