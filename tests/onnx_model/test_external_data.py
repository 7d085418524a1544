"""Data beside the model is read from everywhere in it; data elsewhere from nowhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper as nh
import onnx_ir as ir
import pytest

from rms_deploy.errors import ModelFileError
from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.unfuse import unfuse
from rms_deploy.onnx_model.file import load_model, open_model, save_model
from rms_deploy.onnx_model.tensor_slots import tensor_slots

FLOAT = onnx.TensorProto.FLOAT
WEIGHTS = np.arange(1, 9, dtype=np.float32)
SECRET = b"0123456789abcdefghijklmnopqrstuv"  # as many bytes as WEIGHTS


def external(location: str = "weights.bin", **entries: object) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name="w", dims=[8], data_type=FLOAT, data_location=onnx.TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def graph(nodes: list[onnx.NodeProto], *weights: onnx.TensorProto, ends: str = "xy") -> onnx.GraphProto:
    values = [oh.make_tensor_value_info(name, FLOAT, [8]) for name in ends]
    return oh.make_graph(nodes, "g", values[:-1], values[-1:], weights)


def model_of(main: onnx.GraphProto, *functions: onnx.FunctionProto) -> onnx.ModelProto:
    imports = [oh.make_opsetid("", 18), oh.make_opsetid("l", 1)]
    return oh.make_model(main, functions=functions, opset_imports=imports, ir_version=10)


ADD = oh.make_node("Add", ["x", "w"], ["y"])


def in_initializer(tensor: onnx.TensorProto) -> onnx.ModelProto:
    return model_of(graph([ADD], tensor))


def in_attribute(tensor: onnx.TensorProto) -> onnx.ModelProto:
    return model_of(graph([oh.make_node("Constant", [], ["w"], value=tensor), ADD]))


def in_tensors(tensor: onnx.TensorProto) -> onnx.ModelProto:
    node = oh.make_node("Op", ["x"], ["y"], domain="l")
    node.attribute.add(name="weights", type=onnx.AttributeProto.TENSORS).tensors.append(tensor)
    return model_of(graph([node]))


def branches(body: onnx.GraphProto) -> list[onnx.NodeProto]:
    other = graph([oh.make_node("Neg", ["x"], ["y"])], ends="y")
    return [
        oh.make_node("Constant", [], ["c"], value=nh.from_array(np.array(True))),
        oh.make_node("If", ["c"], ["y"], then_branch=body, else_branch=other),
    ]


def in_branch(tensor: onnx.TensorProto) -> onnx.ModelProto:
    return model_of(graph(branches(graph([ADD], tensor, ends="y"))))


def function(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    body = oh.make_function("l", "F", ["x"], ["y"], nodes, [oh.make_opsetid("", 18)])
    return model_of(graph([oh.make_node("F", ["x"], ["y"], domain="l")]), body)


def in_function(tensor: onnx.TensorProto) -> onnx.ModelProto:
    return function([oh.make_node("Constant", [], ["w"], value=tensor), ADD])


def in_branch_of_function(tensor: onnx.TensorProto) -> onnx.ModelProto:
    return function(branches(graph([ADD], tensor, ends="y")))


def in_default_of_function(tensor: onnx.TensorProto) -> onnx.ModelProto:
    node = oh.make_node("Constant", [], ["w"])
    node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR, ref_attr_name="weights")
    model = function([node, ADD])
    model.functions[0].attribute_proto.add(name="weights", type=onnx.AttributeProto.TENSOR).t.CopyFrom(tensor)
    return model


def sparse(values: onnx.TensorProto) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=values, indices=nh.from_array(np.arange(8)), dims=[8])


def in_sparse_initializer(tensor: onnx.TensorProto) -> onnx.ModelProto:
    model = model_of(graph([ADD]))
    model.graph.sparse_initializer.append(sparse(tensor))
    return model


def in_sparse_attribute(tensor: onnx.TensorProto) -> onnx.ModelProto:
    return model_of(graph([oh.make_node("Constant", [], ["w"], sparse_value=sparse(tensor)), ADD]))


def in_training(tensor: onnx.TensorProto) -> onnx.ModelProto:
    model = model_of(graph([oh.make_node("Neg", ["x"], ["y"])]))
    model.training_info.add().algorithm.initializer.append(tensor)
    return model


Place = Callable[[onnx.TensorProto], onnx.ModelProto]
READ: list[Place] = [
    *(in_initializer, in_attribute, in_tensors, in_branch, in_function, in_branch_of_function),
    *(in_sparse_initializer, in_sparse_attribute),
]
PLACES = [*READ, in_default_of_function, in_training]


def written(folder: Path, model: onnx.ModelProto) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "weights.bin").write_bytes(WEIGHTS.tobytes())
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


def weights_of(path: Path) -> list[float]:
    """Read by another tool."""
    proto = onnx.load(path, load_external_data=False)
    tensors = [*proto.graph.initializer]
    nodes = [*proto.graph.node, *(node for f in proto.functions for node in f.node)]
    for node in nodes:  # grows
        for attribute in node.attribute:
            tensors += [attribute.t, *attribute.tensors, *attribute.g.initializer]
            nodes += attribute.g.node
    (found,) = [nh.to_array(t, str(path.parent)) for t in tensors if list(t.dims) == [8]]
    return found.tolist()


@pytest.mark.parametrize("place", READ)
@pytest.mark.parametrize("save_as_external", [False, True], ids=["", "external"])
def test_data_beside_the_model(tmp_path: Path, place: Place, save_as_external: bool) -> None:
    path = written(tmp_path / "in", place(external()))
    (tmp_path / "out").mkdir()
    fuse(path, tmp_path / "out" / "fused.onnx", save_as_external=save_as_external)
    unfuse(path, tmp_path / "out" / "unfused.onnx")
    (path.parent / "weights.bin").unlink()
    assert weights_of(tmp_path / "out" / "fused.onnx") == WEIGHTS.tolist()
    assert weights_of(tmp_path / "out" / "unfused.onnx") == WEIGHTS.tolist()


BAD: dict[str, tuple[str, dict[str, object]]] = {
    "absolute": ("{secret}", {}),
    "parent": ("../secret", {}),
    "parent inside": ("in/../../secret", {}),
    "link": ("link", {}),
    "link to a folder": ("folder/secret", {}),
    "pipe": ("pipe", {}),
    "folder": (".", {}),
    "nothing": ("", {}),
    "missing": ("none.bin", {}),
    "nul": ("weights.bin\0", {}),
    "long": ("w" * 300, {}),
    "long path": ("w/" * 3000, {}),
    "negative offset": ("weights.bin", {"offset": -4}),
    "no offset": ("weights.bin", {"offset": "four"}),
    "offset behind the end": ("weights.bin", {"offset": 4}),
    "large offset": ("weights.bin", {"offset": 2**62}),
    "short": ("weights.bin", {"length": 28}),
    "long length": ("weights.bin", {"length": 36}),
    "negative length": ("weights.bin", {"length": -32}),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("bad", BAD)
def test_data_elsewhere(tmp_path: Path, place: Place, bad: str) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    location, entries = BAD[bad]
    path = written(tmp_path / "in", place(external(location.format(secret=tmp_path / "secret"), **entries)))
    (path.parent / "link").symlink_to(tmp_path / "secret")
    (path.parent / "folder").symlink_to(tmp_path)
    os.mkfifo(path.parent / "pipe")
    with pytest.raises(ModelFileError) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("place", [place for place in READ if "sparse" not in place.__name__])
def test_a_model_read_by_onnx_ir(tmp_path: Path, place: Place) -> None:
    """Its reader sets no folder for what functions hold, and checks nothing where there is none."""
    (tmp_path / "secret").write_bytes(SECRET)
    path = written(tmp_path / "in", place(external(str(tmp_path / "secret"))))
    with pytest.raises(ModelFileError, match="is outside the model's folder"):
        open_model(ir.load(path))


@pytest.mark.parametrize("place", PLACES)
def test_a_proto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Place) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFileError, match="is outside the model's folder"):
        open_model(place(external("/etc/passwd")))


def test_the_data_of_a_proto_may_be_missing_until_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = open_model(in_initializer(external()))
    ((tensor, _),) = tensor_slots(model)
    with pytest.raises(ModelFileError, match="w cannot be read"):
        tensor.numpy()
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelFileError, match="w cannot be read"):
        save_model(model, tmp_path / "out" / "model.onnx")
    assert not list((tmp_path / "out").iterdir())


def test_the_cache_of_hugging_face(tmp_path: Path) -> None:
    """Model and data are links into one folder."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    written(blobs, in_initializer(external()))
    snapshot.mkdir(parents=True)
    for name in ("model.onnx", "weights.bin"):
        blobs.joinpath(name).rename(blobs / f"{name}-hash")
        snapshot.joinpath(name).symlink_to(f"../../blobs/{name}-hash")
    fuse(snapshot / "model.onnx", tmp_path / "fused.onnx")
    assert weights_of(tmp_path / "fused.onnx") == WEIGHTS.tolist()
    fuse(snapshot / "model.onnx", snapshot / "fused.onnx")  # a file of its own: other tools follow no link out of it
    assert (snapshot / "fused.onnx.data").is_file()
    assert weights_of(snapshot / "fused.onnx") == WEIGHTS.tolist()


def test_a_linked_model(tmp_path: Path) -> None:
    """Its data lies beside the file that the link leads to."""
    path = written(tmp_path / "in", in_initializer(external()))
    (tmp_path / "link.onnx").symlink_to(path)
    fuse(tmp_path / "link.onnx", tmp_path / "fused.onnx")
    assert weights_of(tmp_path / "fused.onnx") == WEIGHTS.tolist()


def test_a_hard_linked_data_file(tmp_path: Path) -> None:
    """As package managers make them."""
    path = written(tmp_path / "in", in_initializer(external()))
    (tmp_path / "other").hardlink_to(path.parent / "weights.bin")
    fuse(path, tmp_path / "fused.onnx", save_as_external=True)
    assert weights_of(tmp_path / "fused.onnx") == WEIGHTS.tolist()


def test_data_that_was_cut_off_later(tmp_path: Path) -> None:
    path = written(tmp_path / "in", in_initializer(external()))
    model = load_model(path)
    (path.parent / "weights.bin").write_bytes(b"1234")
    ((tensor, _),) = tensor_slots(model)
    with pytest.raises(ModelFileError, match="w cannot be read"):
        tensor.numpy()


def test_a_link_that_is_changed_later_is_not_followed(tmp_path: Path) -> None:
    path = written(tmp_path / "in", in_initializer(external("link")))
    (tmp_path / "secret").write_bytes(SECRET)
    (path.parent / "link").symlink_to("weights.bin")
    model = load_model(path)
    (path.parent / "link").unlink()
    (path.parent / "link").symlink_to(tmp_path / "secret")
    ((tensor, _),) = tensor_slots(model)
    np.testing.assert_array_equal(tensor.numpy(), WEIGHTS)
