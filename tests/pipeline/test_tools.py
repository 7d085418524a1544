"""A fused file survives what users do to it, or `fuse` mends it; docs/pipelines.md says what each tool does."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from rms_deploy import onnxruntime_library
from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.inspect import inspect

from .decoder import NORMS, decoder, head
from .run_tools import TOOLS, file_name

pytestmark = [pytest.mark.pipeline, pytest.mark.network, pytest.mark.slow]

PAGE = Path(__file__).parents[2] / "docs" / "pipelines.md"


@pytest.fixture(scope="module")
def folder(tools, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for prefix, model in (("", decoder()), ("head-", head())):
        onnx.save(model, folder / f"{prefix}original.onnx")
        fuse(model, folder / f"{prefix}fused.onnx")
    script = Path(__file__).with_name("run_tools.py")
    done = subprocess.run([tools, script, folder], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(params=TOOLS)
def tool(request):
    return request.param


@pytest.fixture
def said(folder, tool):
    """The version of the tool, and that it failed on neither model."""
    said = json.loads((folder / "tools.json").read_text())[tool]
    assert (said["original"], said["fused"]) == ("", "")
    return said


def outputs(path, *, library):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if library:
        options.register_custom_ops_library(str(onnxruntime_library()))
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"input_ids": np.arange(24).reshape(2, 12) * 5 % 64})
    return y.astype(np.float64)


def norms(tool):
    """How many there are after the tool; one model that is merged has one more."""
    return NORMS + (tool == "onnx.compose.merge_models")


def row_of(tool):
    """The cells of the page's table."""
    (row,) = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| `{tool}` |")]
    return row.strip("| ").split(" | ")


def distance(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


def assert_runs(path, folder, tool):
    """With the library and without, as near to the model before all tools as the tool leaves one that is not fused.

    A tool that rounds or quantises does so at other places once a norm is one op, so that the errors are of one size
    and not equal. The others change no number: 1e-6 is for three float32 norms and the products behind them.
    """
    exact = outputs(folder / "original.onnx", library=False)
    if tool == "onnx.compose.merge_models":
        exact = exact / np.sqrt(np.mean(exact**2, axis=-1, keepdims=True) + 1e-5)
    error = distance(outputs(folder / f"{file_name(tool)}-original.onnx", library=False), exact)
    for library in (False, True):
        assert distance(outputs(path, library=library), exact) <= max(1.5 * error, 1e-6)


def after(path):
    """What is to be done with a fused file after a tool, in words."""
    found = inspect(path)
    if found.faults:
        return "`fuse` again: " + "; ".join(dict.fromkeys(fault.partition("): ")[2] for fault in found.faults))
    if any(norm.form != "fused" for norm in found.norms):
        return "`fuse` again: the norms are inlined"
    return "runs as it is"


def test_after_fuse(folder, tool, said, tmp_path):
    path = folder / f"{file_name(tool)}-fused.onnx"
    what = after(path)
    if what == "runs as it is":
        assert_runs(path, folder, tool)
    result = fuse(path, tmp_path / "mended.onnx")
    assert len(result.norms) + len(result.fused_before) == norms(tool)
    assert not inspect(tmp_path / "mended.onnx").faults
    assert_runs(tmp_path / "mended.onnx", folder, tool)
    assert row_of(tool)[1:3] == [said["version"], what]


def test_before_fuse(folder, tool, said, tmp_path):
    result = fuse(folder / f"{file_name(tool)}-original.onnx", tmp_path / "fused.onnx")
    assert_runs(tmp_path / "fused.onnx", folder, tool)
    assert row_of(tool)[1::2] == [said["version"], f"{len(result.norms)} of {norms(tool)}"]


def test_the_page_lists_no_other_tool():
    rows = [line.split("`")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `") and " of " in line]
    assert rows == list(TOOLS)
