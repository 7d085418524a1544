"""Generation feeds tokens, mask, positions and cache as a decoder needs them, and begins anew in each run."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from rms_deploy.benchmark.worker.generation import generation
from rms_deploy.benchmark.worker.runtimes import Load, loaded
from rms_deploy.errors import RunError
from rms_deploy.runtime import onnxruntime_session as runtime

from ..made_decoder import decoder, tokens_after

PROMPT = np.array([[3, 1, 4], [1, 5, 9]])


def feeds(mask=((1, 1, 1), (0, 1, 1))):
    return {
        "input_ids": PROMPT,
        "attention_mask": np.array(mask),
        "position_ids": np.array([[0, 1, 2]] * 2),
        "past_0_key": np.zeros((2, 1, 0, 4), np.float32),
    }


def test_tokens_are_those_of_the_formula_in_every_run():
    run = generation(runtime.session(decoder(), library=False), feeds(), 8)
    expected = tokens_after(PROMPT, feeds()["attention_mask"], 8)
    assert len({*expected[0], *expected[1]}) > 4, "a model that repeats one token proves nothing"
    for _ in range(2):
        assert np.stack(run(), 1).tolist() == expected
    other = generation(runtime.session(decoder(), library=False), feeds(((1, 1, 1), (1, 1, 1))), 8)
    assert np.stack(other(), 1).tolist() != expected, "the mask of the prompt is not heeded"


def test_a_run_is_so_many_runs_of_the_session():
    session = runtime.session(decoder(), library=False)

    class Counting:
        runs = 0
        get_inputs, get_outputs = session.get_inputs, session.get_outputs

        def run_with_ort_values(self, *arguments):
            self.runs += 1
            return session.run_with_ort_values(*arguments)

    counting = Counting()
    run = generation(counting, feeds(), 5)
    assert counting.runs == 1, "the prompt is read once"
    run()
    assert counting.runs == 6


def test_other_inputs_are_those_of_the_prompt():
    session = runtime.session(decoder(extra=", float[n] unread"), library=False)
    run = generation(session, {**feeds(), "unread": np.ones(3, np.float32)}, 2)
    assert np.stack(run(), 1).tolist() == tokens_after(PROMPT, feeds()["attention_mask"], 2)


def test_a_model_that_generates_nothing_is_one_line(tmp_path):
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> g (float[n,8] x) => (float[n,8] y) { y = Exp(x) }'
    )
    onnx.save(model, tmp_path / "a.onnx")
    load = Load(str(tmp_path / "a.onnx"), {"x": np.zeros((2, 8), np.float32)}, library=False, generate=3)
    with pytest.raises(RunError, match="it generates no tokens: it needs input_ids, logits, and a cache"):
        loaded("onnxruntime", load)
    with pytest.raises(RunError, match="tokens are generated with ONNX Runtime only, not with torch"):
        loaded("torch", load)


def test_a_prompt_that_does_not_fit_is_one_line():
    session = runtime.session(decoder(), library=False)
    with pytest.raises(RunError, match="it does not run the prompt: "):
        generation(session, feeds(((1, 1, 1, 1, 1), (1, 1, 1, 1, 1))), 2)
