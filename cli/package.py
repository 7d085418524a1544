"""`rms-deploy package`"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rms_deploy.cli.arguments import with_flags
from rms_deploy.cli.console import is_quiet, json_option, print_json, stderr, stdout
from rms_deploy.cli.shape_options import dim_option, shape_option

if TYPE_CHECKING:
    from rms_deploy.deployment.result import PackageResult

__all__ = ["command"]


def _instances(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, int]:
    instances: dict[str, int] = {}
    for value in values:
        device, equals, count = value.rpartition("=")
        if not equals or not device or not count.isdecimal() or device in instances:
            raise click.BadParameter(f"{value!r}: write each device once, as in cpu=2", ctx, param)
        instances[device] = int(count)
    return instances


@click.command("package", short_help="A model as an inference server loads it.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--for", "server", type=click.Choice(["triton"]), default="triton", show_default=True, help="The server.")
@click.option("-o", "--output", "repository", type=click.Path(path_type=Path), required=True,
              help="The folder of models; made if it is not there.")  # fmt: skip
@click.option("--backend", type=click.Choice(["onnxruntime", "tensorrt", "python"]), default="onnxruntime",
              show_default=True, help="What runs the model in the server.")  # fmt: skip
@click.option("--name", help="Of the model in the server.  [default: the file's]")
@click.option("--version", type=click.IntRange(min=1), default=1, show_default=True, help="Its number.")
@click.option("--max-batch-size", type=click.IntRange(min=0), default=0, show_default=True,
              help="Let the server compute so many rows of several requests at once.")  # fmt: skip
@click.option("--max-queue-delay", type=click.IntRange(min=0), metavar="MICROSECONDS",
              help="How long a request waits for others to join it.")  # fmt: skip
@click.option("--instances", metavar="DEVICE=COUNT", multiple=True, callback=_instances,
              help="Copies of the model on cpu, gpu (each) or gpu:0. May be repeated.  [default: one]")  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), help="Of each copy's session.  [default: one per core]")
@click.option("--warmup", is_flag=True, help="Run the model on zeros before the server says that it is ready.")
@shape_option
@dim_option
@click.option("--server-path", metavar="FOLDER",
              help="Where the server sees the repository, such as /models.  [default: where it is]")  # fmt: skip
@click.option("--gpu-type", metavar="TYPE", help="Which engine of a folder of `build --ray`, such as L4.")
@json_option
def command(model: Path, repository: Path, as_json: bool, **options: Any) -> None:
    """Write MODEL, a fused ONNX file, into a repository that Triton Inference Server loads as it is.

    The backend onnxruntime is the server's own, with our library. tensorrt takes an engine of `rms-deploy build`, or
    a folder of engines of `build --ray`.
    python needs rms-deploy in the server's Python, for servers without the others. --shape and --dim are those of
    --warmup.
    """
    from rms_deploy.deployment.package import package

    result = package(model, repository, **options)
    if as_json:
        print_json(result.to_dict())
    else:
        _print_result(result)
    if not is_quiet():
        for note in result.notes:
            stderr.print(f"note: {with_flags(note)}", markup=False, soft_wrap=True)


def _print_result(result: PackageResult) -> None:
    stdout.print(
        f"packaged {result.name}, version {result.version}, for the backend {result.backend}, in {result.repository}:",
        markup=False,
        soft_wrap=True,
    )
    for file in result.files:
        stdout.print(f"  {file}", markup=False, soft_wrap=True)
    stdout.print(f"serve it with: {shlex.join(result.command)}", markup=False, soft_wrap=True)
