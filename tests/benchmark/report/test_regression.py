"""Two runs side by side: what is a regression, what is noise, and what cannot be compared."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from rms_deploy.benchmark.latency import Latency
from rms_deploy.benchmark.method import Method
from rms_deploy.benchmark.report.regression import compare_runs
from rms_deploy.benchmark.result import CandidateResult, Point
from rms_deploy.errors import InputError

from ..made_result import result


def run(medians, **changes):
    """A run with one candidate, whose launches have these medians."""
    candidate = CandidateResult("a", latency=Latency.of([[[value]] for value in medians]))
    return replace(result(sweep=False), points=(Point((candidate,), {"x": (1,)}),), **changes)


@pytest.mark.parametrize(
    ("after", "limit", "verdict"),
    [
        ([110] * 10, 0.05, "regression"),
        ([110] * 10, 0.1, "slower"),
        ([110.1] * 10, 0.1, "regression"),
        ([104] * 10, 0.05, "slower"),
        ([90] * 10, 0.05, "faster"),
        ([100] * 10, 0.0, "within noise"),
        ([80, 120, 90, 130, 125], 0.05, "within noise"),
        ([200] * 2, 0.05, "too few launches"),
    ],
)
def test_a_regression_is_beyond_the_limit_and_beyond_the_noise(after, limit, verdict):
    comparison = compare_runs(run([100] * 10), run(after), max_regression=limit)
    assert [change.verdict for change in comparison.changes] == [verdict]
    assert comparison.regressed == (verdict == "regression")
    assert comparison.undecided == (verdict == "too few launches")


def test_candidates_of_every_point_are_compared_by_name():
    comparison = compare_runs(result(), result(scale=1.2), max_regression=0.05)
    assert [(c.candidate, c.at, c.verdict) for c in comparison.changes][:4] == [
        ("decomposed", "seq 1", "regression"),
        ("fused", "seq 1", "regression"),
        ("standard", "seq 1", "not in both"),
        ("decomposed", "seq 16", "regression"),
    ]
    assert comparison.changes[0].change == pytest.approx(0.2)
    assert compare_runs(result(), result()).regressed is False
    assert compare_runs(result(), result()).undecided, "standard has failed in both"


def test_what_fails_and_did_not_before_is_a_regression():
    broken = run([100] * 10)
    broken = replace(broken, points=(Point((CandidateResult("a", failure="gone"),), {"x": (1,)}),))
    assert compare_runs(run([100] * 10), broken).changes[0].verdict == "fails"
    assert compare_runs(run([100] * 10), broken).regressed
    assert not compare_runs(broken, run([100] * 10)).regressed


def test_another_machine_or_version_is_said():
    known = run([100] * 10).provenance
    known = replace(known, versions={"python": "3.12"}, machine=replace(known.machine, cpu="another"))
    other = run([100] * 10, provenance=known)
    assert compare_runs(run([100] * 10), other).warnings == (
        "cpu was a processor and is another",
        "python was 3.11 and is 3.12",
        "onnxruntime was 1.32.0 and is absent",
    )


def test_what_cannot_be_compared_is_one_line():
    with pytest.raises(InputError, match=r"threads is 1 in the first run and 2 in the second; measure both alike"):
        compare_runs(run([1] * 10), run([1] * 10, method=Method(threads=2)))
    other = replace(run([1] * 10), points=(Point((CandidateResult("a"),), {"x": (2,)}),))
    with pytest.raises(InputError, match="the inputs differ"):
        compare_runs(run([1] * 10), other)
    with pytest.raises(InputError, match="no candidate in common: a in the first, decomposed, fused, standard in"):
        compare_runs(run([1] * 10), result(sweep=False))
    with pytest.raises(InputError, match="`max_regression` is -1"):
        compare_runs(run([1] * 10), run([1] * 10), max_regression=-1)


def test_as_json():
    data = json.loads(json.dumps(compare_runs(result(), result(scale=1.2)).to_dict(), allow_nan=False))
    assert data["regressed"]
    assert data["changes"][0]["change"] == pytest.approx(0.2)
