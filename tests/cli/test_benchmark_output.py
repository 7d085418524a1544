"""A benchmark's result on stdout."""

from __future__ import annotations

from dataclasses import replace

import click
import pytest
from click.testing import CliRunner

from rms_deploy.cli.bench import command as bench_command
from rms_deploy.cli.benchmark_output import print_result

from ..benchmark.made_result import result


def printed(made, form=None, *, quiet=False):
    @click.command(params=bench_command.params)
    def command(**_):
        print_result(made, form, quiet=quiet)

    done = CliRunner().invoke(command, ["a.onnx"], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


@pytest.mark.parametrize(("form", "start"), [("json", "{"), ("markdown", "- At seq 1"), ("csv", "candidate,")])
def test_other_forms(form, start):
    assert printed(result(), form).startswith(start)


def test_quiet_prints_the_tables_and_failures_only():
    lines = printed(result(sweep=False), quiet=True).splitlines()
    assert lines[0].split()[0] == "candidate"
    assert any(" FAILED: " in line for line in lines)
    assert not any("a processor" in line for line in lines)
    assert "a processor" in printed(result(sweep=False))


def test_a_failure_names_the_flag():
    made = result(sweep=False)
    failed = replace(made.candidates[2], failure="it gave no answer within 3 s; a longer `timeout` waits longer")
    point = replace(made.points[0], candidates=(*made.candidates[:2], failed))
    assert "a longer --timeout waits longer" in printed(replace(made, points=(point,)))
