"""Latency of one run on ONNX Runtime's CPU provider, one thread, for each model and norm.

    python benchmarks/paper/latency.py prepare FOLDER
    python benchmarks/paper/latency.py measure FOLDER --output benchmarks/paper/results/latency.json

decomposed  the norm as torch primitives; ONNX Runtime's own fusions of norms are off
one op      LayerNormalization of ONNX Runtime; RMSNorm and pRMSNorm fused by `rms_deploy.fuse`, with our library

All candidates of a model run in turns in one process; each turn lasts some milliseconds at least. A ratio is taken
within a round, and its median over the rounds reported.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from candidates import CANDIDATES, Candidate, against_layer_norm, conditions, layer_norm_primitives

from rms_deploy import export, fuse, onnxruntime_library
from rms_deploy.benchmark.turns import turns
from rms_deploy.exporter.model_source import resolve
from rms_deploy.exporter.module_tree import replaced

FUSIONS = [
    "LayerNormFusionL1",
    "LayerNormFusionL2",
    "SimplifiedLayerNormFusion",
    "SkipLayerNormFusion",
    "BiasSkipLayerNormFusion",
    "EmbedLayerNormFusion",
]
"""What ONNX Runtime 1.32 calls them."""
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "llama-small": {"input_ids": (1, 128)},
    "llama-decode-small": {"input_ids": (1, 1), "past": (1, 2, 128, 64)},
    "t5-encoder-small": {"input_ids": (1, 128)},
    "gru-small": {"input_ids": (1, 32)},
    "convnet-small": {"image": (1, 3, 128, 128)},
    "mamba2-small": {"input_ids": (1, 128)},
    "vit-small": {"image": (1, 3, 224, 224)},
}
_TURN = 0.02  # seconds
_ROUNDS = 15


def prepare(folder: Path) -> None:
    """Write every model in every form."""
    for model in SHAPES:
        for candidate in CANDIDATES:
            source = resolve(model, model_norm=candidate.norm)
            path = _path(folder, model, candidate)
            exporter = "dynamo" if model.startswith("gru") else "legacy"  # which writes no Scan
            layer_norm = candidate.norm == "layernorm"
            if candidate.norm.startswith("prmsnorm") and model.startswith("convnet") and candidate.form == "one op":
                # A partial mean over channels is not found in primitives: exported as the op it would be.
                export(model, path, model_norm=candidate.norm)
            else:
                with replaced(
                    source.module, layer_norm_primitives if candidate.form == "decomposed" else _nothing
                ) as module:
                    options: dict[str, Any] = {
                        "inputs": source.inputs,
                        "dynamic_shapes": source.dynamic_shapes,
                        "output_names": source.output_names,
                    }
                    export(module, path, norm="decomposed", exporter=exporter, **options)
                if candidate.form == "one op" and not layer_norm:
                    # The legacy exporter loses lengths, and with them the proof of some residual Adds.
                    assert all(miss.left == "residual" for miss in fuse(path, path).near_misses)
            print(path.name, flush=True)


def _nothing(_: torch.nn.Module) -> None:
    return None


def _path(folder: Path, model: str, candidate: Candidate) -> Path:
    return folder / f"{model}-{candidate.norm.replace(':', '')}-{candidate.form.replace(' ', '-')}.onnx"


def session(path: Path, form: str) -> ort.InferenceSession:
    """One thread; without ONNX Runtime's fusions of norms where they are to be decomposed."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.register_custom_ops_library(str(onnxruntime_library()))
    optimized = path.with_suffix(".optimized")
    options.optimized_model_filepath = str(optimized)
    disabled = FUSIONS if form == "decomposed" else []
    made = ort.InferenceSession(str(path), options, ["CPUExecutionProvider"], disabled_optimizers=disabled)
    names = {node.op_type for node in onnx.load(optimized).graph.node}
    assert form != "decomposed" or not any("Norm" in name for name in names), names
    return made


def feeds(made: ort.InferenceSession, shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    result: dict[str, Any] = {}
    for value in made.get_inputs():
        shape = shapes.get(value.name) or shapes[value.name.partition("_")[0]]
        integer = value.type == "tensor(int64)"
        result[value.name] = (
            generator.integers(0, 256, shape) if integer else generator.standard_normal(shape).astype(np.float32)
        )
    return result


def measure(folder: Path, model: str) -> dict[str, Any]:
    """Milliseconds of each candidate, and its ratio to LayerNorm in the same form."""
    sessions = {c.name: session(_path(folder, model, c), c.form) for c in CANDIDATES}
    inputs = {name: feeds(made, SHAPES[model]) for name, made in sessions.items()}
    times: dict[str, list[float]] = {name: [] for name in sessions}
    repeats = {}
    for name, made in sessions.items():  # warm-up
        started, runs = time.perf_counter(), 0
        while runs < 3 or time.perf_counter() - started < 0.1:
            made.run(None, inputs[name])
            runs += 1
        repeats[name] = max(1, round(_TURN / ((time.perf_counter() - started) / runs)))
    for _, name in turns(list(sessions), _ROUNDS):
        sessions[name].run(None, inputs[name])  # brings its weights back into the cache
        started = time.perf_counter()
        for _ in range(repeats[name]):
            sessions[name].run(None, inputs[name])
        times[name].append((time.perf_counter() - started) / repeats[name])
    return against_layer_norm(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["prepare", "measure"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, default=Path("latency.json"))
    arguments = parser.parse_args()
    if arguments.step == "prepare":
        arguments.folder.mkdir(exist_ok=True, parents=True)
        prepare(arguments.folder)
        return
    measured = {model: measure(arguments.folder, model) for model in SHAPES}
    result = {"conditions": conditions(1), "shapes": SHAPES, "models": measured}
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
