"""`rms-deploy inspect`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rms_deploy.cli.console import json_option, print_json, say

if TYPE_CHECKING:
    from rms_deploy.fusion.inspect import Inspection

__all__ = ["command", "print_inspection"]


@click.command("inspect", short_help="List the norms of an ONNX model: fused or not, and why.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--full", is_flag=True, help="A line for each norm; by default those of repeated layers share one.")
@json_option
def command(model: Path, full: bool, as_json: bool) -> None:
    """List the norms of MODEL, an ONNX file: size, dtype, epsilon, place; fused or not, and why.

    Of an engine: its layers, and which of them are norms.
    """
    from rms_deploy.runtime.engine_file import is_engine

    if is_engine(model):
        from rms_deploy.cli.engine_table import print_engine

        print_engine(model, as_json=as_json)
        return
    from rms_deploy.fusion.inspect import inspect

    result = inspect(model)
    if as_json:
        print_json(result.to_dict())
    else:
        print_inspection(result, full=full)


def print_inspection(result: Inspection, *, full: bool = False) -> None:
    """The norms and near misses, how many there are of each form, and what is broken; `full`: a line for each norm."""
    from rms_deploy.cli.norm_table import near_misses, print_near_misses, print_norms

    print_norms(result.norms, full=full)
    print_near_misses(result.near_misses, full=full)
    counts = ", ".join(f"{count} {what}" for what, count in result.count().items()) or "no norms"
    misses = f"; {near_misses(len(result.near_misses))}" if result.near_misses else ""
    say(f"{counts}{misses}")
    for fault in result.faults:
        say(f"{fault}; rms-deploy fuse mends it")
