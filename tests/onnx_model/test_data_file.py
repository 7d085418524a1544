"""A process that is killed while it writes leaves the old model with its data, or the new one with its data."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper as nh
import onnx_ir as ir
import onnxruntime
import pytest

from rms_deploy.errors import OutputError
from rms_deploy.onnx_model.file import load_model, save_model

SIZE = 1024


def weights(value: float) -> np.ndarray:
    return np.full(SIZE, value, np.float32)


def model_of(value: float) -> ir.Model:
    ends = [oh.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [SIZE]) for name in "xy"]
    node = oh.make_node("Add", ["x", "w"], ["y"])
    graph = oh.make_graph([node], "g", ends[:1], ends[1:], [nh.from_array(weights(value), "w")])
    return ir.from_proto(oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=10))


def value_of(path: Path) -> float:
    """Of the weights, which have to be whole, as ONNX Runtime reads them."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (array,) = session.run(None, {"x": weights(0)})
    assert (array == array[0]).all()
    return float(array[0])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


WRITER = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_data_file import model_of, save_model

WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.chmod", "os.truncate", "os.listdir"}

def write(path, value, left, kind):
    def hook(event, arguments):
        nonlocal left
        if event in WRITES or (event == "open" and str(path.parent) in str(arguments[0])):
            left -= 1
            if left == -1:
                os.kill(os.getpid(), 9)

    model = model_of(value)
    sys.addaudithook(hook)
    save_model(model, path, external=kind == "external")
    left = -2
    os._exit(0)

print("ready", flush=True)
for line in sys.stdin:
    path, value, left, kind = line.split()
    child = os.fork() or write(Path(path), float(value), int(left), kind)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

Kill = Callable[..., bool]


@pytest.fixture(scope="module")
def kill() -> Iterator[Kill]:
    """A process that has imported all, and forks one that writes and is killed before its operation of that number.

    The result is False where it had no more operations on files, and so wrote to the end.
    """
    command = [sys.executable, "-c", WRITER, str(Path(__file__).parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        writes, reads = process.stdin, process.stdout

        def killed(path: Path, value: float, point: int, kind: str = "external") -> bool:
            writes.write(f"{path} {value} {point} {kind}\n")
            writes.flush()
            code = int(reads.readline())
            assert code in (0, -9)
            return code == -9

        yield killed
        writes.close()


@pytest.mark.parametrize("before", ["nothing", "inline", "external"])
@pytest.mark.parametrize("kind", ["inline", "external"])
def test_killed_at_every_point(tmp_path: Path, kill: Kill, before: str, kind: str) -> None:
    """And the next write finds all that the killed one left, and removes it."""
    for point in itertools.count():
        folder = tmp_path / str(point)
        folder.mkdir()
        path = folder / "model.onnx"
        if before != "nothing":
            save_model(model_of(1), path, external=before == "external")
        was_killed = kill(path, 2, point, kind)
        if path.exists() or before != "nothing":
            assert value_of(path) in ((1, 2) if was_killed else (2,))
            assert load_model(path)
        assert sum(name.startswith(".") for name in names(folder)) <= was_killed
        save_model(model_of(3), path, external=True)
        assert value_of(path) == 3
        assert names(folder) == ["model.onnx", "model.onnx.data"]
        assert not (folder / "model.onnx.data").is_symlink()
        if not was_killed:
            break
    assert point > 6  # 8 to 23: Python versions differ by one


def test_killed_again_and_again(tmp_path: Path, kill: Kill) -> None:
    """In one folder: what each of the killed writes left meets the next one."""
    path = tmp_path / "model.onnx"
    save_model(model_of(0), path, external=True)
    before = 0.0
    for number in range(1, 200):
        kill(path, number, number % 23, "external" if number % 5 else "inline")
        found = value_of(path)
        assert found in (before, number)
        before = found
    save_model(model_of(1000), path, external=True)
    assert names(tmp_path) == ["model.onnx", "model.onnx.data"]


def test_threads_write_one_model_at_once(tmp_path: Path) -> None:
    path, barrier, errors = tmp_path / "model.onnx", threading.Barrier(4), []

    def write(number: int) -> None:
        try:
            for _ in range(10):
                barrier.wait()
                save_model(model_of(number), path, external=True)
        except Exception as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert value_of(path) in range(4)
    assert names(tmp_path) == ["model.onnx", "model.onnx.data"]


@pytest.mark.parametrize("failing", range(5))
def test_a_move_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    """Of the first two, nothing changes; after that the new pair is there."""
    path = tmp_path / "model.onnx"
    save_model(model_of(1), path, external=True)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    model, moves, move = model_of(2), itertools.count(), Path.replace

    def fails(source: Path, target: Path) -> Path:
        if next(moves) == failing:
            raise OSError(28, "No space left on device")
        return move(source, target)

    monkeypatch.setattr(Path, "replace", fails)
    if failing < 2:
        with pytest.raises(OutputError, match="cannot be written: No space left on device"):
            save_model(model, path, external=True)
        assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before
    else:
        save_model(model, path, external=True)
        assert value_of(path) == 2
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), weights(2))
    monkeypatch.undo()
    save_model(model_of(3), path, external=True)
    assert value_of(path) == 3
    assert names(tmp_path) == ["model.onnx", "model.onnx.data"]


def test_a_disk_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    save_model(model_of(1), path, external=True)

    def fails(_link: Path, _target: str) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", fails)
    for value in (2, 3):
        save_model(model_of(value), path, external=True)
        assert value_of(path) == value
        assert len(names(tmp_path)) == 3


def test_a_model_stays_usable_when_its_data_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save_model(model_of(1), path, external=True)
    model = load_model(path)
    save_model(model, path, external=True)
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), weights(1))


def test_a_name_without_room_for_that_of_the_data(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 245)
    save_model(model_of(1), path)
    with pytest.raises(OutputError, match="too long for a data file beside it"):
        save_model(model_of(1), path, external=True)
    assert names(tmp_path) == [path.name]
