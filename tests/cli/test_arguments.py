"""A message of the library names arguments; the command line prints the flags of the command that runs."""

from __future__ import annotations

import click
import pytest

from rms_deploy.cli.arguments import with_flags
from rms_deploy.cli.main import rms_deploy


def command(name):
    return rms_deploy.get_command(click.Context(rms_deploy), name)


@pytest.mark.parametrize(
    ("name", "text", "printed"),
    [
        ("verify", "give it in `shapes`", "give it in --shape"),
        ("verify", "give `shapes={'x': (1, 128)}`", "give --shape x=1x128"),
        ("verify", "give `dims={'batch': 2, 'seq': 4}`", "give --dim batch=2 --dim seq=4"),
        ("verify", "`library=False` runs it", "--no-library runs it"),
        ("fuse", "`allow_precision_gain=True` fuses it", "--allow-precision-gain fuses it"),
        ("fuse", "`functions=False` fuses it", "--no-functions fuses it"),
        ("fuse", "`verify=False` and `verify=True`", "--no-verify and --verify"),
        ("fuse", "`output` is `model`", "--output is MODEL"),
        ("build", '`runtime="tensorrt-rtx"` builds anywhere', "--runtime tensorrt-rtx builds anywhere"),
        ("build", "`devices=['sm86', 'sm89']`", "--device sm86,sm89"),
        ("fuse", "run `rms_deploy.fuse`, then `rms_deploy.bench_op`", "run rms-deploy fuse, then rms-deploy bench-op"),
        ("export", "use one of `rms_deploy.models.MODELS`", "use one of rms-deploy export --list"),
        # What the command has no flag for, and what is no argument, stays.
        ("fuse", "`shapes` and `library=False`", "`shapes` and `library=False`"),
        ("fuse", "`a name of = a node`", "`a name of = a node`"),
        ("fuse", "no argument at all", "no argument at all"),
    ],
)  # fmt: skip
def test_arguments_become_flags(name, text, printed):
    assert with_flags(text, command(name)) == printed


def test_the_command_that_runs_is_the_default():
    with click.Context(command("fuse")):
        assert with_flags("`residual=False`") == "--no-residual"
    assert with_flags("`residual=False`") == "`residual=False`"
