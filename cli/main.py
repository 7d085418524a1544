"""`rms-deploy`: finds the command, and turns a user's mistake into one line and exit code 1."""

from __future__ import annotations

import logging
import os
import sys
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from rms_deploy.cli.arguments import with_flags
from rms_deploy.errors import RmsDeployError

__all__ = ["main", "rms_deploy"]

# Name and one-line help of each command; its module is imported only when it runs, so that --help stays instant.
_COMMANDS = {
    "export": "A PyTorch model to ONNX, each RMSNorm as one op.",
    "fuse": "Find the decomposed RMSNorms of an ONNX model and fuse each into one op.",
    "unfuse": "Write every fused norm of an ONNX model as primitives.",
    "cast": "An ONNX model in half precision, its norms fused first.",
    "verify": "Prove that two ONNX models compute the same.",
    "build": "A TensorRT or TensorRT-RTX engine from an ONNX model.",
    "package": "A model as an inference server loads it.",
    "bench": "Latency of ONNX models, side by side.",
    "report": "A saved benchmark as a page, or what changed between two.",
    "bench-op": "One norm at a time: our kernels beside those of other runtimes.",
    "inspect": "List the norms of an ONNX model: fused or not, and why.",
    "doctor": "Which runtimes, GPUs and libraries are here, and what is wrong with them.",
    "demo": "Export, fuse, verify and measure a small decoder.",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"rms_deploy.cli.{cmd_name.replace('-', '_')}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _COMMANDS and (near := get_close_matches(args[0], _COMMANDS, n=2)):
            ctx.fail(f"No such command '{args[0]}'. Did you mean {' or '.join(map(repr, near))}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RmsDeployError as error:
            command = ctx.invoked_subcommand and self.get_command(ctx, ctx.invoked_subcommand)
            raise click.ClickException(with_flags(str(error), command or None)) from error


class _Formatter(logging.Formatter):
    """Logs of the library speak in flags too."""

    def format(self, record: logging.LogRecord) -> str:
        return with_flags(super().format(record))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rms-deploy", prog_name="rms-deploy")
@click.option("-v", "--verbose", count=True, help="Say more on stderr; twice for debugging.")
@click.option("-q", "--quiet", is_flag=True, help="Only results and errors.")
def rms_deploy(verbose: int, quiet: bool) -> None:
    """Every RMSNorm of a model as one fused kernel: export, fuse, verify, measure."""
    level = logging.ERROR if quiet else max(logging.WARNING - 10 * verbose, logging.DEBUG)
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=level)


def main() -> None:
    """Entry point of `rms-deploy` and `python -m rms_deploy`: exit code 0 only if all that was printed arrived."""
    code: Any = 0
    lost = None
    try:
        rms_deploy(prog_name="rms-deploy")
    except SystemExit as end:
        code = end.code
        lost = _lost_output(b"")
    except OSError:
        lost = _lost_output(b"\n")
        if lost is None:
            raise
    if lost is not None:
        click.echo(f"Error: standard output: {lost.strerror}", err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it ends
        code = code or 1
    sys.exit(code)


def _lost_output(more: bytes) -> OSError | None:
    """Why standard output does not take what was printed, or `more` of it; None: it does."""
    try:
        sys.stdout.flush()
        os.write(sys.stdout.fileno(), more)
    except OSError as error:
        return error
    return None
