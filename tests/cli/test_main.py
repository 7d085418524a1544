"""The frame of the command line: instant, and a user's mistake is one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from rms_deploy.cli import main
from rms_deploy.errors import InputError

HEAVY = {"torch", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "numpy", "ml_dtypes", "transformers"}


@pytest.mark.parametrize(
    "code",
    ["import rms_deploy", "from rms_deploy.cli.main import rms_deploy as c; c(['--help'], standalone_mode=False)"],
)
def test_imports_nothing_heavy(code: str) -> None:
    script = f"{code}\nimport sys; print(sorted({HEAVY!r} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "[]"


def test_every_command_has_help() -> None:
    for name in main._COMMANDS:
        result = CliRunner().invoke(main.rms_deploy, [name, "--help"], catch_exceptions=False)
        assert result.exit_code == 0, name
        assert "Usage:" in result.output


def test_module_entry_point_and_version() -> None:
    command = [sys.executable, "-m", "rms_deploy", "--version"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.startswith("rms-deploy, version ")


def with_command(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    @click.command()
    def command() -> None:
        raise error

    monkeypatch.setattr(main._Commands, "get_command", lambda *_: command)


def test_a_mistake_is_one_line_and_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    with_command(monkeypatch, InputError("dtype 'int8' is not supported"))
    result = CliRunner().invoke(main.rms_deploy, ["fuse"], catch_exceptions=False)
    assert result.exit_code == 1
    assert result.stderr == "Error: dtype 'int8' is not supported\n"


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with_command(monkeypatch, ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        CliRunner().invoke(main.rms_deploy, ["fuse"], catch_exceptions=False)


def test_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(main.rms_deploy, ["fusse"])
    assert result.exit_code == 2
    assert "No such command 'fusse'. Did you mean 'fuse' or 'unfuse'?" in result.stderr
    assert "No such command 'xyzzy'.\n" in CliRunner().invoke(main.rms_deploy, ["xyzzy"]).stderr


@pytest.mark.parametrize(
    "options", [["--version"], ["fuse", "--help"], ["inspect", "{model}"], ["inspect", "{model}", "--json"]]
)
def test_output_that_is_lost_is_one_line(options: list[str]) -> None:
    model = Path(__file__).parents[1] / "onnx_model" / "hostile" / "V10_given_proto_renamed.onnx"
    command = [sys.executable, "-m", "rms_deploy", *(option.format(model=model) for option in options)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["Error: standard output: No space left on device"]


def test_output_that_nobody_reads_ends_in_silence() -> None:
    command = f"{sys.executable} -m rms_deploy --help | true"
    done = subprocess.run(["bash", "-c", command], stderr=subprocess.PIPE, text=True, check=False)
    assert done.stderr == ""
