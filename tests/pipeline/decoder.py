"""A decoder without attention: what tools convert, quantise and merge, with three norms."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.parser

__all__ = ["NORMS", "decoder", "head"]

NORMS = 3
HIDDEN = 64


def norm(x: str, y: str, scale: str) -> str:
    """The text of an RMSNorm as torch writes it; its values begin with the name of `y`."""
    return f"""
        {y}_square = Pow ({x}, {y}_two)
        {y}_mean = ReduceMean <keepdims = 1> ({y}_square, {y}_last)
        {y}_biased = Add ({y}_mean, {y}_epsilon)
        {y}_root = Sqrt ({y}_biased)
        {y}_inverse = Reciprocal ({y}_root)
        {y}_normed = Mul ({x}, {y}_inverse)
        {y} = Mul ({y}_normed, {scale})"""


def decoder() -> onnx.ModelProto:
    """input_ids int64[b, s] -> logits float[b, s, 64]"""
    lines = ["h0 = Gather (embedding, input_ids)"]
    for layer in range(2):
        lines += [
            norm(f"h{layer}", f"n{layer}", f"scale{layer}"),
            f"u{layer} = MatMul (n{layer}, up{layer}) g{layer} = Sigmoid (u{layer})",
            f"a{layer} = Mul (u{layer}, g{layer}) d{layer} = MatMul (a{layer}, down{layer})",
            f"h{layer + 1} = Add (h{layer}, d{layer})",
        ]
    lines += [norm("h2", "n2", "scale2"), "logits = MatMul (n2, head)"]
    model = _parsed("input_ids", "int64[b, s]", f"float[b, s, {HIDDEN}] logits", lines)
    generator = np.random.default_rng(0)
    shapes = {"embedding": (64, HIDDEN), "head": (HIDDEN, HIDDEN)}
    for layer in range(2):
        shapes |= {f"up{layer}": (HIDDEN, 128), f"down{layer}": (128, HIDDEN)}
    for layer in range(NORMS):
        shapes[f"scale{layer}"] = (HIDDEN,)
    for name, shape in shapes.items():
        array = generator.standard_normal(shape, np.float32) / (1 if len(shape) == 1 else np.sqrt(shape[0]))
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    return model


def head() -> onnx.ModelProto:
    """head_x float[b, s, 64] -> head_y, its norm."""
    model = _parsed(
        "head_x", f"float[b, s, {HIDDEN}]", f"float[b, s, {HIDDEN}] head_y", [norm("head_x", "head_y", "head_scale")]
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(HIDDEN, np.float32), "head_scale"))
    return model


def _parsed(name: str, kind: str, outputs: str, lines: list[str]) -> onnx.ModelProto:
    text = "\n".join(lines)
    norms = re.findall(r"(\w+)_square =", text)
    constants = ", ".join(
        f"float {y}_two = {{2.0}}, int64[1] {y}_last = {{-1}}, float {y}_epsilon = {{1e-5}}" for y in norms
    )
    header = '<ir_version: 10, opset_import: ["": 20]>'
    return onnx.parser.parse_model(f"{header} decoder ({kind} {name}) => ({outputs}) <{constants}> {{ {text} }}")
