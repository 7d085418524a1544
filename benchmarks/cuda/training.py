"""Time of a norm's forward and backward pass on a GPU: ours beside torch's RMSNorm and LayerNorm, and Liger's.

    python benchmarks/cuda/training.py --output benchmarks/cuda/training.json

A step is one call and its gradients for x and the weight, by CUDA events: `graph`, as replays of a CUDA graph of some
steps, in which the host has no part; and `eager`, as a training loop calls it, where the host may take most of it.
The steps take turns over tensors that together are larger than the L2. `GB/s` is of the least that a step moves: x read
and y written, then x and the gradient of y read and that of x written.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from rms_deploy.nn import RMSNorm
from rms_deploy.ops import torch_kernels
from rms_deploy.runtime.gpus import gpus

ROWS = 4096
LENGTHS = (1024, 4096, 8192)
STEPS = 8  # of one graph, each on tensors of its own
ROUNDS = 20
Step = Callable[[int], object]


def modules(n: int, dtype: torch.dtype) -> dict[str, nn.Module]:
    made: dict[str, nn.Module] = {
        "ours": RMSNorm(n, 1e-6, device="cuda", dtype=dtype),
        "torch RMSNorm": nn.RMSNorm(n, 1e-6, device="cuda", dtype=dtype),
        "torch LayerNorm": nn.LayerNorm(n, device="cuda", dtype=dtype),
    }
    try:
        from liger_kernel.transformers import LigerRMSNorm
    except ModuleNotFoundError:
        return made
    return {**made, "Liger": LigerRMSNorm(n, 1e-6, in_place=False).to("cuda", dtype)}


def step_of(module: nn.Module, inputs: list[Tensor], grads: list[Tensor]) -> Step:
    parameters = list(module.parameters())

    def step(i: int) -> object:
        y = module(inputs[i])
        return y, torch.autograd.grad(y, (inputs[i], *parameters), grads[i])

    return step


def check(step: Step, module: nn.Module, x: Tensor, grad: Tensor) -> None:
    """A fast wrong kernel is not timed: against the formula in float64."""
    y, gradients = step(0)  # type: ignore[misc]  # as step_of returns it
    wide, weight = x.detach().double().requires_grad_(), module.weight.detach().double().requires_grad_()
    expected = weight * wide * (wide.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    wanted = torch.autograd.grad(expected, (wide, weight), grad.double())
    for actual, exact in ((y, expected), *zip(gradients, wanted, strict=True)):
        error = (actual.double() - exact).abs().max() / exact.abs().max()
        assert error < 4 * torch.finfo(x.dtype).eps, float(error)


def graph_of(step: Step) -> torch.cuda.CUDAGraph:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for i in range(3):
            step(i)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(STEPS):
            step(i)
    return graph


def microseconds(run: Callable[[], object]) -> float:
    """Of one of STEPS steps."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) * 1000 / STEPS


def measure(n: int, dtype: torch.dtype) -> list[dict[str, object]]:
    """The kernels in turns, in one process: medians, and the spread from the tenth to the ninetieth percentile."""
    inputs = [torch.randn(ROWS, n, device="cuda").to(dtype).requires_grad_() for _ in range(STEPS)]
    grads = [torch.randn(ROWS, n, device="cuda").to(dtype) for _ in range(STEPS)]
    runs: dict[str, dict[str, Callable[[], object]]] = {}
    for name, module in modules(n, dtype).items():
        step = step_of(module, inputs, grads)
        if name == "ours":
            check(step, module, inputs[0], grads[0])
            if type(module(inputs[0]).grad_fn).__name__ != "_RMSNormBackward":
                raise SystemExit("ours runs in torch's operators here; nothing to measure")
        graph = graph_of(step)
        runs[name] = {"graph": graph.replay, "eager": lambda step=step: [step(i) for i in range(STEPS)]}
    times: dict[tuple[str, str], list[float]] = {}
    for turn in range(ROUNDS + 2):
        for name, ways in runs.items():
            for way, run in ways.items():
                if (time := microseconds(run)) and turn >= 2:
                    times.setdefault((name, way), []).append(time)
    least = 5 * ROWS * n * dtype.itemsize
    measured: list[dict[str, object]] = []
    for name in runs:
        row: dict[str, object] = {"kernel": name, "rows": ROWS, "n": n, "dtype": str(dtype).removeprefix("torch.")}
        for way in ("graph", "eager"):
            deciles = statistics.quantiles(times[name, way], n=10)
            row[f"{way}_us"] = round(statistics.median(times[name, way]), 2)
            row[f"{way}_spread_us"] = round(deciles[-1] - deciles[0], 2)
        row["gb_per_s"] = round(least / float(str(row["graph_us"])) / 1e3)
        measured.append(row)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="writes all figures as JSON")
    arguments = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, library {torch_kernels._library()}")
    print(f"{'rows x n':12} {'dtype':9} {'kernel':16} {'graph us':>9} {'spread':>7} {'GB/s':>6} {'eager us':>9}")
    results: list[dict[str, object]] = []
    for dtype in (torch.bfloat16, torch.float32):
        for n in LENGTHS:
            for row in measure(n, dtype):
                results.append(row)
                print(
                    f"{ROWS} x {n:<5} {row['dtype']:9} {row['kernel']:16} {row['graph_us']:9.1f} "
                    f"{row['graph_spread_us']:7.1f} {row['gb_per_s']:6} {row['eager_us']:9.1f}",
                    flush=True,
                )
            torch.cuda.empty_cache()
    if arguments.output is not None:
        found = gpus()[0]
        record = {
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "gpu": found.name,
            "driver": found.driver,
            "torch": torch.__version__,
            "results": results,
        }
        arguments.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
