"""A decoder of a few nodes, whose logits depend on every token, its mask and its position, and the same in numpy."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser

__all__ = ["decoder", "tokens_after"]

VOCABULARY, WIDTH = 11, 4

_GENERATOR = np.random.default_rng(0)
TABLE = _GENERATOR.integers(-8, 8, (VOCABULARY, WIDTH)).astype(np.float32)
HEAD = _GENERATOR.integers(-8, 8, (WIDTH, VOCABULARY)).astype(np.float32)
"""Small integers: float32 and bfloat16 sums of them are exact, or nearly so."""


def decoder(*, dtype: str = "float", extra: str = "") -> onnx.ModelProto:
    """The sum of what the cache holds, where the mask is 1, turned by the position, times the head."""
    kind = 1 if dtype == "float" else 16
    text = f"""
        <ir_version: 10, opset_import: ["" : 20]>
        decoder (int64[b,s] input_ids, int64[b,t] attention_mask, int64[b,s] position_ids,
                 {dtype}[b,1,p,{WIDTH}] past_0_key{extra})
            => ({dtype}[b,1,{VOCABULARY}] logits, {dtype}[b,1,q,{WIDTH}] present_0_key)
        <int64[1] one = {{1}}, int64[1] mask_axes = {{3}}, int64[1] two = {{2}}, int64[1] last = {{-1}},
         int64[1] behind = {{1000}}, int64[1] position_axis = {{1}}>
        {{
            wide = Gather (table, input_ids)
            new = Unsqueeze (wide, one)
            present_0_key = Concat <axis = 2> (past_0_key, new)
            mask3 = Unsqueeze (attention_mask, one)
            mask4 = Unsqueeze (mask3, mask_axes)
            mask = Cast <to = {kind}> (mask4)
            seen = Mul (present_0_key, mask)
            summed = ReduceSum <keepdims = 0> (seen, two)
            latest = Slice (position_ids, last, behind, position_axis)
            place = Cast <to = {kind}> (latest)
            placed = Unsqueeze (place, one)
            turned = Add (summed, placed)
            logits = MatMul (turned, head)
        }}"""
    model = onnx.parser.parse_model(text)
    for name, array in (("table", TABLE), ("head", HEAD)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def tokens_after(prompt: np.ndarray, mask: np.ndarray, tokens: int) -> list[list[int]]:
    """The greedy tokens after a prompt without a past, of each row; all tokens behind the prompt are seen."""
    rows = []
    for ids, seen in zip(prompt, mask, strict=True):
        total = (TABLE[ids] * seen[:, None]).sum(0)
        found: list[int] = []
        for step in range(tokens):
            found.append(int(((total + len(ids) - 1 + step) @ HEAD).argmax()))
            total = total + TABLE[found[-1]]
        rows.append(found)
    return rows
