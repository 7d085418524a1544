"""Time of a norm with a SiLU gate on a GPU, behind it and in front of it, beside torch and what else is installed.

    python benchmarks/cuda/gates.py --output benchmarks/cuda/gates.json

As bench.py times: replays of a CUDA graph over tensors that together are larger than the L2. `% of memory` is of the
time in which a copy would move the same bytes: x and z read, and y written.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bench import buffers_of, microseconds
from peers import EPSILON, build, load
from torch import Tensor
from torch.nn import functional

from rms_deploy.ops.contract import ELEMENT_TYPES
from rms_deploy.runtime.gpus import gpus

SHAPES = ((65536, 128), (32768, 1024), (4096, 4096), (4096, 5120), (4096, 8192), (1, 4096))
GATES = {"behind": 1, "in front": 2}  # of contract.h
Gated = Callable[[Tensor, Tensor, Tensor, Tensor], Any]
"""Of (x, z, scale, y): writes y, or returns another tensor."""


def _ours(library: ctypes.CDLL, gate: int) -> Gated:
    def enqueue(x: Tensor, z: Tensor, scale: Tensor, y: Tensor) -> None:
        number = ELEMENT_TYPES[str(x.dtype).removeprefix("torch.")]
        pointers = x.data_ptr(), z.data_ptr(), scale.data_ptr(), y.data_ptr(), None
        stream = torch.cuda.current_stream().cuda_stream
        if error := library.norm(number, *pointers, *x.shape, 1, gate, 0, stream):
            raise SystemExit(f"launch: CUresult {error}")

    return enqueue


def _behind(x: Tensor, z: Tensor, scale: Tensor) -> Tensor:
    normed = functional.rms_norm(x.float(), (x.shape[1],), scale.float(), EPSILON)
    return (normed * functional.silu(z.float())).to(x.dtype)


def _in_front(x: Tensor, z: Tensor, scale: Tensor) -> Tensor:
    gated = x.float() * functional.silu(z.float())
    return functional.rms_norm(gated, (x.shape[1],), scale.float(), EPSILON).to(x.dtype)


def _fla() -> Gated:
    from fla.modules.fused_norm_gate import rms_norm_gated

    return lambda x, z, scale, y: rms_norm_gated(x, z, scale, None, eps=EPSILON)  # noqa: ARG005


def _mamba() -> Gated:
    from mamba_ssm.ops.triton.layernorm_gated import rmsnorm_fn

    return lambda x, z, scale, y: rmsnorm_fn(x, scale, None, z=z, eps=EPSILON, norm_before_gate=False)  # noqa: ARG005


def peers(library: ctypes.CDLL, early: ctypes.CDLL, place: str) -> dict[str, Gated]:
    torch.compiler.reset()
    eager, other = (_behind, ("fla", _fla)) if place == "behind" else (_in_front, ("mamba_ssm", _mamba))
    compiled = torch.compile(eager, dynamic=False, fullgraph=True)
    found: dict[str, Gated] = {
        "ours": _ours(library, GATES[place]),
        "ours, early": _ours(early, GATES[place]),
        "torch": lambda x, z, scale, y: eager(x, z, scale),  # noqa: ARG005
        "torch.compile": lambda x, z, scale, y: compiled(x, z, scale),  # noqa: ARG005
    }
    try:
        found[other[0]] = other[1]()
    except ImportError as error:
        print(f"{other[0]}: not run: {error}")
    return found


def check(name: str, enqueue: Gated, place: str, tensors: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    """A fast wrong kernel is not timed."""
    x, z, scale, y = tensors
    result = enqueue(x, z, scale, y)
    torch.cuda.synchronize()
    actual = (y if result is None else result)[:64].double()
    wide, gate = x[:64].double(), functional.silu(z[:64].double())
    source = wide if place == "behind" else wide * gate
    expected = source * torch.rsqrt(source.square().mean(1, keepdim=True) + EPSILON) * scale.double()
    expected = expected * gate if place == "behind" else expected
    torch.testing.assert_close(
        actual, expected, rtol=4 * torch.finfo(x.dtype).eps, atol=1e-5, msg=lambda m: f"{name}: {m}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    dtype, results = getattr(torch, arguments.dtype), []
    with tempfile.TemporaryDirectory() as folder:
        built = build(Path(folder))
        library, early = (load(built, launches_early=launches_early) for launches_early in (False, True))
        today = datetime.datetime.now(tz=datetime.timezone.utc).date()
        title = (
            f"{today}, {torch.cuda.get_device_name()}, driver {gpus()[0].driver}, torch {torch.__version__}, {dtype}"
        )
        print(title)
        for shape in SHAPES:
            buffers = buffers_of(shape, dtype, cold=True)
            copy, _ = microseconds(lambda x, scale, y: y.copy_(x), buffers)  # noqa: ARG005
            with_gate = [(x, torch.randn_like(x), scale, y) for x, scale, y in buffers]
            for place in GATES:
                for name, enqueue in peers(library, early, place).items():
                    check(name, enqueue, place, with_gate[0])
                    time, spread = microseconds(enqueue, with_gate)
                    percent = 100 * 1.5 * copy / time
                    results.append({"shape": shape, "gate": place, "kernel": name, "us": time, "copy": copy})
                    print(
                        f"{shape[0]:>6} x {shape[1]:<5} {place:>8} {name:>14} {time:9.2f} us, spread {spread:.2f}, "
                        f"{percent:.0f} % of memory", flush=True,
                    )  # fmt: skip
    if arguments.output is not None:
        arguments.output.write_text(json.dumps({"title": title, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
