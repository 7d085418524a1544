"""What ONNX Runtime says, in one line, and what is added."""

from __future__ import annotations

import pytest

from rms_deploy.runtime.onnxruntime_messages import load_failure, message_of


@pytest.mark.parametrize(
    ("raised", "text"),
    [
        ("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Invalid input name: extra", "Invalid input name: extra"),
        ("a\n  b", "a b"),
        (
            "[ONNXRuntimeError] : 6 : FAIL : Exception during initialization: /b.cc:9 ort::Open() It failed",
            "It failed",
        ),
        ("/ort/sess.cc:12 ort::Status ort::Sess::Run(int, bool) const It broke", "It broke"),
        ("Non-zero status code. Status Message: it broke", "it broke"),
        ("Wrong rank. Please fix either the inputs/outputs or the model.", "Wrong rank."),
    ],
)
def test_one_line(raised, text):
    assert message_of(RuntimeError(raised)) == text


@pytest.mark.parametrize(
    ("raised", "text"),
    [
        (
            "no kernel def matches node inputs for Op: AddRMSNorm(1)",
            "AddRMSNorm does not take these types; X is float32, float16 or bfloat16, R and scale have the type of X "
            "or float32, Z that of X, and shift that of scale",
        ),
        (
            "Fatal error: rms_deploy:RMSNorm(-1) is not a registered function/op",
            "op rms_deploy::RMSNorm is unknown to onnxruntime 1.30 and the model carries no function for it; "
            "run it with the custom-op library (rms_deploy.session, or rms_deploy.onnxruntime_library())",
        ),
        (
            "Fatal error: own:Thing(1) is not a registered function/op",
            "op own::Thing is unknown to onnxruntime 1.30; it needs the library of that op",
        ),
        (
            "Fatal error: :Thing(1) is not a registered function/op",
            "op ai.onnx::Thing is unknown to onnxruntime 1.30; it needs the library of that op",
        ),
        ("Protobuf parsing failed.", "Protobuf parsing failed."),
    ],
)
def test_why_a_model_does_not_load(raised, text):
    assert load_failure(RuntimeError(raised), version="1.30") == text
