"""Optimization profiles on the command line, in our syntax and in trtexec's; tests of `build` show how they arrive."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from rms_deploy.cli.optimization_profile_options import optimization_profile_options, optimization_profiles_of


@click.command()
@optimization_profile_options
def show(optimization_profiles, **trtexec):
    click.echo(repr(optimization_profiles_of(optimization_profiles, **trtexec)))


def invoke(*arguments):
    return CliRunner().invoke(show, arguments, catch_exceptions=False)


def test_both_syntaxes_say_the_same():
    ours = invoke("--shape", "x=1x4:2x4:8x4", "--shape", "y=3")
    trtexec = invoke("--minShapes=x:1x4,y:3", "--optShapes=x:2x4,y:3", "--maxShapes=x:8x4,y:3")
    assert ours.output == trtexec.output == "[{'x': ((1, 4), (2, 4), (8, 4)), 'y': ((3,), (3,), (3,))}]\n"
    assert invoke().output == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shape", "x=1:2"), "'x=1:2' has 2 shapes; give min:opt:max, or one"),
        (("--shape", "x:1"), "'x:1' has no name; write it as x=1x64:8x64:32x64"),
        (("--minShapes", "x=1"), "'x=1' has no name; write it as x:1x64"),
        (("--minShapes", "x:1,y:b"), "'y:b': sizes are numbers with x between them"),
        (
            ("--minShapes", "x:1,x:2"),
            "'x:1,x:2' names an input twice; give the option once for each optimization profile",
        ),
        (("--minShapes", "x:1", "--maxShapes", "y:1"), "must name the same inputs"),
        (
            ("--minShapes", "x:1", "--minShapes", "x:2", "--maxShapes", "x:2"),
            "must be given once for each optimization profile",
        ),
        (
            ("--optShapes", "x:1", "--shape", "x=1"),
            "--shape and trtexec's --minShapes, --optShapes, --maxShapes exclude",
        ),
    ],
)
def test_what_cannot_be_read_is_a_usage_error(arguments, message):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
