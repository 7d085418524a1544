"""A model that nothing has changed is written byte for byte, unless its weights have to move."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import onnx.parser
import pytest

from rms_deploy.onnx_model.file import load_model, open_model, save_model
from rms_deploy.onnx_model.unchanged import write_unchanged

TEXT = '<ir_version: 8, opset_import: ["" : 18]> g (float[8] x) => (float[8] y) { y = Add (x, w) }'


@pytest.fixture
def path(tmp_path):
    """A file as no library of ours writes it: with a field that is there and empty."""
    model = onnx.parser.parse_model(TEXT)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.arange(8, dtype=np.float32), "w"))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString() + b"\x12\x00")  # producer_name
    return tmp_path / "model.onnx"


@pytest.fixture
def external(tmp_path):
    model = onnx.parser.parse_model(TEXT)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.arange(8, dtype=np.float32), "w"))
    onnx.save_model(model, tmp_path / "e.onnx", save_as_external_data=True, location="e.bin", size_threshold=0)
    return tmp_path / "e.onnx"


def test_byte_for_byte(path, tmp_path) -> None:
    save_model(load_model(path), tmp_path / "out.onnx", unchanged=path)
    assert (tmp_path / "out.onnx").read_bytes() == path.read_bytes()
    save_model(load_model(path), tmp_path / "other.onnx")
    assert (tmp_path / "other.onnx").read_bytes() != path.read_bytes(), "onnx-ir writes it otherwise"


def test_the_file_itself_is_not_written(path) -> None:
    before = path.stat()
    save_model(load_model(path), path, unchanged=path)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_ino == before.st_ino


def test_a_proto(path, tmp_path) -> None:
    proto = onnx.load(path)
    save_model(open_model(proto), tmp_path / "out.onnx", unchanged=proto)
    assert (tmp_path / "out.onnx").read_bytes() == proto.SerializeToString()


def test_data_that_lies_beside_the_output_stays_there(external, tmp_path) -> None:
    save_model(load_model(external), tmp_path / "out.onnx", unchanged=external)
    assert (tmp_path / "out.onnx").read_bytes() == external.read_bytes()
    assert not (tmp_path / "out.onnx.data").exists()


def test_data_that_lies_elsewhere_is_taken_along(external, tmp_path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    assert not write_unchanged(load_model(external), external, folder / "out.onnx", folder)
    save_model(load_model(external), folder / "out.onnx", unchanged=external)
    (tmp_path / "e.bin").unlink()
    assert load_model(folder / "out.onnx").graph.initializers["w"].const_value.numpy().tolist() == list(range(8))


def test_options_come_first(external, tmp_path) -> None:
    save_model(load_model(external), tmp_path / "out.onnx", unchanged=external, external=True)
    shutil.copy(tmp_path / "out.onnx", tmp_path / "copy.onnx")
    assert (tmp_path / "out.onnx.data").exists()
