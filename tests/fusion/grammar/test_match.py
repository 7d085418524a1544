"""A match, one step after another, and what speaks against fusing it."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from rms_deploy.fusion.grammar.match import Match, Stage
from rms_deploy.onnx_model.analysis import Facts


@pytest.fixture
def model(build):
    return ir.from_proto(build("u = com.microsoft.Unknown (x) m = ReduceMean (x, last) y = Sqrt (m)"))


@pytest.fixture
def match(model):
    (anchor,) = (node for node in model.graph if node.op_type == "ReduceMean")
    return Match(Stage.MEAN_SQUARE, anchor.outputs[0], anchor, anchor.inputs[0], (-1,), 8)


def test_a_step_keeps_what_it_does_not_change(match, model):
    y = model.graph.outputs[0]
    step = match.at(y, Stage.ROOT, epsilon=1e-6)
    assert (step.value, step.stage, step.epsilon, step.axes, step.x) == (y, Stage.ROOT, 1e-6, (-1,), match.x)
    assert step.at(match.value).stage is Stage.ROOT
    assert (match.stage, match.epsilon) == (Stage.MEAN_SQUARE, None)


def test_the_first_reason_stays(match):
    doubted = match.doubting("epsilon", match.anchor, "first").doubting("root", match.anchor, "second")
    assert (doubted.doubt.piece, doubted.doubt.reason, doubted.gain) == ("epsilon", "first", None)
    gaining = match.gaining(match.anchor, "first").gaining(match.anchor, "second")
    assert (gaining.gain.piece, gaining.gain.reason, gaining.doubt) == ("casts", "first", None)


@pytest.mark.parametrize("stage", Stage)
def test_stages_at_which_a_norm_may_end(stage, match):
    step = match.at(match.value, stage)
    assert step.is_norm == (stage in (Stage.NORMED, Stage.SCALED, Stage.ROUNDED, Stage.DONE))
    assert step.is_narrow == (stage in (Stage.ROUNDED, Stage.DONE))


def test_the_mean_is_over_the_block_or_its_first_part(match):
    assert match.summed == 8
    assert match.at(match.value, partial_size=3).summed == 3


def test_x_tells_the_rank_where_the_value_does_not(match, model):
    facts = Facts(model)
    unknown = match.at(model.graph[0].outputs[0])
    assert unknown.ranked(facts) is match.x
    assert unknown.at(unknown.value, keeps_axes=False).ranked(facts) is unknown.value
    assert match.ranked(facts) is match.value
