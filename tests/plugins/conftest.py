"""What the tests of several folders share: the contract's types and rounding orders, and the CUDA compiler."""

from __future__ import annotations

import os
import shutil
from importlib import util
from pathlib import Path

import pytest

TYPE_PAIRS = [("float32", "float32")] + [(t, s) for t in ("float16", "bfloat16") for s in ("float32", t)]
"""(T, S), each combination that the contract allows."""


@pytest.fixture(params=TYPE_PAIRS, ids=lambda pair: "-".join(pair))
def types(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["scale-in-float32", "scale-in-T"])
def round_before_scale(request):
    return request.param


@pytest.fixture(scope="session")
def nvcc() -> Path:
    """The user's, the system's, or PyPI's."""
    spec = util.find_spec("nvidia")
    roots = [Path(p) / "cu13" for p in (spec.submodule_search_locations or [] if spec else [])]
    found = (
        os.environ.get("CUDACXX")
        or shutil.which("nvcc")
        or next((str(root / "bin" / "nvcc") for root in roots if (root / "bin" / "nvcc").exists()), None)
    )
    if found is None:
        pytest.skip("no nvcc: pip install nvidia-cuda-nvcc==13.0.* and its companions of pyproject.toml")
    return Path(found)
