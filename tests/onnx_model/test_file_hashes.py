"""SHA-256 of a model and of its weights."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import onnx
import onnx.numpy_helper

from rms_deploy.onnx_model.file import load_model
from rms_deploy.onnx_model.file_hashes import file_hash, model_hashes

from ..made_models import write


def test_hashes_of_a_model_and_its_weights(tmp_path):
    path = write(tmp_path / "a.onnx")
    assert file_hash(path) == sha256(path.read_bytes()).hexdigest()
    assert model_hashes(path, load_model(path)) == {"a.onnx": file_hash(path)}
    model = onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(512, np.float32), "w"))
    onnx.save(model, path, save_as_external_data=True, location="weights", size_threshold=0)
    hashes = {"a.onnx": file_hash(path), "weights": file_hash(tmp_path / "weights")}
    assert model_hashes(path, load_model(path)) == hashes
