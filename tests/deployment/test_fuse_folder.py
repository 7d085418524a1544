"""Every model of a folder, fused."""

from __future__ import annotations

import signal
import subprocess
import sys

import onnx
import pytest

from rms_deploy.deployment.fuse_folder import fuse_folder
from rms_deploy.errors import InputError, OutputError

NORM = "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (x, r) y = Mul (n, scale)"


@pytest.fixture
def zoo(tmp_path, build):
    """A norm, one with an epsilon that is an input, a file that is no model, and a model without norms in a folder."""
    folder = tmp_path / "zoo"
    (folder / "deep").mkdir(parents=True)
    onnx.save(build(NORM), folder / "b.onnx")
    onnx.save(build(NORM.replace("eps", "w"), inputs="float[b,s,8] x, float w"), folder / "miss.onnx")
    onnx.save(build("y = Exp (x)"), folder / "deep" / "plain.onnx")
    (folder / "a.onnx").write_bytes(b"no model")
    (folder / "readme.txt").write_text("no model either")
    return folder


def ops(path):
    return [node.op_type for node in onnx.load(path).graph.node]


def test_a_broken_model_does_not_stop_the_rest(zoo, tmp_path):
    seen = []
    result = fuse_folder(zoo, tmp_path / "out", jobs=2, on_progress=lambda *step: seen.append(step))
    assert [model.model for model in result.models] == ["a.onnx", "b.onnx", "deep/plain.onnx", "miss.onnx"]
    broken, norm, plain, miss = result.models
    assert result.failed == (broken,)
    assert broken.why == f"FAILED: {zoo / 'a.onnx'}: is not an ONNX model, or is truncated (8 bytes)"
    assert (norm.norm_count, norm.fused_count, norm.written, norm.why) == (1, 1, True, "")
    assert (plain.norm_count, plain.written) == (0, True)
    assert result.incomplete == (miss,)
    assert (miss.norm_count, miss.fused_count, miss.written, miss.why) == (1, 0, True, "epsilon is a graph input (w)")
    assert ops(tmp_path / "out" / "b.onnx") == ["RMSNorm"]
    assert ops(tmp_path / "out" / "deep" / "plain.onnx") == ["Exp"]
    assert not (tmp_path / "out" / "a.onnx").exists()
    assert [step[:2] for step in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert {step[2] for step in seen} == {model.model for model in result.models}


def test_options_of_fuse_reach_every_model(zoo, tmp_path):
    result = fuse_folder(zoo, tmp_path / "out", require_all=True, target="standard")
    assert not result.models[3].written
    assert not (tmp_path / "out" / "miss.onnx").exists()
    assert result.models[1].written  # opset 18 has no RMSNormalization: the norm stays our op, or the opset is raised


def test_in_place_and_again(zoo):
    fuse_folder(zoo, zoo)
    assert ops(zoo / "b.onnx") == ["RMSNorm"]
    again = fuse_folder(zoo, zoo)
    assert (again.models[1].fused_count, again.models[1].fused_before_count) == (0, 1)


def test_what_an_earlier_run_wrote_into_the_folder_is_no_model_of_it(zoo):
    first = fuse_folder(zoo, zoo / "out")
    second = fuse_folder(zoo, zoo / "out")
    assert [model.model for model in first.models] == [model.model for model in second.models]


def test_what_is_no_folder_of_models(tmp_path, zoo):
    (tmp_path / "empty").mkdir()
    for folder, message in (("none", "is no folder"), ("empty", "has no .onnx file")):
        with pytest.raises(InputError, match=f"{folder}: {message}"):
            fuse_folder(tmp_path / folder, tmp_path / "out")
    with pytest.raises(OutputError, match="is a file"):
        fuse_folder(zoo, zoo / "readme.txt")
    with pytest.raises(InputError, match="`jobs` is 0; use at least 1"):
        fuse_folder(zoo, tmp_path / "out", jobs=0)
    with pytest.raises(InputError, match="`jobs` is for this machine"):
        fuse_folder(zoo, tmp_path / "out", jobs=2, ray="local")
    with pytest.raises(InputError, match="target"):
        fuse_folder(zoo, tmp_path / "out", target="tvm")


def test_to_dict_counts(zoo, tmp_path):
    data = fuse_folder(zoo, tmp_path / "out").to_dict()
    assert (data["model_count"], data["failed_count"]) == (4, 1)
    assert data["models"][3]["near_misses"][0]["reason"] == "epsilon is a graph input (w)"


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_it(zoo, tmp_path):
    """The signal comes after the first model, so that no clock decides; what is written by then is whole."""
    script = (
        "import os, signal, sys\n"
        "from rms_deploy.deployment.fuse_folder import fuse_folder\n"
        "fuse_folder(*sys.argv[1:], jobs=1, on_progress=lambda *_: os.kill(os.getpid(), signal.SIGINT))\n"
    )
    command = [sys.executable, "-c", script, str(zoo), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in done.stderr
