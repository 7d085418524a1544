"""--shape and --dim on the command line."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from rms_deploy.cli.shape_options import as_text, dim_option, shape_option


@click.command()
@shape_option
@dim_option
def show(shapes, dims):
    click.echo(repr((shapes, dims)))


def invoke(*arguments):
    return CliRunner().invoke(show, arguments, catch_exceptions=False)


def test_sizes_by_name():
    result = invoke("--shape", "x=1x128", "--shape", "a=b:0=7", "--shape", "scalar=", "--dim", "batch=2")
    assert result.output == "({'x': (1, 128), 'a=b:0': (7,), 'scalar': ()}, {'batch': 2})\n"
    assert invoke().output == "({}, {})\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shape", "1x128"), "'1x128' has no name; write it as input_ids=1x128"),
        (("--shape", "=1"), "has no name"),
        (("--shape", "x=1,128"), "'x=1,128': sizes are numbers with x between them"),
        (("--shape", "x=1xx2"), "sizes are numbers"),
        (("--dim", "batch"), "'batch' has no name; write it as batch=2"),
        (("--dim", "batch=two"), "batch=two: a size is one number"),
        (("--dim", "batch=1", "--dim", "batch=2"), "batch is given twice"),
    ],
)
def test_what_cannot_be_read_is_a_usage_error(arguments, message):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_shapes_are_printed_as_they_are_given():
    assert as_text({"x": (1, 128), "n": ()}) == "x=1x128, n="
