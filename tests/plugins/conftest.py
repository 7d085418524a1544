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
    found = os.environ.get("CUDACXX") or shutil.which("nvcc") or _from_pypi("nvcc")
    if found is None:
        pytest.skip("no nvcc: pip install nvidia-cuda-nvcc==13.0.* and its companions of pyproject.toml")
    return Path(found)


@pytest.fixture(scope="session")
def nvdisasm() -> Path:
    """What prints machine code: the system's, or PyPI's."""
    found = shutil.which("nvdisasm") or _from_pypi("nvdisasm")
    if found is None:
        pytest.skip("no nvdisasm: pip install nvidia-cuda-nvdisasm")
    return Path(found)


def _from_pypi(tool: str) -> str | None:
    spec = util.find_spec("nvidia")
    paths = [Path(p) / "cu13" / "bin" / tool for p in (spec.submodule_search_locations or [] if spec else [])]
    return next((str(path) for path in paths if path.exists()), None)
