"""Reading names every fault; writing is whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper as nh
import onnx_ir as ir
import pytest

from rms_deploy.errors import ModelFileError, OutputError
from rms_deploy.onnx_model import file
from rms_deploy.onnx_model.file import load_model, save_model

WEIGHTS = np.arange(128, dtype=np.float32)


def write_model(folder: Path, *, external: bool = False, ir_version: int = 10) -> Path:
    x, y = (oh.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 128]) for name in "xy")
    graph = oh.make_graph([oh.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [nh.from_array(WEIGHTS, "w")])
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=ir_version)
    folder.mkdir(exist_ok=True)
    path = folder / "model.onnx"
    onnx.save(model, path, save_as_external_data=external, location="weights.bin", size_threshold=0)
    return path


def read_weights(path: Path) -> np.ndarray:
    """As any other tool reads them."""
    return nh.to_array(onnx.load(path).graph.initializer[0])


def test_round_trip(tmp_path: Path, check_written: Callable[[Path, Path], None]) -> None:
    path = write_model(tmp_path / "in")
    save_model(load_model(path), tmp_path / "out.onnx")
    check_written(tmp_path / "out.onnx", path)
    before, after = onnx.load(path), onnx.load(tmp_path / "out.onnx")
    assert after.graph.node == before.graph.node
    assert (after.graph.input, after.graph.output) == (before.graph.input, before.graph.output)
    np.testing.assert_array_equal(read_weights(tmp_path / "out.onnx"), WEIGHTS)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["out.onnx"]


def test_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path, external=True)
    monkeypatch.chdir(tmp_path)
    model = load_model("model.onnx")
    save_model(model, "out.onnx")
    np.testing.assert_array_equal(read_weights(tmp_path / "out.onnx"), WEIGHTS)


def test_data_in_the_same_folder_stays(tmp_path: Path) -> None:
    path = write_model(tmp_path, external=True)
    data = tmp_path / "weights.bin"
    before = data.stat().st_mtime_ns, data.stat().st_ino
    save_model(load_model(path), tmp_path / "out.onnx")
    assert (data.stat().st_mtime_ns, data.stat().st_ino) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "out.onnx", "weights.bin"]
    np.testing.assert_array_equal(read_weights(tmp_path / "out.onnx"), WEIGHTS)


def test_data_of_another_folder_is_copied(tmp_path: Path) -> None:
    path = write_model(tmp_path / "in", external=True)
    (tmp_path / "out").mkdir()
    save_model(load_model(path), tmp_path / "out" / "fused.onnx")
    (tmp_path / "in" / "weights.bin").unlink()
    np.testing.assert_array_equal(read_weights(tmp_path / "out" / "fused.onnx"), WEIGHTS)


def test_large_inline_weights_get_a_data_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(write_model(tmp_path / "in"))
    large = np.arange(1024, dtype=np.float32)
    model.graph.initializers["w"].const_value = ir.tensor(large, name="w")
    monkeypatch.setattr(file, "_INLINE_LIMIT", 1000)
    save_model(model, tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx.data").stat().st_size == large.nbytes
    np.testing.assert_array_equal(read_weights(tmp_path / "out.onnx"), large)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("external", [False, True], ids=["inline", "external"])
def test_all_weights_to_one_data_file(tmp_path: Path, external: bool) -> None:
    path = write_model(tmp_path / "in", external=external)
    model = load_model(path)
    large = np.arange(1024, dtype=np.float32)
    model.graph.initializers["w"].const_value = (
        model.graph.initializers["w"].const_value if external else ir.tensor(large)
    )
    save_model(model, path, external=True)
    written = onnx.load(path, load_external_data=False).graph.initializer[0]
    assert {entry.key: entry.value for entry in written.external_data}["location"] == "model.onnx.data"
    (path.parent / "weights.bin").unlink(missing_ok=True)
    assert names(path.parent) == ["model.onnx", "model.onnx.data"]
    np.testing.assert_array_equal(read_weights(path), WEIGHTS if external else large)


def test_a_replaced_data_file(tmp_path: Path) -> None:
    """What is read and what is written are one file, and the tensors lie elsewhere in it."""
    path = write_model(tmp_path)
    model = onnx.load(path)
    model.graph.initializer.insert(0, nh.from_array(-WEIGHTS, "unused"))
    onnx.save(model, path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    loaded = load_model(path)
    del loaded.graph.initializers["unused"]
    save_model(loaded, path, external=True)
    np.testing.assert_array_equal(read_weights(path), WEIGHTS)
    np.testing.assert_array_equal(loaded.graph.initializers["w"].const_value.numpy(), WEIGHTS)
    assert (tmp_path / "model.onnx.data").stat().st_size == WEIGHTS.nbytes


def test_external_tensors_of_attributes_come_along(tmp_path: Path) -> None:
    path = write_model(tmp_path / "in", external=True)
    model = onnx.load(path, load_external_data=False)
    (tensor,) = model.graph.initializer
    model.graph.node.insert(0, oh.make_node("Constant", [], ["w"], value=tensor))
    del model.graph.initializer[:]
    path.write_bytes(model.SerializeToString())
    (tmp_path / "out").mkdir()
    save_model(load_model(path), tmp_path / "out" / "model.onnx")
    assert names(tmp_path / "out") == ["model.onnx", "model.onnx.data"]
    written = onnx.load(tmp_path / "out" / "model.onnx").graph.node[0].attribute[0].t
    np.testing.assert_array_equal(nh.to_array(written), WEIGHTS)


def refusal(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.onnx") == f"{tmp_path / 'none.onnx'}: no such file"


def test_directory(tmp_path: Path) -> None:
    assert "is a directory; give an ONNX file" in refusal(tmp_path)


def test_truncated_file(tmp_path: Path) -> None:
    path = write_model(tmp_path)
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        assert "not an ONNX model" in refusal(path), size


@pytest.mark.parametrize("content", [b"", b"hello, this is text\n", b"\x00" * 64, bytes(range(256))])
def test_not_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert "not an ONNX model" in refusal(path)


def test_newer_ir(tmp_path: Path) -> None:
    message = refusal(write_model(tmp_path, ir_version=999))
    assert f"IR version 999 is newer than {onnx.IR_VERSION}" in message
    assert "upgrade onnx" in message


def test_missing_data(tmp_path: Path) -> None:
    path = write_model(tmp_path, external=True)
    (tmp_path / "weights.bin").unlink()
    assert "external data file weights.bin is missing" in refusal(path)


def test_truncated_data(tmp_path: Path) -> None:
    path = write_model(tmp_path, external=True)
    (tmp_path / "weights.bin").write_bytes(b"\0" * 100)
    assert "weights.bin is truncated: w ends at byte 512, the file at 100" in refusal(path)


@pytest.mark.parametrize("location", ["../weights.bin", "{absolute}", "weights.bin/../weights.bin"])
def test_data_outside_the_folder(tmp_path: Path, location: str) -> None:
    path = write_model(tmp_path / "in", external=True)
    model = onnx.load(path, load_external_data=False)
    (tmp_path / "weights.bin").write_bytes(WEIGHTS.tobytes())
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location.format(absolute=tmp_path / "weights.bin")
    path.write_bytes(model.SerializeToString())
    assert "is outside the model's folder" in refusal(path)


@pytest.mark.parametrize(
    ("target", "message"), [("", "is a directory"), ("none/out.onnx", "does not exist; create it first")]
)
def test_unwritable_target(tmp_path: Path, target: str, message: str) -> None:
    model = load_model(write_model(tmp_path / "in"))
    with pytest.raises(OutputError, match=message):
        save_model(model, tmp_path / target)


def test_permissions_and_links_stay(tmp_path: Path) -> None:
    model = load_model(write_model(tmp_path / "in"))
    target, link = tmp_path / "out.onnx", tmp_path / "link.onnx"
    target.touch(mode=0o600)
    link.symlink_to(target)
    save_model(model, link)
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o600
    assert onnx.load(target).graph.node


@pytest.mark.parametrize("limit", [0, 2**30], ids=["with data file", "inline"])
def test_permissions_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    path = write_model(tmp_path)
    path.chmod(0o640)
    monkeypatch.setattr(file, "_INLINE_LIMIT", limit)
    save_model(load_model(path), path)
    assert path.stat().st_mode & 0o777 == 0o640
    np.testing.assert_array_equal(read_weights(path), WEIGHTS)


def test_the_alias_of_the_default_domain(tmp_path: Path) -> None:
    """`ai.onnx` and the empty string name one domain."""
    path = write_model(tmp_path)
    proto = onnx.load(path)
    proto.opset_import[0].domain = "ai.onnx"
    onnx.save(proto, path)
    assert load_model(path).opset_imports == {"": 18}
