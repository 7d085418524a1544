"""The layers of an engine as a table."""

from __future__ import annotations

from pathlib import Path

from rms_deploy.cli.console import print_json, say
from rms_deploy.cli.table import print_table
from rms_deploy.engine.inspect_engine import EngineInspection, inspect_engine

__all__ = ["print_engine"]


def print_engine(path: Path, *, as_json: bool) -> None:
    """One line a layer, then what the layers are and where they are known from."""
    inspection = inspect_engine(path)
    if as_json:
        print_json(inspection.to_dict())
        return
    for table in inspection.tables():
        print_table(table)
    say(_summary(inspection))


def _summary(inspection: EngineInspection) -> str:
    plugins, norms = inspection.plugin_count, inspection.norm_count
    counts = f"{len(inspection.layers)} layers; {plugins} of {norms} norms are plugin layers"
    if inspection.source == "engine inspector":
        return f"{counts}\nlayers of the engine, from TensorRT's engine inspector"
    return (
        f"{counts}\nlayers of the network before TensorRT fused them, from {inspection.engine}.json "
        f"(not of the engine itself: {inspection.reason})"
    )
