"""The layers of an engine as a table: drawn on a terminal, plain columns in a pipe."""

from __future__ import annotations

from pathlib import Path

from rms_deploy.cli.console import print_json, stdout
from rms_deploy.cli.table import print_table
from rms_deploy.engine.inspect_engine import EngineInspection, inspect_engine

__all__ = ["print_engine"]


def print_engine(path: Path, *, as_json: bool) -> None:
    """One line a layer, then what the layers are and where they are known from."""
    inspection = inspect_engine(path)
    if as_json:
        print_json(inspection.to_dict())
        return
    rows = [(layer.name, layer.type, f"{layer.norm}: plugin" if layer.norm else "") for layer in inspection.layers]
    print_table(("layer", "type", "norm"), rows, left=3)
    stdout.print(_summary(inspection), markup=False, soft_wrap=True)


def _summary(inspection: EngineInspection) -> str:
    plugins, norms = inspection.plugin_count, inspection.norm_count
    counts = f"{len(inspection.layers)} layers; {plugins} of {norms} norms are plugin layers"
    if inspection.source == "engine inspector":
        return f"{counts}\nlayers of the engine, from TensorRT's engine inspector"
    return (
        f"{counts}\nlayers of the network before TensorRT fused them, from {inspection.engine}.json "
        f"(not of the engine itself: {inspection.reason})"
    )
