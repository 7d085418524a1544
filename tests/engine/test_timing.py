"""Two engines are timed in turns on the same inputs; no GPU is needed to see that."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.engine import timing
from rms_deploy.onnx_model.optimization_profiles import ShapeRange
from rms_deploy.runtime import tensorrt_session

TEXT = '<ir_version: 8, opset_import: ["" : 18]> g (float[n,8] x) => (float[n,8] y) { y = Exp(x) }'


def test_both_run_in_turns_on_the_usual_shapes(monkeypatch):
    sessions, feeds, order = [], [], []

    def session(plan, **options):
        sessions.append((plan, options))
        return plan

    def bound_run(plan, inputs):
        feeds.append(inputs)
        return plan

    def measure(plan, seconds):
        assert seconds > 0
        order.append(plan)
        return [10.0 if plan == "plugin" else 20.0]

    monkeypatch.setattr(tensorrt_session, "session", session)
    monkeypatch.setattr(tensorrt_session, "bound_run", bound_run)
    monkeypatch.setattr(timing, "measure", measure)
    profile = {"x": ShapeRange((1, 8), (3, 8), (5, 8))}
    model = ir.from_proto(onnx.parser.parse_model(TEXT))
    found = timing.time_engines(SimpleNamespace(name="tensorrt"), "plugin", "decomposed", model, profile, embedded=True)
    assert found.speedup.value == pytest.approx(2)
    assert order[:6] == ["plugin", "decomposed", "plugin", "decomposed", "decomposed", "plugin"]
    assert [(plan, options["embedded_plugin"]) for plan, options in sessions] == [
        ("plugin", True),
        ("decomposed", False),
    ] * timing._LAUNCHES
    assert found.speedup.verdict == "faster"
    assert feeds[0]["x"].shape == (3, 8)
    assert np.array_equal(feeds[0]["x"], feeds[1]["x"])
