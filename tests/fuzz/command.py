"""The command line in this process: a mistake of the file is one line and exit code 1."""

from __future__ import annotations

from click.testing import CliRunner

from rms_deploy.cli.main import rms_deploy

from .oracle import Trial
from .original import OracleError

__all__ = ["command_line"]


def command_line(trial: Trial, *words: str) -> None:
    """Run `rms-deploy WORDS`; a traceback is the caller's."""
    trial.stage(words[0])
    done = CliRunner().invoke(rms_deploy, list(words), catch_exceptions=False)
    trial.stage("compare")
    if done.exit_code not in (0, 1):
        raise OracleError(f"{words[0]} ends with exit code {done.exit_code}", done.stderr[-300:])
    _, found, message = done.stderr.partition("Error: ")
    if found and "\n" in message.strip():
        raise OracleError(f"{words[0]}: an error is not one line", message[:300])
