"""The CUDA kernels beside a device-to-device copy and what else is installed: see README.md."""

from __future__ import annotations

import argparse
import datetime
import json
import math
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peers import EPSILON, Enqueue, build, load, peers
from table import Measured, fill, rows_of

from rms_deploy.runtime.gpus import gpus

ROWS = (1, 8, 64, 512, 4096, 32768)
LENGTHS = (128, 1024, 4096, 8192, 16384, 65536)
CHANNELS = ((1, 512, 49), (64, 512, 49), (64, 256, 196), (32, 128, 784), (64, 64, 3136))  # outer, n, inner
LAUNCHES = 20  # of one graph
REPLAYS = 30
Buffers = list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


def microseconds(enqueue: Callable[..., Any], buffers: Sequence[tuple[torch.Tensor, ...]]) -> tuple[float, float]:
    """Median and spread (tenth to ninetieth percentile) of one launch, over replays of a graph of LAUNCHES launches.

    What a kernel allocates for its result is kept until the launch that reads the same x again: memory that it got back
    at once would still be in the L2.
    """
    results: list[Any] = [None] * len(buffers)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for arguments in buffers[:3]:  # compiles, loads
            enqueue(*arguments)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for i in range(LAUNCHES):
            results[i % len(buffers)] = None
            results[i % len(buffers)] = enqueue(*buffers[i % len(buffers)])
    times = []
    for _ in range(REPLAYS + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1000 / LAUNCHES)
    deciles = statistics.quantiles(times[3:], n=10)
    return statistics.median(times[3:]), deciles[-1] - deciles[0]


def buffers_of(shape: tuple[int, ...], dtype: torch.dtype, *, cold: bool) -> Buffers:
    """One set of tensors; or so many that the launches between two uses of one move three times the L2."""
    bytes_of_set = 2 * math.prod(shape) * dtype.itemsize
    l2 = torch.cuda.get_device_properties(0).L2_cache_size
    sets = min(LAUNCHES, 1 + 3 * l2 // bytes_of_set) if cold else 1
    scale = torch.randn(shape[1], device="cuda", dtype=dtype)
    inputs = (torch.randn(shape, device="cuda").to(dtype) for _ in range(sets))
    return [(x, scale, torch.empty_like(x)) for x in inputs]


def check(name: str, enqueue: Enqueue, buffers: Buffers) -> None:
    """A fast wrong kernel is not timed."""
    x, scale, y = buffers[0]
    result = enqueue(x, scale, y)
    torch.cuda.synchronize()
    actual = (y if result is None else result)[:64].double()
    wide = x[:64].double()
    expected = (
        wide
        * torch.rsqrt(wide.square().mean(1, keepdim=True) + EPSILON)
        * scale.double().reshape(-1, *[1] * (x.ndim - 2))
    )
    torch.testing.assert_close(
        actual, expected, rtol=4 * torch.finfo(x.dtype).eps, atol=1e-5, msg=lambda m: f"{name}: {m}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--rows", type=int, nargs="*", default=ROWS)
    parser.add_argument("--cold", action="store_true", help="only tensors that are not in the L2")
    parser.add_argument("--no-channels", action="store_true", help="rows only")
    parser.add_argument("--n", type=int, nargs="*", default=LENGTHS)
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    parser.add_argument("--fill", action="store_true", help="write them into the table of README.md")
    arguments = parser.parse_args()
    results = []
    dtype = getattr(torch, arguments.dtype)
    with tempfile.TemporaryDirectory() as folder:
        built = build(Path(folder))
        library, early = (load(built, launches_early=launches_early) for launches_early in (False, True))
        today = datetime.datetime.now(tz=datetime.timezone.utc).date()
        title = (
            f"{today}, {torch.cuda.get_device_name()}, driver {gpus()[0].driver}, torch {torch.__version__}, "
            f"{arguments.dtype}: `python benchmarks/cuda/bench.py --dtype {arguments.dtype} --fill`"
        )
        print(title)
        print(f"{'shape':>14} {'L2':>5} {'kernel':>14} {'us':>9} {'spread':>7} {'GB/s':>7} {'% of copy':>9}")
        shapes: list[tuple[int, ...]] = [(rows, n) for rows in arguments.rows for n in arguments.n]
        for shape in [*shapes, *(() if arguments.no_channels else CHANNELS)]:
            for cold in (True,) if arguments.cold else (True, False):
                buffers = buffers_of(shape, dtype, cold=cold)
                copy = 0.0
                for name, enqueue in peers(library, early, rows=len(shape) == 2).items():
                    if name != "copy":
                        check(name, enqueue, buffers)
                    time, spread = microseconds(enqueue, buffers)
                    copy = time if name == "copy" else copy
                    results.append(Measured(shape, cold, name, time, copy))
                    speed = 2 * math.prod(shape) * dtype.itemsize / time / 1000
                    print(
                        f"{'x'.join(map(str, shape)):>14} {'cold' if cold else 'warm':>5} {name:>14} {time:9.2f} "
                        f"{spread:7.2f} {speed:7.0f} {100 * copy / time:9.0f}", flush=True,
                    )  # fmt: skip
    print("\n".join(["", *rows_of(results)]))
    if arguments.output is not None:
        text = json.dumps({"title": title, "results": [result._asdict() for result in results]}, indent=1)
        arguments.output.write_text(text + "\n")
    if arguments.fill:
        fill(Path(__file__).with_name("README.md"), results, title)


if __name__ == "__main__":
    main()
