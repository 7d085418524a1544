"""Time of a norm's forward and backward pass in torch (CPU): ours beside torch's LayerNorm and RMSNorm.

    taskset -c 1 python benchmarks/op/training.py

The modules take their steps in turns in one process: a step is one call and one `backward` with a given gradient, to
the gradients of x and of the weight. `faults` are the pages that a step touched first: the allocator decides, from step
to step, whether an output is memory that it still has, and a fresh page takes longer than all that a norm computes in
it.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time

import torch

from rms_deploy.nn import RMSNorm
from rms_deploy.runtime.machine import machine

SHAPES = [(8, 96), (32, 512), (512, 512), (4096, 512), (2048, 2048)]
TARGETS = {(8, 96): 1.2, (32, 512): 1.2, (512, 512): 0.75, (4096, 512): 0.75, (2048, 2048): 0.85}
"""Ours over LayerNorm, in float32 on one thread."""


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def measure(rows: int, n: int, dtype: torch.dtype, seconds: float) -> dict[str, tuple[float, float, float]]:
    """Microseconds of a step, the least and the median of the rounds, and faults, of each module."""
    x = torch.randn(rows, n).to(dtype).requires_grad_()
    grad = torch.randn(rows, n).to(dtype)
    kinds = {"LayerNorm": torch.nn.LayerNorm, "RMSNorm": torch.nn.RMSNorm, "ours": RMSNorm}
    modules = {name: kind(n, dtype=dtype) for name, kind in kinds.items()}

    def steps(module: torch.nn.Module, count: int) -> None:
        for _ in range(count):
            x.grad = None
            module.zero_grad(set_to_none=True)
            module(x).backward(grad)

    count = max(4, 200_000 // (rows * n))
    times: dict[str, list[float]] = {name: [] for name in modules}
    touched = dict.fromkeys(modules, 0)
    for module in modules.values():
        steps(module, 3 * count)
    names = list(modules)
    turn, end = 0, time.perf_counter() + seconds
    while turn < 9 or time.perf_counter() < end:
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            before, started = faults(), time.perf_counter()
            steps(modules[name], count)
            times[name].append((time.perf_counter() - started) / count * 1e6)
            touched[name] += faults() - before
        turn += 1
    return {name: (min(t), statistics.median(t), touched[name] / turn / count) for name, t in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="of torch (default 1)")
    parser.add_argument("--seconds", type=float, default=8.0, help="for each shape (default 8)")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    here = machine()
    print(f"{here.cpu}, load {here.load}, torch {torch.__version__}, {arguments.threads} threads, {arguments.dtype}")
    print("microseconds of a step, the least of the rounds and (the median)")
    for shape in SHAPES:
        measured = measure(*shape, getattr(torch, arguments.dtype), arguments.seconds)
        print(f"{shape[0]}x{shape[1]}")
        ours = measured["ours"]
        for name, (least, median, touched) in measured.items():
            ratios = f"{ours[0] / least:5.2f} ({ours[1] / median:.2f})"
            print(f"  {name:9} {least:8.0f} ({median:.0f}), {touched:.0f} faults; ours takes {ratios} of it")
        print(f"  target: {TARGETS[shape]} of LayerNorm")


if __name__ == "__main__":
    main()
