"""The files of a model, there and back."""

from __future__ import annotations

import onnx
import pytest

from rms_deploy.deployment.files import files_of, read_file, write_files
from rms_deploy.errors import ModelFileError

from ..made_models import with_data, write


def test_a_model_travels_with_its_data(tmp_path):
    (tmp_path / "here").mkdir()
    path = with_data(tmp_path / "here" / "a.onnx")
    files = files_of(path)
    assert files == {"a.onnx": path, "w.bin": tmp_path / "here" / "w.bin"}
    write_files({f"0/{name}": read_file(file) for name, file in files.items()}, tmp_path / "there")
    assert (tmp_path / "there" / "0" / "w.bin").read_bytes() == (tmp_path / "here" / "w.bin").read_bytes()
    onnx.checker.check_model(tmp_path / "there" / "0" / "a.onnx")


def test_a_model_and_an_engine_of_one_file(tmp_path):
    (tmp_path / "a.engine").write_bytes(b"plan")
    assert list(files_of(write(tmp_path / "a.onnx"))) == ["a.onnx"]
    assert list(files_of(tmp_path / "a.engine")) == ["a.engine"]


def test_data_that_is_not_there(tmp_path):
    path = with_data(tmp_path / "a.onnx")
    (tmp_path / "w.bin").unlink()
    with pytest.raises(ModelFileError, match=r"w\.bin"):
        files_of(path)
    with pytest.raises(ModelFileError, match="no such file"):
        files_of(tmp_path / "none.onnx")
    with pytest.raises(ModelFileError, match="no such file"):
        files_of(tmp_path / "none.engine")
