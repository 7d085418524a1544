"""Training info, which onnx-ir does not read, stays with a model."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.errors import OutputError
from rms_deploy.onnx_model.file import open_model, save_model
from rms_deploy.onnx_model.unread_parts import from_proto, hand_on_parts, to_proto


@pytest.fixture
def proto() -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> g (float[8] x) => (float[8] y) <float[1] w = {2}> { y = Mul (x, w) }'
    )
    training = model.training_info.add()
    training.algorithm.name = "algorithm"
    training.update_binding.add(key="w", value="new_w")
    return model


def test_it_comes_back(proto: onnx.ModelProto, tmp_path) -> None:
    model = from_proto(proto, tmp_path)
    assert to_proto(model).training_info == proto.training_info
    assert not ir.to_proto(model).training_info
    other = model.clone()
    assert not to_proto(other).training_info
    hand_on_parts(model, other)
    assert to_proto(other).training_info == proto.training_info


def test_from_file_to_file_and_from_copies(proto: onnx.ModelProto, tmp_path) -> None:
    onnx.save(proto, tmp_path / "model.onnx")
    for given in (tmp_path / "model.onnx", proto, open_model(proto)):
        for external in (False, True):
            save_model(open_model(given), tmp_path / "out.onnx", external=external)
            assert onnx.load(tmp_path / "out.onnx").training_info == proto.training_info


def test_a_binding_to_what_is_gone_is_refused(proto: onnx.ModelProto, tmp_path) -> None:
    model = from_proto(proto, tmp_path)
    proto.training_info[0].update_binding[0].key = "changed"  # later, and not in what was kept
    model.graph.initializers["w"].name = "v"
    with pytest.raises(OutputError, match="sets w, which is no initialiser any more"):
        save_model(model, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_its_external_data_is_taken_along(proto: onnx.ModelProto, tmp_path) -> None:
    (tmp_path / "t.bin").write_bytes(np.float32([3]).tobytes())
    tensor = proto.training_info[0].algorithm.initializer.add(name="t", dims=[1], data_type=onnx.TensorProto.FLOAT)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="t.bin")
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    (tmp_path / "out").mkdir()
    save_model(open_model(tmp_path / "model.onnx"), tmp_path / "out" / "model.onnx")
    (written,) = onnx.load(tmp_path / "out" / "model.onnx").training_info[0].algorithm.initializer
    assert onnx.numpy_helper.to_array(written).tolist() == [3]
    assert proto.training_info[0].algorithm.initializer[0].external_data, "what was given stays"
