"""ONNX Runtime's errors in one line, and what to do about them."""

from __future__ import annotations

import re

from rms_deploy.ops.contract import DOMAIN

__all__ = ["load_failure", "message_of"]


def message_of(error: Exception) -> str:
    """ONNX Runtime's message in one line, without its error code, its source positions and what it repeats."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error))
    position = r"\S+\.(?:cc|cpp|h):\d+ "  # then a function's name, or its whole signature
    text = re.sub(position + r"(?:[\w:]+ (?=[A-Z])|.*?\)(?: const)? (?=[A-Z[]))", "", text)
    text = re.sub(r"^.* Status Message: |^Exception during initialization: ", "", " ".join(text.split()))
    return text.removesuffix(" Please fix either the inputs/outputs or the model.")


def load_failure(error: Exception, *, version: str) -> str:
    """Why a model does not load, and what to do where ONNX Runtime, of this version, does not say it."""
    text = message_of(error)
    if types := re.search(r"no kernel def matches node inputs for Op: (\w+)", text):
        return (
            f"{types[1]} does not take these types; X is float32, float16 or bfloat16, R and scale have the type of X "
            "or float32, Z that of X, and shift that of scale"
        )
    unknown = re.search(r"([\w.]*):(\w+)\(-?\d*\) is not a registered function/op", text)
    if unknown is None:
        return text
    domain, op = unknown[1] or "ai.onnx", unknown[2]
    if domain == DOMAIN:
        return (
            f"op {domain}::{op} is unknown to onnxruntime {version} and the model carries no function for it; "
            "run it with the custom-op library (rms_deploy.session, or rms_deploy.onnxruntime_library())"
        )
    return f"op {domain}::{op} is unknown to onnxruntime {version}; it needs the library of that op"
