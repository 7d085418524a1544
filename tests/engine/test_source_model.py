"""A model as a file, wherever it is."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from rms_deploy.engine.source_model import source_model
from rms_deploy.errors import ModelFileError
from rms_deploy.onnx_model.file import load_model


def weights(model):
    return {name: value.const_value.numpy() for name, value in model.graph.initializers.items()}


def test_a_file_is_itself(small):
    path = small()
    with source_model(str(path)) as source:
        assert (source.path, source.name) == (path, str(path))
        assert len(list(source.model.graph)) == 4


@pytest.mark.parametrize("kind", [onnx.load, load_model])
def test_a_model_in_memory_is_a_file_until_the_block_ends(kind, small):
    model = kind(small())
    with source_model(model) as source:
        assert source.name == "small"
        assert onnx.load(source.path).graph.name == "small"
    assert not source.path.parent.exists()


def test_external_data_goes_along(small, tmp_path):
    path = small()
    expected = weights(load_model(path))
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights", size_threshold=0)
    model = load_model(path)
    with source_model(model) as source:
        assert source.path.parent != tmp_path
        for name, array in weights(load_model(source.path)).items():
            np.testing.assert_array_equal(array, expected[name])
    assert weights(model).keys() == expected.keys(), "the model still has its own weights"


def test_more_than_a_message_holds(monkeypatch, small):
    """2 GiB are too much for a test: the limit is lower here, and the weights go to a file of their own."""
    monkeypatch.setattr("rms_deploy.onnx_model.file._INLINE_LIMIT", 1000)
    with source_model(load_model(small())) as source:
        assert (source.path.parent / "model.onnx.data").is_file()
        assert any(isinstance(v.const_value, ir.ExternalTensor) for v in source.model.graph.initializers.values())


def test_weights_that_are_not_there_are_named(small):
    path = small()
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights", size_threshold=0)
    proto = onnx.load(path, load_external_data=False)
    message = r"^small: the external data of scale is not at .*weights; give the path"
    with pytest.raises(ModelFileError, match=message), source_model(proto):
        pass


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ModelFileError, match="no such file"), source_model(tmp_path / "no.onnx"):
        pass
