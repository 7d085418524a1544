"""Loss of two character language models over their training, with each norm.

    python benchmarks/paper/curves.py --output benchmarks/paper/results/curves.json

The text is that of Python's `help`, `pydoc_data.topics`, as bytes: nine tenths to train on, the last to measure. The
models are llama-tiny and gru-tiny; every norm has the same initial matrices, the same batches and the same learning
rate (Adam), chosen for none of them. Norms start as 1, biases as 0. All norms are spelled in torch's primitives, whose
gradient is that of the ops.
"""

from __future__ import annotations

import argparse
import json
import zlib
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from candidates import conditions, primitives
from torch import Tensor, nn

from rms_deploy.exporter.model_source import resolve
from rms_deploy.exporter.module_tree import replaced

NORMS = ("layernorm", "rmsnorm", "prmsnorm:0.0625", "none")
STEPS = {"llama-tiny": 250, "gru-tiny": 100}
SEEDS = (0,)
_BATCH, _LENGTH = 16, 48
_RATE = 3e-3
_EVERY = 10


def corpus() -> tuple[Tensor, Tensor]:
    """int64 bytes: to train on, and held out."""
    text = "\n".join(topics[name] for name in sorted(topics)).encode()
    data = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    held_out = len(data) // 10
    return data[:-held_out], data[-held_out:]


def batch(data: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    starts = torch.randint(len(data) - _LENGTH, (count,), generator=generator)
    rows = data[starts[:, None] + torch.arange(_LENGTH + 1)]
    return rows[:, :-1], rows[:, 1:]


@torch.no_grad()
def initialize(module: nn.Module, seed: int) -> None:
    """Matrices by the name they have, so that they do not depend on the norm; vectors as training starts them."""
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            generator = torch.Generator().manual_seed(zlib.crc32(f"{name} {seed}".encode()))
            parameter.normal_(0.0, parameter.shape[-1] ** -0.5, generator=generator)
        else:
            parameter.fill_(float(name.endswith("weight")))


def loss_of(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Bits per byte are this over log 2."""
    return F.cross_entropy(module(x).flatten(0, 1), y.flatten())


def train(model: str, norm: str, seed: int) -> dict[str, Any]:
    """Loss on the held-out text every so many steps: [[step, nats per byte], ...]."""
    data, held_out = corpus()
    module = resolve(model, model_norm=norm).module.train()
    initialize(module, seed)
    with replaced(module, primitives) as spelled:
        points = _train(spelled, STEPS[model], seed, data, held_out)
    print(f"{model} {norm} {seed}: {points[-1][1]:.4f}", flush=True)
    return {"seed": seed, "loss": points}


def _train(module: nn.Module, steps: int, seed: int, data: Tensor, held_out: Tensor) -> list[list[float]]:
    optimizer = torch.optim.Adam(module.parameters(), lr=_RATE)
    generator = torch.Generator().manual_seed(seed)
    check = batch(held_out, 64, torch.Generator().manual_seed(99))
    points = []
    for step in range(steps + 1):
        if step % _EVERY == 0:
            with torch.no_grad():
                points.append([step, float(loss_of(module, *check))])
        optimizer.zero_grad(set_to_none=True)
        loss_of(module, *batch(data, _BATCH, generator)).backward()
        optimizer.step()
    return points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("curves.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    curves = {model: {norm: [train(model, norm, seed) for seed in SEEDS] for norm in NORMS} for model in STEPS}
    settings = {"batch": _BATCH, "length": _LENGTH, "rate": _RATE, "bytes": sum(map(len, corpus()))}
    result = {"conditions": conditions(1), "settings": settings, "curves": curves}
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
