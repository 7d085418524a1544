"""Models of one node, run through ONNX Runtime with the library."""

from __future__ import annotations

import pytest

TYPE_PAIRS = [("float32", "float32")] + [(t, s) for t in ("float16", "bfloat16") for s in ("float32", t)]
"""(T, S), each combination that the contract allows."""


@pytest.fixture(params=TYPE_PAIRS, ids=lambda pair: "-".join(pair))
def types(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["scale-in-float32", "scale-in-T"])
def round_before_scale(request):
    return request.param
