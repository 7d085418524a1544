"""What TensorRT-RTX makes of the norms of the built-in models, in three forms, as far as it tells without a GPU.

    python benchmarks/engine/layers.py --output benchmarks/engine/layers.md

decomposed  Pow, ReduceMean and so on, as exporters write them
standard    ONNX's RMSNormalization
plugin      our kernels

For each: the layers of the network after parsing, what is left once the builder has removed those without use, and the
layers of the engine. A layer of the engine that its compiler made (`ForeignNode`) holds many of the network; which
kernels it has inside is decided where the engine runs, and nothing tells it here. Nothing is timed.
"""

from __future__ import annotations

import argparse
import datetime
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import onnx_ir as ir
import tensorrt_rtx as trt

import rms_deploy
from rms_deploy.engine.parser_input import with_decomposed_norms, with_plugin_norms
from rms_deploy.engine.source_model import SourceModel, source_model
from rms_deploy.models import MODELS
from rms_deploy.onnx_model.optimization_profiles import resolve_profiles
from rms_deploy.runtime.tensorrt_api import tensorrt
from rms_deploy.runtime.tensorrt_plugin import load_plugins

FORMS = ("decomposed", "standard", "plugin")


class Built(NamedTuple):
    """What the builder says of one engine."""

    parsed: Counter[str]
    """Layers of the network by type."""
    used: str
    engine: list[str]
    """Its layers."""


class Log(trt.ILogger):  # type: ignore[misc]  # of a module that has no types
    """All that TensorRT says."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.text = ""

    def log(self, _severity: Any, message: str) -> None:
        self.text += message + "\n"


def built(model: ir.Model, source: SourceModel) -> Built:
    """Parse and build for one GPU."""
    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    if not parser.parse(ir.to_proto(model).SerializeToString(), str(source.path)):
        raise SystemExit(f"{source.name}: {parser.get_error(0).desc()}")
    types = Counter(network.get_layer(index).type.name for index in range(network.num_layers))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM120, 0)
    profile = builder.create_optimization_profile()
    for name, shapes in resolve_profiles(source.model, ())[0].items():
        profile.set_shape(name, *shapes)
    config.add_optimization_profile(profile)
    if builder.build_serialized_network(network, config) is None:
        raise SystemExit(f"{source.name}: no engine")
    used = re.search(r"After dead-layer removal: (\d+) layers", log.text)
    return Built(types, used.group(1) if used else "?", re.findall(r"^Layer\((.+?)\): ", log.text, re.MULTILINE))


def forms(fused: Path, folder: Path) -> Iterator[tuple[str, Built]]:
    """Each form of one model."""
    with source_model(fused) as source:
        yield "decomposed", built(with_decomposed_norms(source.model), source)
        yield "plugin", built(with_plugin_norms(source.model)[0], source)
    standard = folder / "standard.onnx"
    rms_deploy.fuse(fused, standard, target="standard", functions=False)
    with source_model(standard) as source:
        if any(norm.form == "fused" for norm in rms_deploy.inspect(standard).norms):
            return  # ONNX's operator cannot express it
        yield "standard", built(source.model, source)


def rows(name: str, folder: Path) -> Iterator[str]:
    """The lines of the table for one model."""
    path = folder / "model.onnx"
    count = len(rms_deploy.export(name, path).norms)
    found = dict(forms(path, folder))
    for form in FORMS:
        if form not in found:
            yield f"| {name} | {count} | {form} | ONNX's operator cannot express all of them | | | |"
            continue
        types, used, engine = found[form]
        norms = types["PLUGIN_V3"] + types["NORMALIZATION"]
        layers = ", ".join(f"{number} {kind}" for kind, number in Counter(engine).items())
        yield f"| {name} | {count} | {form} | {types.total()} | {norms or ''} | {used} | {layers} |"


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    api = tensorrt("tensorrt-rtx")
    load_plugins(api)
    lines = [
        "| model | norms | form | layers parsed | of them norms | after dead-layer removal | layers of the engine |",
        "|---|--:|---|--:|--:|--:|---|",
    ]
    for name in (name for name in MODELS if name.endswith("-tiny")):
        with tempfile.TemporaryDirectory() as folder:
            for line in rows(name, Path(folder)):
                print(line, flush=True)
                lines.append(line)
    today = datetime.datetime.now(tz=datetime.timezone.utc).date()
    title = f"{today}, {api.name} {api.version}, built for sm120 without a GPU: `python benchmarks/engine/layers.py`"
    arguments.output.write_text("\n".join(["# Norms in TensorRT-RTX", "", title, "", *lines]) + "\n")


if __name__ == "__main__":
    main()
