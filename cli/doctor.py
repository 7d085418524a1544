"""`rms-deploy doctor`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rms_deploy.cli.console import json_option, print_json, say, status
from rms_deploy.cli.table import print_table

if TYPE_CHECKING:
    from rms_deploy.engine.doctor import Diagnosis, ModelDiagnosis

__all__ = ["command"]


@click.command("doctor", short_help="Which runtimes, GPUs and libraries are here, and what is wrong with them.")
@click.argument("model", required=False, type=click.Path(path_type=Path))
@json_option
def command(model: Path | None, as_json: bool) -> None:
    """List the runtimes, GPUs and libraries of this machine, and load our library into each runtime.

    With MODEL, an ONNX file: why TensorRT finds no plugin for a norm of it. The exit code is 1 if anything is wrong.
    """
    from rms_deploy import doctor

    with status("looking for runtimes"):
        diagnosis = doctor(model)
    if as_json:
        print_json(diagnosis.to_dict())
    else:
        _print_machine(diagnosis)
        if diagnosis.model is not None:
            _print_model(diagnosis.model)
    if not diagnosis.healthy:
        raise SystemExit(1)


def _print_machine(diagnosis: Diagnosis) -> None:
    say(f"rms-deploy {diagnosis.rms_deploy}, Python {diagnosis.python}, {diagnosis.system}")
    for gpu in diagnosis.gpus:
        say(f"GPU: {gpu.name}, {gpu.capability}, {gpu.memory_mib} MiB, driver {gpu.driver}")
    if diagnosis.gpu_problem:
        say(f"no GPU can be used: {diagnosis.gpu_problem}")
    for table in diagnosis.tables():
        print_table(table)
    for runtime in diagnosis.runtimes:
        if runtime.problem:
            say(f"{runtime.name}: {runtime.problem}")


def _print_model(model: ModelDiagnosis) -> None:
    more = f", {model.unfused_count} more that rms-deploy fuse takes" if model.unfused_count else ""
    say(f"{model.model}: {model.norm_count} fused norms{more}")
    for name, found in model.plugins.items():
        say(f"{name}: {found}")
    for broken in model.broken:
        say(f"{broken}; rms-deploy fuse mends it")
    for fault in model.faults:
        say(f"fault: {fault}")
