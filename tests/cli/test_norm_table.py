"""Norms and near misses as tables."""

from __future__ import annotations

import click

from rms_deploy.cli.main import rms_deploy
from rms_deploy.cli.norm_table import near_misses, print_near_misses, print_norms
from rms_deploy.fusion.near_miss import NearMiss
from rms_deploy.fusion.norm import Norm
from rms_deploy.ops.forms import NormForm


def norm(**changes):
    values = {
        "kind": "RMSNorm", "form": NormForm.FUSED, "node": "n", "place": "", "dtype": "float16", "axes": (-1,), "n": 8,
        "epsilon": 1e-6, "rms_epsilon": 0.0, "rms_min": 0.0, "partial_size": None, "rounding": "once",
        "scale": "float16[8]",
    }  # fmt: skip
    return Norm(**{**values, **changes})


def rows(output):
    return [line.split() for line in output.splitlines()]


def test_a_norm_a_line(capsys):
    print_norms([norm(max_ulp=1), norm(place="layers.0", partial_size=4, axes=(-2, -1), rms_min=0.5)])
    header, first, second = rows(capsys.readouterr().out)
    assert header[:4] == ["place", "norm", "n", "axes"]
    assert first == ["n", "RMSNorm", "8", "float16", "1e-06", "once", "float16[8]", "fused", "1"]
    assert second[:4] == ["layers.0", "RMSNorm", "(4)", "8"]
    assert "-2,-1" in second
    assert second[second.index("least") + 1] == "0.5"


def test_what_is_not_known_is_a_question_mark(capsys):
    print_norms([norm(n=None, axes=None, dtype=None, epsilon=None)])
    assert rows(capsys.readouterr().out)[1][2:6] == ["?"] * 4


def test_reasons_and_notes_name_the_flags_of_fuse(capsys):
    with click.Context(rms_deploy):
        print_near_misses([NearMiss("e", "casts", "half; `allow_precision_gain=True` fuses it", "")])
    assert capsys.readouterr().out.splitlines()[1].endswith("half; --allow-precision-gain fuses it")
    with click.Context(rms_deploy):
        print_norms([norm(note="`functions=False` fuses it")])
    assert "fused: --no-functions fuses it" in capsys.readouterr().out


def test_nothing_is_no_table(capsys):
    print_norms([])
    print_near_misses([])
    assert capsys.readouterr().out == ""


def test_a_count_in_words():
    assert [near_misses(count) for count in (0, 1, 2)] == ["0 near misses", "1 near miss", "2 near misses"]
