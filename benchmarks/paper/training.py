"""Time of a training step in torch (forward and backward, CPU, one thread) for each model and norm.

    python benchmarks/paper/training.py --output benchmarks/paper/results/training.json

decomposed  the norm as torch primitives, differentiated by autograd
one op      torch's LayerNorm; RMSNorm and pRMSNorm of `rms_deploy.nn`, with their backward pass in closed form

All candidates of a model take their steps in turns in one process.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from candidates import CANDIDATES, against_layer_norm, conditions, primitives

from rms_deploy.benchmark.turns import turns
from rms_deploy.exporter.model_source import resolve
from rms_deploy.exporter.module_tree import replaced

SHAPES: dict[str, tuple[int, ...]] = {
    "llama-small": (1, 64),
    "t5-encoder-small": (1, 64),
    "gru-small": (8, 16),
    "convnet-small": (1, 3, 128, 128),
    "mamba2-small": (1, 64),
    "vit-small": (1, 3, 224, 224),
}
_ROUNDS = 9


def step(module: torch.nn.Module, x: torch.Tensor) -> None:
    """The mean square of the output stands for a loss: its gradient has no structure of its own."""
    module.zero_grad(set_to_none=True)
    module(x).square().mean().backward()


def measure(model: str) -> dict[str, Any]:
    """Milliseconds of each candidate, and its ratio to LayerNorm in the same form."""
    generator = torch.Generator().manual_seed(0)
    shape = SHAPES[model]
    x = torch.randn(shape, generator=generator) if len(shape) == 4 else torch.randint(256, shape, generator=generator)
    with ExitStack() as stack:
        modules = {}
        for candidate in CANDIDATES:
            module = resolve(model, model_norm=candidate.norm).module.train()
            if candidate.form == "decomposed":
                module = stack.enter_context(replaced(module, primitives))
            modules[candidate.name] = module
        times: dict[str, list[float]] = {name: [] for name in modules}
        for module in modules.values():
            step(module, x)
        for _, name in turns(list(modules), _ROUNDS):
            started = time.perf_counter()
            step(modules[name], x)
            times[name].append(time.perf_counter() - started)
    return against_layer_norm(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("training.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    measured = {model: measure(model) for model in SHAPES}
    result = {"conditions": conditions(1), "shapes": SHAPES, "models": measured}
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
